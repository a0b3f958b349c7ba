"""Write every output of a session as a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmduet.cli._transcript import OutputListener
from mmduet.events import Output, output_to_dict
from mmduet.files import LineWriter


def to_json(output: Output) -> str:
    """Return one output as a JSON object on one line."""
    return json.dumps(output_to_dict(output), ensure_ascii=False)


@contextmanager
def open_json_lines(path: Path | None) -> Iterator[OutputListener]:
    """Yield a listener that writes each output to ``path`` at once, or nowhere without a path.

    Raises:
        OptionError: ``path`` cannot be written.
    """
    if path is None:
        yield lambda output: None
        return
    with LineWriter(path) as file:
        yield lambda output: file.write(to_json(output))
