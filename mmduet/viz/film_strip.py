"""Film strips: thumbnails at even intervals, kept while a video is processed, or read from its file as data URLs."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from mmduet.errors import MmduetError
from mmduet.viz.embedded_image import EmbeddedImage, to_data_url

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from mmduet.events import Frame
    from mmduet.video import VideoFile

SUFFIXES = ("", ".mp4", ".mkv", ".webm", ".mov", ".avi")
STRIP_WIDTH, IMAGE_HEIGHT = 1040, 96  # approximate size on the page, in pixels
MIN_IMAGES, MAX_IMAGES = 6, 12
MAX_SIDE, JPEG_QUALITY = 240, 75  # of a thumbnail; the side in pixels
MAX_VIDEO_SECONDS = 15 * 60.0  # decoding a longer video for a strip takes too long
READ_ERRORS = (MmduetError, OSError, ValueError)
LAST_FRAME_SECONDS = 1.0  # after its time, in which the last frame is also used


@dataclass(frozen=True)
class FilmStripImages:
    """Images in the order of time, None where there is no frame; ``remark`` explains missing images."""

    images: tuple[EmbeddedImage | None, ...] = ()
    remark: str = ""


class FilmStrip:
    """Thumbnails of frames at even intervals, at most ``MAX_FRAMES`` however long the video is."""

    MAX_FRAMES, MAX_SIDE = 64, 256  # the longer side in pixels

    def __init__(self) -> None:
        self.thumbnails: list[tuple[float, NDArray[np.uint8]]] = []  # with their times in seconds
        self._stride = 1
        self._frame_count = 0

    def add(self, frame: Frame) -> None:
        """Keep a thumbnail of every n-th frame; whenever there are too many, drop every second one and double n."""
        if self._frame_count % self._stride == 0:
            self.thumbnails.append((frame.time, make_thumbnail(frame.image, self.MAX_SIDE)))
        self._frame_count += 1
        if len(self.thumbnails) > self.MAX_FRAMES:
            self.thumbnails, self._stride = self.thumbnails[::2], self._stride * 2

    def nearest(self, time: float) -> NDArray[np.uint8]:
        """Return the thumbnail nearest to ``time``."""
        return min(self.thumbnails, key=lambda thumbnail: abs(thumbnail[0] - time))[1]

    @property
    def aspect(self) -> float:
        """Width divided by height."""
        height, width = self.thumbnails[0][1].shape[:2]
        return float(width / height)


def make_thumbnail(image: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """Return a copy of an RGB image whose longer side is at most ``max_side`` pixels."""
    import numpy as np
    from PIL import Image

    thumbnail = Image.fromarray(image)
    thumbnail.thumbnail((max_side, max_side))
    return np.array(thumbnail)


def slot_count(width: float, image_width: float, min_slots: int, max_slots: int) -> int:
    """Return how many images of ``image_width`` stand side by side in ``width``, within the bounds."""
    return min(max(round(width / image_width), min_slots), max_slots)


def draw_film_strip(axes: Axes, strip: FilmStrip, slots: int, slot_aspect: float, duration: float, gap: float) -> None:
    """Draw the strip over ``duration`` seconds: each slot shows the frame nearest to its middle, cropped to ``slot_aspect``.

    ``gap`` is the space between a slot's edge and its image, in seconds.
    """
    for slot in range(slots):
        start, end = slot * duration / slots, (slot + 1) * duration / slots
        image = crop_to_aspect(strip.nearest((start + end) / 2), slot_aspect)
        extent = (start + gap * (slot > 0), end - gap * (slot < slots - 1), 0.0, 1.0)
        axes.imshow(image, extent=extent, aspect="auto", interpolation="antialiased")
    axes.set_axis_off()
    axes.set_xlim(0, duration)
    axes.set_ylim(0, 1)


def crop_to_aspect(image: NDArray[np.uint8], aspect: float) -> NDArray[np.uint8]:
    """Return the centre of ``image`` with the given ratio of width to height."""
    height, width = image.shape[:2]
    new_width, new_height = min(width, max(round(height * aspect), 1)), min(height, max(round(width / aspect), 1))
    left, top = (width - new_width) // 2, (height - new_height) // 2
    return image[top : top + new_height, left : left + new_width]


class VideoFolder:
    """A folder of videos; each strip is made once. A video that cannot be read leaves a remark and never raises."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._strips: dict[tuple[Path, float], FilmStripImages] = {}

    def strip(self, names: Sequence[str], duration: float) -> FilmStripImages:
        """Return the film strip of the first existing video of ``names``, over ``duration`` seconds (0: all of it)."""
        path = self._find(names)
        if path is None:
            return FilmStripImages(remark=f"The video {', '.join(names[:1])} is not in the folder.")
        key = path, round(duration, 2)
        if key not in self._strips:
            self._strips[key] = _make_strip(path, duration)
        return self._strips[key]

    def duration(self, names: Sequence[str]) -> float:
        """Return the declared duration of that video in seconds; 0 if it is unknown or the video cannot be read."""
        from mmduet.video import VideoFile

        try:
            with VideoFile(self._find(names) or self._folder) as file:
                return file.info.duration or 0.0
        except READ_ERRORS:
            return 0.0

    def _find(self, names: Sequence[str]) -> Path | None:
        """Return the path of the first existing video. Names that lead out of the folder are ignored."""
        inside = [
            name for name in map(PurePath, names) if name.name and not name.is_absolute() and ".." not in name.parts
        ]
        files = (self._folder / name.with_name(name.name + suffix) for name in inside for suffix in SUFFIXES)
        return next(filter(_is_file, files), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # the name is too long, or contains a NUL
        return False


def _make_strip(path: Path, duration: float) -> FilmStripImages:
    """Return the images of a video that may be damaged."""
    from mmduet.video import VideoFile

    images: dict[int, EmbeddedImage] = {}
    slots = MIN_IMAGES
    try:
        with VideoFile(path) as file:
            length = duration or file.info.duration or 0.0
            if min(length, file.info.duration or length) > MAX_VIDEO_SECONDS:
                limit = f"{MAX_VIDEO_SECONDS / 60:g} minutes"
                return FilmStripImages(remark=f"{path.name} is longer than {limit}: no film strip is made.")
            aspect = file.info.width / max(file.info.height, 1)
            slots = slot_count(STRIP_WIDTH, IMAGE_HEIGHT * max(aspect, 0.1), MIN_IMAGES, MAX_IMAGES)
            for slot, time, pixels in _sample_frames(file, slots, length):
                images[slot] = _to_thumbnail(time, pixels)
            remark = f"{path.name} is damaged: {file.damage.describe()}." if file.damage else ""
    except READ_ERRORS as error:
        # The message names the complete path, which a shared page should not reveal.
        reason = getattr(error, "code", type(error).__name__)
        remark = f"{path.name} cannot be read{' to its end' * bool(images)} ({reason})."
        return FilmStripImages(_slot_images(images, slots), remark)
    return FilmStripImages(_slot_images(images, slots), remark)


def _slot_images(images: dict[int, EmbeddedImage], slots: int) -> tuple[EmbeddedImage | None, ...]:
    return tuple(images.get(slot) for slot in range(slots)) if images else ()


def _sample_frames(file: VideoFile, slots: int, length: float) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
    """Yield (slot, time, pixels) of the first frame from the middle of each slot on.

    The last frame is also used for slots up to ``LAST_FRAME_SECONDS`` after it.
    """
    slot, last = 0, None
    for frame in file.decode():
        last = frame
        while slot < slots and frame.time >= (slot + 0.5) * length / slots:
            yield slot, frame.time, frame.to_rgb()
            slot += 1
        if slot == slots:
            return
    while last is not None and slot < slots and last.time + LAST_FRAME_SECONDS >= (slot + 0.5) * length / slots:
        yield slot, last.time, last.to_rgb()
        slot += 1


def _to_thumbnail(time: float, pixels: NDArray[np.uint8]) -> EmbeddedImage:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(make_thumbnail(pixels, MAX_SIDE)).save(out, "JPEG", quality=JPEG_QUALITY)
    return EmbeddedImage(to_data_url(out.getvalue(), "image/jpeg"), f"Frame at {time:.1f} s")
