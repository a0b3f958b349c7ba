"""Write every output of a session as a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmduet.cli._transcript import OutputListener
from mmduet.events import Output, StreamEnded, output_to_dict
from mmduet.files import LineWriter

if TYPE_CHECKING:
    from mmduet.video.damage import Damage


@contextmanager
def open_json_lines(
    path: Path | None, get_damage: Callable[[], Damage], get_dropped: Callable[[], int | None] = lambda: None
) -> Iterator[OutputListener]:
    """Yield a listener that writes each output to ``path`` at once, or nowhere without a path.

    The event ``stream_ended`` also has the damage of the video and, unless it is None, the number of frames that were dropped.

    Raises:
        OptionError: ``path`` cannot be written.
    """
    if path is None:
        yield lambda output: None
        return
    with LineWriter(path) as file:

        def write(output: Output) -> None:
            source: dict[str, Any] = {}
            if isinstance(output, StreamEnded):
                dropped = get_dropped()
                source = {"damage": get_damage().to_dict(), **({} if dropped is None else {"dropped": dropped})}
            file.write(json.dumps(output_to_dict(output) | source, ensure_ascii=False))

        yield write
