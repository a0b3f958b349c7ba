"""Decide whether frames look like the footage that a model was trained on, from their colours.

A domain describes rendered footage: objects of a few known colours on one muted background. Natural video, screen recordings
and drawings of other colours have many pixels that are neither. ``DomainCheck`` judges a stream frame by frame; it needs no
model, so it can also judge a video before it is processed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW = 8  # frames over which the share of unknown colours is judged
MAX_UNKNOWN = 0.12  # median share of pixels; rendered scenes stay below 0.07, even small ones with strong compression
MIN_OBJECT = 0.004  # share of pixels from which on an object is visible
MAX_OBJECTS = 0.4  # share of pixels; three big objects cover 0.31; a larger share is a background
MAX_EMPTY_SECONDS, MIN_EMPTY_FRAMES = 8.0, 4  # a rendered scene is empty for less than 5 seconds
# Share of the frames of a whole stream that show an object. Rendered scenes of 5 seconds and more have at least 0.42; shorter
# ones may be empty throughout.
MIN_OBJECT_FRAMES, MIN_SHARE_SECONDS = 0.25, 5.0
BAR_LEVEL, BAR_SHARE = 16, 0.1  # a line with fewer pixels above this level is part of a black bar
STEP = 2  # every second pixel of every second line is measured
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
MAX_COLOURS = 64
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class FrameColours:
    """Shares of a frame's pixels, from 0 to 1: those of ``objects``, and those that are neither object nor background."""

    objects: float
    unknown: float


@dataclass(frozen=True)
class VisualDomain:
    """Footage of objects in known colours on a muted background. All values are levels from 0 to 255.

    Attributes:
        description: What the footage shows, as part of a sentence.
        colours: RGB colours of the objects, and by how much a channel may differ from them.
        background_luma: Lowest and highest brightness of the background.
        background_chroma: Largest difference between the channels of the background.
        background_range: Largest difference of a channel of the background from its median.
    """

    description: str
    colours: tuple[Colour, ...]
    colour_tolerance: int = 36
    background_luma: tuple[int, int] = (18, 165)
    background_chroma: int = 75
    background_range: int = 44

    def measure(self, image: NDArray[np.uint8]) -> FrameColours:
        """Measure a frame, RGB ``uint8 [H, W, 3]`` of at least one pixel, without its black bars.

        The limits are set for frames whose longer side is about 64 pixels; larger ones take longer.
        """
        pixels = _without_bars(image)[::STEP, ::STEP].reshape(-1, 3)  # [N, 3]
        red, green, blue = self._near_colours
        others = pixels[(red[pixels[:, 0]] & green[pixels[:, 1]] & blue[pixels[:, 2]]) == 0]
        known = (len(pixels) - len(others)) / len(pixels)
        unknown = (len(others) - self._count_background(others)) / len(pixels)
        return FrameColours(known, unknown + max(known - MAX_OBJECTS, 0.0))

    @cached_property
    def _near_colours(self) -> NDArray[np.uint64]:
        """For each channel and level, a set of bits: which colours the level is near, ``[3, 256]``."""
        levels, colours = np.arange(256), np.array(self.colours).T[:, None]  # [3, 1, colours]
        is_near = np.abs(levels[:, None] - colours) <= self.colour_tolerance  # [3, 256, colours]
        bits = np.uint64(1) << np.arange(len(self.colours), dtype=np.uint64)
        return np.asarray((is_near * bits).sum(axis=2, dtype=np.uint64))

    def _count_background(self, pixels: NDArray[np.uint8]) -> int:
        if not len(pixels):
            return 0
        channels = np.ascontiguousarray(pixels.T, dtype=np.int16)  # [3, N]
        median_colour = np.median(channels, axis=1, keepdims=True)
        near = (np.abs(channels - median_colour) <= self.background_range).all(axis=0)
        luma, chroma = LUMA @ channels, channels.max(axis=0) - channels.min(axis=0)
        low, high = self.background_luma
        return int((near & (luma >= low) & (luma <= high) & (chroma <= self.background_chroma)).sum())

    def to_dict(self) -> dict[str, Any]:
        """Return the description as JSON values."""
        return {
            "description": self.description,
            "colours": [list(colour) for colour in self.colours],
            "colour_tolerance": self.colour_tolerance,
            "background_luma": list(self.background_luma),
            "background_chroma": self.background_chroma,
            "background_range": self.background_range,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VisualDomain:
        """Build a description from ``to_dict``'s values. Raises ``ValueError``, ``KeyError`` or ``TypeError`` for others."""
        low, high = (int(level) for level in values["background_luma"])
        colours = tuple((int(r), int(g), int(b)) for r, g, b in values["colours"])
        if not 0 < len(colours) <= MAX_COLOURS:
            raise ValueError(f"colours must name 1 to {MAX_COLOURS} colours")
        limits = {name: int(values[name]) for name in ("colour_tolerance", "background_chroma", "background_range")}
        return cls(str(values["description"]), colours, background_luma=(low, high), **limits)


class DomainCheck:
    """Judges one stream for a model: ``add`` its frames in order, and ask ``finish`` at its end.

    A stream is out of domain if most of the last 8 frames have too many unknown colours, if no object was visible for
    8 seconds, or if at its end, after 5 seconds or more, less than a quarter of its frames have shown an object.
    """

    def __init__(self, model: str, domain: VisualDomain) -> None:
        """``model`` is the name of the model that knows only this ``domain``."""
        self._model, self.domain = model, domain
        self._unknown: deque[float] = deque(maxlen=WINDOW)
        self._empty_since: float | None = None  # time of the first of the latest frames without an object
        self._empty_frames = 0
        self._frames = self._object_frames = 0
        self._first_time = self._last_time = 0.0
        self.is_out_of_domain = False

    @property
    def message(self) -> str:
        """The warning for users of the model."""
        return (
            f"{self._model} knows only {self.domain.description}, and this video looks different, so its scores and "
            'replies mean nothing; see "Bring your own weights" in README.md'
        )

    def add(self, frame: FrameColours, time: float) -> bool:
        """Add the frame at ``time`` in seconds; return whether the stream was found to be out of domain with this frame."""
        if self.is_out_of_domain:
            return False
        self._count(frame, time)
        full = len(self._unknown) == WINDOW
        self.is_out_of_domain = self._is_empty(frame, time) or (full and self._has_unknown_colours())
        return self.is_out_of_domain

    def finish(self) -> bool:
        """Judge a stream as a whole at its end; return whether it was found to be out of domain now."""
        if self.is_out_of_domain or not self._frames:
            return False
        self.is_out_of_domain = self._has_few_objects() or (self._frames < WINDOW and self._has_unknown_colours())
        return self.is_out_of_domain

    def _count(self, frame: FrameColours, time: float) -> None:
        self._first_time = self._first_time if self._frames else time
        self._last_time = time
        self._frames += 1
        self._object_frames += frame.objects >= MIN_OBJECT
        self._unknown.append(frame.unknown)

    def _has_few_objects(self) -> bool:
        """Return whether the stream is long enough to have shown objects, and has shown them in too few frames."""
        is_long = self._frames >= WINDOW and self._last_time - self._first_time >= MIN_SHARE_SECONDS
        return is_long and self._object_frames < MIN_OBJECT_FRAMES * self._frames

    def _has_unknown_colours(self) -> bool:
        return median(self._unknown) > MAX_UNKNOWN

    def _is_empty(self, frame: FrameColours, time: float) -> bool:
        """Return whether no object has been visible for too long."""
        if frame.objects >= MIN_OBJECT:
            self._empty_since, self._empty_frames = None, 0
            return False
        self._empty_since = time if self._empty_since is None else self._empty_since
        self._empty_frames += 1
        return self._empty_frames >= MIN_EMPTY_FRAMES and time - self._empty_since >= MAX_EMPTY_SECONDS


def _without_bars(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut black bars off all sides; return an image that is all black unchanged."""
    bright = np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2]) > BAR_LEVEL  # [H, W]
    rows = np.flatnonzero(bright.sum(axis=1) > BAR_SHARE * bright.shape[1])
    columns = np.flatnonzero(bright.sum(axis=0) > BAR_SHARE * bright.shape[0])
    if not len(rows) or not len(columns):
        return image
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
