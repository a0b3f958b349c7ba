"""Cut spans out of a video file, exactly by re-encoding or quickly by copying packets.

``cut_clips`` reproduces each span exactly: a clip starts with the frame that is visible when its span starts, keeps timestamps
(also variable rates), applies rotation, and includes audio. ``copy_clip`` does not encode, so it can only start at a key frame:
the last one at or before the span.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeAlias

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard, Stream
from numpy.typing import NDArray

from mmduet.errors import MmduetError, OptionError, VideoError, VideoWriteError
from mmduet.files import atomic_write, is_disk_error
from mmduet.spans import Span
from mmduet.video import container as containers
from mmduet.video.audio import AudioReader, has_audio, select_audio_stream
from mmduet.video.demuxing import demux, error_reason
from mmduet.video.letterbox import resize
from mmduet.video.timeline import Timeline, correct_packets
from mmduet.video.video_file import DecodedFrame, VideoFile
from mmduet.video.writer import VideoWriter

AnyPacket: TypeAlias = "Packet[Stream]"
DEFAULT_CRF, PRESET = 18, "veryfast"
MAX_INTERLEAVE_SECONDS = Fraction(2)  # by which a packet may precede packets with earlier timestamps in a file
MIN_VISIBLE_SECONDS = Fraction(1, 1000)  # a frame is not written for a shorter time
DEFAULT_FPS = 25.0


@dataclass(frozen=True)
class ClipSpec:
    """A file to write, made of ``spans`` of the source in seconds, in ascending order."""

    path: Path
    spans: tuple[Span, ...]

    def __post_init__(self) -> None:
        """Raise ``OptionError`` unless the spans are ascending and do not overlap."""
        edges = [edge for span in self.spans for edge in span]
        ascending = all(start < end for start, end in self.spans) and edges == sorted(edges)
        if not self.spans or not ascending or edges[0] < 0 or not math.isfinite(edges[-1]):
            spans = ", ".join(f"{start} to {end} s" for start, end in self.spans) or "none"
            raise OptionError(f"{self.path}: expected ascending spans of at least 0 s that do not overlap, got {spans}")


def cut_clips(
    source: str | os.PathLike[str],
    clips: Sequence[ClipSpec],
    crf: int = DEFAULT_CRF,
    on_time: Callable[[float], None] = lambda time: None,
) -> None:
    """Write every clip in one pass over the source; each file is complete or absent. ``crf`` is libx264's quality.

    ``on_time`` is called with the time of each frame that is read; what it raises ends the work.

    Raises VideoError for a source that cannot be read to the end of the last span, OptionError for a span after the source's
    end, and VideoWriteError if a file cannot be written. Clips that were finished before the error are kept.
    """
    with containers.as_video_error(Path(source)), VideoFile(source) as file, ExitStack() as stack:
        writers = [stack.enter_context(_ClipWriter(clip, file, crf)) for clip in clips]
        for frame in _visible_frames(file):
            on_time(frame.start)
            for writer in writers:
                writer.add(frame)
            if all(writer.done for writer in writers):
                break
        for writer in writers:
            writer.finish()


class _VisibleFrame:
    """A frame and the time range in which it is visible, in seconds."""

    def __init__(self, decoded: DecodedFrame, end: float) -> None:
        self.decoded, self.start, self.end = decoded, decoded.time, end

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """The RGB image, converted on first use and shared by all clips."""
        return self.decoded.to_rgb()


def _visible_frames(file: VideoFile) -> Iterator[_VisibleFrame]:
    """Yield every frame, visible until the next one; the last one has its own duration."""
    previous: DecodedFrame | None = None
    for frame in file.decode():
        if previous is not None:
            yield _VisibleFrame(previous, frame.time)
        previous = frame
    if previous is not None:
        yield _VisibleFrame(previous, previous.time + previous.duration)


class _ClipWriter:
    """Writes one clip. Its file is opened at its first frame and closed after its last."""

    def __init__(self, clip: ClipSpec, file: VideoFile, crf: int) -> None:
        self._clip, self._file, self._crf = clip, file, crf
        self._spans = list(clip.spans)  # not yet complete
        self._written_seconds = 0.0  # duration of the complete spans
        self._writer: VideoWriter | None = None
        self._audio: AudioReader | None = None
        self._span_started = False  # whether a part of the first of ``_spans`` has been written

    @property
    def done(self) -> bool:
        return not self._spans

    def add(self, frame: _VisibleFrame) -> None:
        """Write the frame for the time that it is visible in the spans."""
        while self._spans and frame.end - self._spans[0][0] > MIN_VISIBLE_SECONDS:
            span_start, span_end = self._spans[0]
            start, end = max(frame.start, span_start), min(frame.end, span_end)
            if end - start > MIN_VISIBLE_SECONDS:
                self._write(frame, start, end)
            if frame.end < span_end - MIN_VISIBLE_SECONDS:
                return
            self._next_span()

    def _write(self, frame: _VisibleFrame, start: float, end: float) -> None:
        span_start, span_end = self._spans[0]
        self._writer = writer = self._writer or self._open(frame.decoded)
        self._span_started = True
        image = resize(frame.image, self._file.info.height, self._file.info.width)  # sizes may change within a stream
        writer.write(image, self._written_seconds + start - span_start, end - start)
        if self._has_audio:
            self._audio = self._audio or AudioReader(self._file.path, self._file.timeline, span_start, span_end)
            writer.write_audio(self._audio.read_until(end))

    def _next_span(self) -> None:
        start, end = self._spans.pop(0)
        self._written_seconds += end - start
        self._span_started = False
        if self._audio is not None:
            self._audio.close()
            self._audio = None
        if self.done:
            self.finish()

    def _open(self, frame: DecodedFrame) -> VideoWriter:
        info = self._file.info
        return VideoWriter(
            self._clip.path, info.width, info.height, info.fps or DEFAULT_FPS, self._crf, PRESET,
            aspect=pixel_aspect(self._file.path, frame), audio=self._has_audio,
        )  # fmt: skip

    @cached_property
    def _has_audio(self) -> bool:
        return has_audio(self._file.path)

    def finish(self) -> None:
        """Close the file, even if the source ended within the last span. Raises OptionError for a span after its end."""
        missing = self._spans[self._span_started :]
        if missing:
            raise OptionError(
                f"{self._clip.path}: {self._file.path} has ended before {missing[0][0]:.2f} s; cut an earlier span"
            )
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> _ClipWriter:
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the file of a clip that is not finished."""
        if self._audio is not None:
            self._audio.close()
        if self._writer is not None:
            self._writer.abort()


def pixel_aspect(path: Path, frame: DecodedFrame) -> Fraction | None:
    """Return the width of an upright pixel divided by its height; None if the file does not declare it."""
    with containers.open_container(path) as container:
        stored = containers.select_video_stream(container, path).sample_aspect_ratio
    return 1 / stored if stored and frame.orientation.transpose else stored


# Copying without encoding


def copy_clip(source: str | os.PathLike[str], clip: ClipSpec) -> list[Span]:
    """Copy the packets of every span, from the last key frame at or before it, and return the copied spans.

    A copied span may end a few frames late, because later frames are needed to decode its last ones. Spans without a key frame
    between them are copied as one, including the part between them. No frame appears twice, except that with open groups of
    pictures those late frames may appear again at the beginning of the next span. Raises VideoError if the source cannot be
    read or has no timestamps, VideoWriteError if MP4 does not support its codecs.
    """
    path = Path(source)
    with VideoFile(path) as file:
        timeline = file.timeline
    with atomic_write(clip.path) as part, containers.open_container(path) as container:
        try:
            with av.open(f"file:{part}", "w", format="mp4", options={"movflags": "faststart"}) as target:
                tracks = [target.add_stream_from_template(stream) for stream in _select_streams(container, path)]
                spans = _merge_without_key_frame(path, clip.spans, timeline)
                return list(_copy_spans(path, target, tracks, spans, timeline))
        except MmduetError:
            raise
        except Exception as error:
            reason = error_reason(error)
            if is_disk_error(error):
                raise VideoWriteError(
                    f"{clip.path} cannot be written ({reason}); check that the disk is not full"
                ) from error
            raise VideoWriteError(
                f"{clip.path} cannot be copied from {path} ({reason}); cut it by re-encoding"
            ) from error


def _select_streams(container: InputContainer, path: Path) -> list[Stream]:
    """Return the video stream and, if there is one, the first audio stream that can be decoded."""
    video, audio = containers.select_video_stream(container, path), select_audio_stream(container)
    if audio is None:
        return [video]
    audio.discard = Discard.default
    return [video, audio]


def _packets(container: InputContainer, streams: Sequence[Stream], timeline: Timeline) -> Iterator[AnyPacket]:
    return correct_packets(container, demux(container, streams), timeline.offsets)


def _merge_without_key_frame(path: Path, spans: Sequence[Span], timeline: Timeline) -> list[Span]:
    """Merge a span with the previous one if no key frame lies between the end of that and its own start."""
    with containers.open_container(path) as container:
        packets = _packets(container, _select_streams(container, path)[:1], timeline)
        key_times = [_presentation_time(packet) - timeline.origin for packet in packets if packet.is_keyframe]
    merged = [Span(*spans[0])]
    for start, end in spans[1:]:
        if any(merged[-1].end <= time <= start + MIN_VISIBLE_SECONDS for time in key_times):
            merged.append(Span(start, end))
        else:
            merged[-1] = Span(merged[-1].start, end)
    return merged


def _copy_spans(
    path: Path, target: OutputContainer, tracks: Sequence[Stream], spans: Sequence[Span], timeline: Timeline
) -> Iterator[Span]:
    """Copy the spans one after another into ``tracks`` and yield the range that was copied of each."""
    origin = timeline.origin
    position = delay = Fraction(0)  # end of the copied part; by how much its frames are decoded before they are shown
    for span in spans:
        with containers.open_container(path) as container:
            start, end = origin + Fraction(span.start), origin + Fraction(span.end)
            packets = _select_packets(container, path, timeline, start, end)
            start = _presentation_time(packets.video[0])
            end = max(_presentation_time(packet) + _duration(packet) for packet in packets.video)
            previous_delay, delay = delay, _set_decode_times(packets.video) * packets.video[0].time_base
            if position and delay > previous_delay:  # decode times must also increase from span to span
                position += delay - previous_delay
            routed = [(packet, tracks[0]) for packet in packets.video] + [(p, tracks[-1]) for p in packets.audio]
            for packet, track in sorted(routed, key=lambda pair: _decode_time(pair[0])):
                shift = round((position - start) / packet.time_base)
                packet.pts, packet.dts = (packet.pts or 0) + shift, (packet.dts or 0) + shift
                packet.stream = track
                target.mux(packet)
        position += end - start
        yield Span(float(start - origin), float(end - origin))


class _Packets(NamedTuple):
    """Packets in decode order, as they lie in the file; those of the video begin with a key frame."""

    video: list[AnyPacket]
    audio: list[AnyPacket]


def _select_packets(
    container: InputContainer, path: Path, timeline: Timeline, start: Fraction, end: Fraction
) -> _Packets:
    """Return the packets that are needed to play ``start`` to ``end``."""
    streams = _select_streams(container, path)
    video: list[AnyPacket] = []
    audio: list[AnyPacket] = []
    for packet in _read_packets(_packets(container, streams, timeline), path, streams, end + MAX_INTERLEAVE_SECONDS):
        if packet.stream.index != streams[0].index:
            audio.append(packet)
        elif packet.is_keyframe and _presentation_time(packet) <= start + MIN_VISIBLE_SECONDS:
            video, audio = [packet], [p for p in audio if _presentation_time(p) >= _presentation_time(packet)]
        elif video and _presentation_time(packet) >= _presentation_time(video[0]):
            video.append(packet)  # frames shown before the key frame may depend on packets that are not copied
    if not video:
        raise VideoError(f"{path} has no key frame at or before {float(start):.2f} s; cut by re-encoding")
    while len(video) > 1 and _presentation_time(video[-1]) >= end - MIN_VISIBLE_SECONDS:
        video.pop()
    return _Packets(video, [p for p in audio if _presentation_time(video[0]) <= _presentation_time(p) < end])


def _read_packets(
    packets: Iterator[AnyPacket], path: Path, streams: list[Stream], end: Fraction
) -> Iterator[AnyPacket]:
    """Yield packets in the order of the file until every stream has reached ``end``."""
    unfinished = {stream.index for stream in streams}
    for packet in packets:
        if packet.pts is None:
            raise VideoError(f"{path} has no timestamps that could be copied; cut by re-encoding")
        yield packet
        if _presentation_time(packet) >= end:
            unfinished.discard(packet.stream.index)
        if not unfinished:
            return


def _set_decode_times(packets: Sequence[AnyPacket]) -> int:
    """Set each video packet's decode time, which not every container stores: increasing, and as late as possible.

    Return by how many ticks the first packet is decoded before it is shown.
    """
    times = [packet.pts or 0 for packet in packets]
    delay = max(latest - pts for latest, pts in zip(sorted(times), times, strict=True))
    for packet, latest in zip(packets, sorted(times), strict=True):
        packet.dts = latest - delay
    return delay


def _presentation_time(packet: AnyPacket) -> Fraction:
    return (packet.pts or 0) * packet.time_base


def _decode_time(packet: AnyPacket) -> Fraction:
    return ((packet.pts if packet.dts is None else packet.dts) or 0) * packet.time_base


def _duration(packet: AnyPacket) -> Fraction:
    return (packet.duration or 0) * packet.time_base
