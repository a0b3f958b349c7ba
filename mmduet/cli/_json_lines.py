"""Write every output of a session as a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmduet.cli._transcript import OutputListener
from mmduet.events import Output, StreamEnded, output_to_dict
from mmduet.files import LineWriter

if TYPE_CHECKING:
    from mmduet.video.damage import Damage


@contextmanager
def open_json_lines(path: Path | None, get_damage: Callable[[], Damage]) -> Iterator[OutputListener]:
    """Yield a listener that writes each output to ``path`` at once, or nowhere without a path.

    The event ``stream_ended`` also has the damage of the video.

    Raises:
        OptionError: ``path`` cannot be written.
    """
    if path is None:
        yield lambda output: None
        return
    with LineWriter(path) as file:

        def write(output: Output) -> None:
            damage = {"damage": get_damage().to_dict()} if isinstance(output, StreamEnded) else {}
            file.write(json.dumps(output_to_dict(output) | damage, ensure_ascii=False))

        yield write
