"""Cut spans out of a video file, exactly by re-encoding or quickly by copying packets.

``cut_clips`` shows exactly what the source shows in each span: the frame visible when the span begins is shown from its start,
timestamps are kept (also variable rates), rotation is applied, audio is included. ``copy_clip`` does not encode, so it can only
start at a key frame, the last one at or before the span.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream
from numpy.typing import NDArray

from mmduet.errors import OptionError, VideoError, VideoWriteError
from mmduet.files import atomic_write
from mmduet.video import container as containers
from mmduet.video.audio import AudioReader, has_audio
from mmduet.video.video_file import DecodedFrame, VideoFile, orientation_of
from mmduet.video.writer import VideoWriter

Span = tuple[float, float]
AnyPacket: TypeAlias = "Packet[Stream]"
DEFAULT_CRF, PRESET = 18, "veryfast"
MAX_INTERLEAVE_SECONDS = Fraction(
    2
)  # seconds by which a packet may come in a file before others that are shown, or heard, earlier
MIN_VISIBLE_SECONDS = Fraction(1, 1000)  # seconds of a frame that are too few to be shown
DEFAULT_FPS = 25.0


@dataclass(frozen=True)
class ClipSpec:
    """A file to write: ``spans`` of the source in seconds, one after the other."""

    path: Path
    spans: tuple[Span, ...]

    def __post_init__(self) -> None:
        """Raise ``OptionError`` unless the spans are in order of time."""
        edges = [edge for span in self.spans for edge in span]
        rising = all(start < end for start, end in self.spans) and edges == sorted(edges)
        if not self.spans or not rising or edges[0] < 0 or not math.isfinite(edges[-1]):
            raise OptionError(
                f"{self.path}: spans {list(self.spans)} cannot be cut; expected one or more rising spans, from 0 up"
            )


def cut_clips(source: str | os.PathLike[str], clips: Sequence[ClipSpec], crf: int = DEFAULT_CRF) -> None:
    """Write every clip, in one pass over the source; each is whole or absent. ``crf`` is libx264's quality.

    Raises VideoError for a source that cannot be read to the end of the last span, OptionError for a span that lies after
    the source's end and VideoWriteError where a file cannot be written; clips that are finished by then stay.
    """
    with VideoFile(source) as file, ExitStack() as closing:
        cuts = [closing.enter_context(_Cut(clip, file, crf)) for clip in clips]
        for shown in _shown(file):
            for each in cuts:
                each.take(shown)
            if all(each.done for each in cuts):
                break
        for each in cuts:
            each.finish()


class _Shown:
    """A frame, and from when to when it is seen."""

    def __init__(self, frame: DecodedFrame, end: float) -> None:
        self.frame, self.start, self.end = frame, frame.time, end

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """RGB, made when first wanted."""
        return self.frame.to_rgb()


def _shown(file: VideoFile) -> Iterator[_Shown]:
    """Every frame until the next; the last one lasts as long as an average one."""
    before: DecodedFrame | None = None
    for frame in file.decode():
        if before is not None:
            yield _Shown(before, frame.time)
        before = frame
    if before is not None:
        yield _Shown(before, before.time + 1 / (file.info.fps or DEFAULT_FPS))


class _Cut:
    """One clip in the making; its file is begun when its first frame comes and closed after its last."""

    def __init__(self, clip: ClipSpec, file: VideoFile, quality: int) -> None:
        self._clip, self._file, self._quality = clip, file, quality
        self._spans = list(clip.spans)  # still to be cut, the first one maybe in part
        self._length = 0.0  # of the spans before it, seconds
        self._writer: VideoWriter | None = None
        self._sound: AudioReader | None = None
        self._begun = False  # whether some of the first span has been written

    @property
    def done(self) -> bool:
        return not self._spans

    def take(self, shown: _Shown) -> None:
        """Write what of the frame lies in the spans."""
        while self._spans and shown.end - self._spans[0][0] > MIN_VISIBLE_SECONDS:
            start, end = self._spans[0]
            begins, ends = max(shown.start, start), min(shown.end, end)
            if ends - begins > MIN_VISIBLE_SECONDS:
                self._write(shown, begins, ends)
            if shown.end < end - MIN_VISIBLE_SECONDS:
                return
            self._next_span()

    def _write(self, shown: _Shown, begins: float, ends: float) -> None:
        start, end = self._spans[0]
        self._writer = writer = self._writer or self._open(shown.frame)
        self._begun = True
        writer.write(shown.image, self._length + begins - start, ends - begins)
        if self._has_sound:
            self._sound = self._sound or AudioReader(self._file.path, self._origin, start, end)
            writer.write_audio(self._sound.read_until(ends))

    def _next_span(self) -> None:
        start, end = self._spans.pop(0)
        self._length += end - start
        self._begun = False
        if self._sound is not None:
            self._sound.close()
            self._sound = None
        if self.done:
            self.finish()

    def _open(self, frame: DecodedFrame) -> VideoWriter:
        info = self._file.info
        return VideoWriter(
            self._clip.path, info.width, info.height, info.fps or DEFAULT_FPS, self._quality, PRESET,
            aspect=_aspect(self._file.path, frame), audio=self._has_sound,
        )  # fmt: skip

    @cached_property
    def _has_sound(self) -> bool:
        return has_audio(self._file.path)

    @cached_property
    def _origin(self) -> Fraction:
        return first_timestamp(self._file)

    def finish(self) -> None:
        """Close the file; where the source ends within the last span, there. Raises OptionError for a span after its end."""
        missing = self._spans[self._begun :]
        if missing:
            raise OptionError(f"{self._clip.path}: {self._file.path} has ended before {missing[0][0]:.2f} s; cut less")
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> _Cut:
        return self

    def __exit__(self, *_: object) -> None:
        """After a failure nothing is left of a clip that is not finished."""
        if self._sound is not None:
            self._sound.close()
        if self._writer is not None:
            self._writer.abort()


def first_timestamp(file: VideoFile) -> Fraction:
    """The timestamp of the first picture, in seconds: where the file's own clock shows 0."""
    first = next(iter(file.decode())).av_frame
    return Fraction(0) if first.pts is None or first.time_base is None else first.pts * first.time_base


def _aspect(path: Path, frame: DecodedFrame) -> Fraction | None:
    """A pixel's width over its height, upright."""
    with containers.open_container(path) as container:
        stored = containers.select_video_stream(container, path).sample_aspect_ratio
    return 1 / stored if stored and orientation_of(frame.av_frame).transpose else stored


# without encoding


def copy_clip(source: str | os.PathLike[str], clip: ClipSpec) -> list[Span]:
    """Copy the packets of every span, from the last key frame at or before it; returns what was copied, in seconds.

    A span may end a few frames late, where frames that are shown later are needed to show its last ones. Spans between which
    no key frame lies are copied as one, with all that lies between them. Nothing is shown twice, but where groups of pictures
    are open those few late frames may come again at the beginning of the next span. Raises VideoError
    where the source cannot be read or has no timestamps, VideoWriteError where an MP4 cannot hold its codecs.
    """
    path = Path(source)
    with VideoFile(path) as file:
        zero = first_timestamp(file)
    with atomic_write(clip.path) as part, containers.open_container(path) as container:
        try:
            with av.open(f"file:{part}", "w", format="mp4", options={"movflags": "faststart"}) as target:
                tracks = [target.add_stream_from_template(stream) for stream in _streams(container, path)]
                return list(_copied(path, target, tracks, _joined(path, clip.spans, zero), zero))
        except (av.FFmpegError, ValueError) as error:
            raise VideoWriteError(
                f"{clip.path} cannot be copied from {path} ({containers.error_reason(error)}); cut it by re-encoding"
            ) from error


def _streams(container: InputContainer, path: Path) -> list[Stream]:
    """The pictures, and the sound if there is any."""
    return [containers.select_video_stream(container, path), *container.streams.audio[:1]]


def _joined(path: Path, spans: Sequence[Span], zero: Fraction) -> list[Span]:
    """Spans of which each has a key frame between its start and the end of the one before it."""
    with containers.open_container(path) as container:
        packets = container.demux(_streams(container, path)[:1])
        keys = [_time(packet) - zero for packet in packets if packet.size and packet.is_keyframe]
    joined = [spans[0]]
    for start, end in spans[1:]:
        if any(joined[-1][1] <= key <= start + MIN_VISIBLE_SECONDS for key in keys):
            joined.append((start, end))
        else:
            joined[-1] = joined[-1][0], end
    return joined


def _copied(
    path: Path, target: OutputContainer, tracks: Sequence[Stream], spans: Sequence[Span], zero: Fraction
) -> Iterator[Span]:
    """Copy span after span, each to where the one before it ended."""
    length = delay = Fraction(0)
    for start, end in spans:
        with containers.open_container(path) as container:
            pictures, sound = _packets(container, path, zero + Fraction(start), zero + Fraction(end))
            begin, over = _time(pictures[0]), max(_time(packet) + _lasts(packet) for packet in pictures)
            before, delay = delay, _decode_in_order(pictures) * pictures[0].time_base
            if length and delay > before:  # decoding times must rise from span to span, too
                length += delay - before
            placed = [(packet, tracks[0]) for packet in pictures] + [(packet, tracks[-1]) for packet in sound]
            for packet, track in sorted(placed, key=lambda each: _decoded(each[0])):
                by = round((length - begin) / packet.time_base)
                packet.pts, packet.dts = (packet.pts or 0) + by, (packet.dts or 0) + by
                packet.stream = track
                target.mux(packet)
        length += over - begin
        yield float(begin - zero), float(over - zero)


def _packets(
    container: InputContainer, path: Path, start: Fraction, end: Fraction
) -> tuple[list[AnyPacket], list[AnyPacket]]:
    """Pictures, from a key frame on, in order of decoding, and sound: what it takes to show and hear ``start`` to ``end``."""
    streams = _streams(container, path)
    pictures: list[AnyPacket] = []
    sound: list[AnyPacket] = []
    for packet in _read(container, path, streams, end + MAX_INTERLEAVE_SECONDS):
        if packet.stream.index != streams[0].index:
            sound.append(packet)
        elif packet.is_keyframe and _time(packet) <= start + MIN_VISIBLE_SECONDS:
            pictures, sound = [packet], [heard for heard in sound if _time(heard) >= _time(packet)]
        elif pictures and _time(packet) >= _time(pictures[0]):  # what is shown before may need what is not copied
            pictures.append(packet)
    if not pictures:
        raise VideoError(f"{path} has no key frame at or before {float(start):.2f} s; cut by re-encoding")
    while len(pictures) > 1 and _time(pictures[-1]) >= end - MIN_VISIBLE_SECONDS:
        pictures.pop()
    return pictures, [heard for heard in sound if _time(pictures[0]) <= _time(heard) < end]


def _read(container: InputContainer, path: Path, streams: list[Stream], last: Fraction) -> Iterator[AnyPacket]:
    """Packets as they lie in the file, until every stream has come to ``last``."""
    going = {stream.index for stream in streams}
    for packet in container.demux(streams):
        if packet.size and packet.pts is None:
            raise VideoError(f"{path} has no timestamps that could be copied; cut by re-encoding")
        if packet.size:
            yield packet
        if packet.size and _time(packet) >= last:
            going.discard(packet.stream.index)
        if not going:
            return


def _decode_in_order(pictures: Sequence[AnyPacket]) -> int:
    """Give each picture the time at which it is decoded (not every container tells): as late as may be, each after the last.

    Returns by how many ticks the first one is decoded before it is shown.
    """
    shown = [packet.pts or 0 for packet in pictures]
    delay = max(due - pts for due, pts in zip(sorted(shown), shown, strict=True))
    for packet, due in zip(pictures, sorted(shown), strict=True):
        packet.dts = due - delay
    return delay


def _time(packet: AnyPacket) -> Fraction:
    return (packet.pts or 0) * packet.time_base


def _decoded(packet: AnyPacket) -> Fraction:
    return ((packet.pts if packet.dts is None else packet.dts) or 0) * packet.time_base


def _lasts(packet: AnyPacket) -> Fraction:
    return (packet.duration or 0) * packet.time_base
