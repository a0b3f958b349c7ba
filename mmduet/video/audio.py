"""Read a time range of a file's audio; times are in seconds from the first video frame."""

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
PREROLL_SECONDS = 0.25  # decoded before the range, because a decoder that starts in the middle needs time to warm up


def has_audio(path: Path) -> bool:
    """Return whether the file has an audio stream."""
    with containers.open_container(path) as container:
        return bool(container.streams.audio)


class AudioReader:
    """Reads the audio of ``path`` from ``start`` to ``end``, in seconds from the first frame, whose timestamp is ``origin``.

    Parts without audio are silent. Raises CorruptVideoError for damaged audio.
    """

    def __init__(self, path: Path, origin: Fraction, start: float, end: float) -> None:
        self._position, self._end = round(start * AUDIO_RATE), round(end * AUDIO_RATE)
        self._chunks = _decode_chunks(path, origin, start)
        self._chunk: tuple[int, Samples] | None = next(self._chunks, None)

    def read_until(self, time: float) -> Samples:
        """Return the samples from the end of the last call up to ``time`` seconds: float32 ``[2, N]`` at ``AUDIO_RATE``."""
        begin, stop = self._position, max(min(round(time * AUDIO_RATE), self._end), self._position)
        output = np.zeros((2, stop - begin), np.float32)
        while self._chunk is not None and self._chunk[0] < stop:
            offset, samples = self._chunk
            first, last = max(offset, begin), min(offset + samples.shape[1], stop)
            if first < last:
                output[:, first - begin : last - begin] = samples[:, first - offset : last - offset]
            if offset + samples.shape[1] > stop:
                break
            self._chunk = next(self._chunks, None)
        self._position = stop
        return output

    def close(self) -> None:
        """Close the file."""
        self._chunks.close()


def _decode_chunks(path: Path, origin: Fraction, start: float) -> Generator[tuple[int, Samples]]:
    """Yield chunks of samples, each with the position of its first sample, from shortly before ``start``."""
    with containers.open_container(path) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("fltp", AUDIO_LAYOUT, AUDIO_RATE)
        _seek(container, stream, float(origin) + start - PREROLL_SECONDS)
        try:
            for frame in container.decode(stream):
                for chunk in resampler.resample(frame):
                    if chunk.pts is not None and chunk.time_base is not None:
                        offset = round((chunk.pts * chunk.time_base - origin) * AUDIO_RATE)
                        yield offset, chunk.to_ndarray().astype(np.float32, copy=False)
        except (av.FFmpegError, ValueError) as error:
            raise CorruptVideoError(
                f"the audio of {path} is damaged ({containers.error_reason(error)}); copy or encode the file again"
            ) from error


def _seek(container: av.container.InputContainer, stream: AudioStream, time: float) -> None:
    """Seek to the last packet at or before ``time``; a file that is not seekable is read from its beginning."""
    if time > 0 and stream.time_base:
        with contextlib.suppress(av.FFmpegError):
            container.seek(int(time / stream.time_base), stream=stream)
