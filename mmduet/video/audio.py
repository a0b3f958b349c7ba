"""Read a time range of a file's audio; times are in seconds from the first video frame."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from mmduet.errors import CorruptVideoError
from mmduet.video import container as containers
from mmduet.video.container import has_decoder
from mmduet.video.demuxing import demux
from mmduet.video.timeline import Timeline, correct_packets
from mmduet.video.writer import AUDIO_LAYOUT, AUDIO_RATE

Samples = NDArray[np.float32]
PREROLL_SECONDS = 0.25  # decoded before the range, because a decoder that starts in the middle needs time to warm up


def select_audio_stream(container: InputContainer) -> AudioStream | None:
    """Return the first sound track that can be decoded; None if there is none."""
    return next((stream for stream in container.streams.audio if has_decoder(stream)), None)


def has_audio(path: Path) -> bool:
    """Return whether the file has a sound track that can be decoded."""
    with containers.open_container(path) as container:
        return select_audio_stream(container) is not None


def describe_unreadable_audio(path: Path) -> str | None:
    """Return a remark if there are sound tracks without a decoder before the first one that can be used; else None."""
    with containers.open_container(path) as container:
        tracks, selected = container.streams.audio, select_audio_stream(container)
        skipped = len(tracks) if selected is None else tracks.index(selected)
    if not skipped:
        return None
    used = "clips have no sound" if selected is None else f"sound track {skipped + 1} is used instead"
    which = "sound track 1" if skipped == 1 else f"sound tracks 1 to {skipped}"
    return f"{path}: no decoder for {which}; {used}"


class AudioReader:
    """Reads the audio of ``path`` from ``start`` to ``end``, in seconds from the first frame, which ``timeline`` locates.

    Parts without audio, and damaged ones, are silent.
    """

    def __init__(self, path: Path, timeline: Timeline, start: float, end: float) -> None:
        self._position, self._end = round(start * AUDIO_RATE), round(end * AUDIO_RATE)
        self._chunks = _decode_chunks(path, timeline, start)
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


def _decode_chunks(path: Path, timeline: Timeline, start: float) -> Generator[tuple[int, Samples]]:
    """Yield chunks of samples, each with the position of its first sample, from shortly before ``start``."""
    with containers.open_container(path) as container:
        stream = select_audio_stream(container)
        if stream is None:
            return
        resampler = av.AudioResampler("fltp", AUDIO_LAYOUT, AUDIO_RATE)
        if len(timeline.offsets) <= 1:  # else a timestamp is found in several places
            _seek(container, stream, float(timeline.origin) + start - PREROLL_SECONDS)
        for frame in _decode(container, stream, timeline):
            for chunk in resampler.resample(frame):
                if chunk.pts is not None and chunk.time_base is not None:
                    offset = round((chunk.pts * chunk.time_base - timeline.origin) * AUDIO_RATE)
                    yield offset, chunk.to_ndarray().astype(np.float32, copy=False)


def _decode(container: InputContainer, stream: AudioStream, timeline: Timeline) -> Iterator[AudioFrame]:
    """Yield the frames that can be decoded."""
    with contextlib.suppress(CorruptVideoError):  # the rest cannot be read
        for packet in correct_packets(container, demux(container, [stream]), timeline.offsets):
            with contextlib.suppress(Exception):  # whatever a decoder raises for a packet, the next one may be good
                yield from (frame for frame in packet.decode() if isinstance(frame, AudioFrame))
    with contextlib.suppress(Exception):
        yield from stream.codec_context.decode(None)


def _seek(container: InputContainer, stream: AudioStream, time: float) -> None:
    """Seek to the last packet at or before ``time``; a file that is not seekable is read from its beginning."""
    if time > 0 and stream.time_base:
        with contextlib.suppress(av.FFmpegError):
            container.seek(int(time / stream.time_base), stream=stream)
