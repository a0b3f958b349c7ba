"""Read a range of a file's audio by time; seconds count from the first video frame."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from mmduet.errors import CorruptVideoError
from mmduet.video import container as containers
from mmduet.video.writer import AUDIO_LAYOUT, AUDIO_RATE

Samples = NDArray[np.float32]
LEAD = 0.25  # seconds read ahead of the stretch: a decoder that starts in the middle has to warm up


def has_audio(path: Path) -> bool:
    """Return whether the file has an audio stream."""
    with containers.open_container(path) as container:
        return bool(container.streams.audio)


class AudioReader:
    """The sound of ``path`` from ``start`` to ``end``, seconds from its first picture, whose own timestamp is ``origin``.

    Where the file has none there is silence. Damage in it raises CorruptVideoError.
    """

    def __init__(self, path: Path, origin: Fraction, start: float, end: float) -> None:
        self._at, self._end = round(start * AUDIO_RATE), round(end * AUDIO_RATE)
        self._pieces = _pieces(path, origin, start)
        self._piece: tuple[int, Samples] | None = next(self._pieces, None)

    def read_until(self, time: float) -> Samples:
        """Return the samples from where the last call ended up to ``time`` seconds: float32 ``[2, N]`` at ``SOUND_RATE``."""
        stop = max(min(round(time * AUDIO_RATE), self._end), self._at)
        heard = np.zeros((2, stop - self._at), np.float32)
        while self._piece is not None and self._piece[0] < stop:
            place, samples = self._piece
            first, last = max(place, self._at), min(place + samples.shape[1], stop)
            if first < last:
                heard[:, first - self._at : last - self._at] = samples[:, first - place : last - place]
            if place + samples.shape[1] > stop:
                break
            self._piece = next(self._pieces, None)
        self._at = stop
        return heard

    def close(self) -> None:
        """Close the file."""
        self._pieces.close()


def _pieces(path: Path, origin: Fraction, start: float) -> Generator[tuple[int, Samples]]:
    """Runs of samples and the place of the first in each, from a little before ``start`` on."""
    with containers.open_container(path) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("fltp", AUDIO_LAYOUT, AUDIO_RATE)
        _seek(container, stream, float(origin) + start - LEAD)
        try:
            for frame in container.decode(stream):
                for piece in resampler.resample(frame):
                    if piece.pts is not None and piece.time_base is not None:
                        place = round((piece.pts * piece.time_base - origin) * AUDIO_RATE)
                        yield place, piece.to_ndarray().astype(np.float32, copy=False)
        except (av.FFmpegError, ValueError) as error:
            raise CorruptVideoError(
                f"the sound of {path} is damaged ({containers.error_reason(error)}); copy or encode the file again"
            ) from error


def _seek(container: av.container.InputContainer, stream: AudioStream, time: float) -> None:
    """To the last packet at or before ``time``; where a file cannot be sought in it is read from its beginning."""
    if time > 0 and stream.time_base:
        with contextlib.suppress(av.FFmpegError):
            container.seek(int(time / stream.time_base), stream=stream)
