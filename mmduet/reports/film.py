"""Film strips: small pictures spread evenly over a video, as data URLs; a video that cannot be shown never stops a page."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from mmduet.errors import MmduetError
from mmduet.reports.drawing import Picture, data_url

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmduet.video import VideoFile

ENDINGS = ("", ".mp4", ".mkv", ".webm", ".mov", ".avi")
ACROSS, HEIGHT = 1040, 96  # pixels: of the page, and of a picture about
FEWEST, MOST = 6, 12
SIDE, QUALITY = 240, 75  # of a picture's longer side in pixels; of JPEG
MOST_SECONDS = 15 * 60.0  # a longer video takes too long to decode for a strip
UNREADABLE = (MmduetError, OSError, ValueError)
LATE = 1.0  # seconds: how long after the last frame it may stand for what follows


@dataclass(frozen=True)
class Strip:
    """Pictures in the order of time, None where there is no frame; ``remark`` says what is missing and why."""

    pictures: tuple[Picture | None, ...] = ()
    remark: str = ""


class Films:
    """The videos of a folder; each is decoded once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._strips: dict[tuple[Path, float], Strip] = {}

    def strip(self, names: Sequence[str], span: float) -> Strip:
        """Of the first video that is there under one of ``names``, over ``span`` seconds; 0: as long as it is."""
        path = self._find(names)
        if path is None:
            return Strip(remark=f"The video {', '.join(names[:1])} is not in the folder.")
        key = path, round(span, 2)
        if key not in self._strips:
            self._strips[key] = _strip(path, span)
        return self._strips[key]

    def length(self, names: Sequence[str]) -> float:
        """Seconds of the same video, 0 where it does not tell them or cannot be read."""
        from mmduet.video import VideoFile

        try:
            with VideoFile(self._find(names) or self._folder) as file:
                return file.info.duration or 0.0
        except UNREADABLE:
            return 0.0

    def _find(self, names: Sequence[str]) -> Path | None:
        """A name does not lead out of the folder: a page must not show what nobody meant to show."""
        inside = [
            name for name in map(PurePath, names) if name.name and not name.is_absolute() and ".." not in name.parts
        ]
        files = (self._folder / name.with_name(name.name + ending) for name in inside for ending in ENDINGS)
        return next(filter(_is_file, files), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def _strip(path: Path, span: float) -> Strip:
    """What can be shown of a video that may be damaged."""
    from mmduet.video import VideoFile

    pictures: dict[int, Picture] = {}
    slots = FEWEST
    try:
        with VideoFile(path) as file:
            length = span or file.info.duration or 0.0
            if min(length, file.info.duration or length) > MOST_SECONDS:
                return Strip(remark=f"{path.name} is longer than {MOST_SECONDS / 60:g} minutes: no film strip is made.")
            slots = _slots(file.info.width / max(file.info.height, 1))
            for slot, time, image in _spread(file, slots, length):
                pictures[slot] = _picture(time, image)
    except UNREADABLE as error:
        why = getattr(error, "code", type(error).__name__)  # messages name the whole path, which is nobody's business
        return Strip(_in_order(pictures, slots), f"{path.name} cannot be read{' to its end' * bool(pictures)} ({why}).")
    return Strip(_in_order(pictures, slots))


def _in_order(pictures: dict[int, Picture], slots: int) -> tuple[Picture | None, ...]:
    return tuple(pictures.get(slot) for slot in range(slots)) if pictures else ()


def _slots(aspect: float) -> int:
    """How many pictures stand side by side: fewer of wide ones."""
    return min(max(round(ACROSS / (HEIGHT * max(aspect, 0.1))), FEWEST), MOST)


def _spread(file: VideoFile, slots: int, length: float) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
    """For the middle of each slot of ``length`` seconds the first frame from then on; the last one a little longer."""
    slot, last = 0, None
    for frame in file.decoded():
        last = frame
        while slot < slots and frame.time >= (slot + 0.5) * length / slots:
            yield slot, frame.time, frame.to_rgb()
            slot += 1
        if slot == slots:
            return
    while last is not None and slot < slots and last.time + LATE >= (slot + 0.5) * length / slots:
        yield slot, last.time, last.to_rgb()
        slot += 1


def _picture(time: float, image: NDArray[np.uint8]) -> Picture:
    from PIL import Image

    small, out = Image.fromarray(image), io.BytesIO()
    small.thumbnail((SIDE, SIDE))
    small.save(out, "JPEG", quality=QUALITY)
    return Picture(data_url(out.getvalue(), "image/jpeg"), f"Frame at {time:.1f} s")
