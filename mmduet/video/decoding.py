"""Decode a stream, skipping what is damaged and recording it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmduet.errors import CorruptVideoError
from mmduet.video.clock import PresentationClock
from mmduet.video.damage import DamageLog
from mmduet.video.demuxing import demux, error_reason
from mmduet.video.structure import CHUNK_HEADER, declares_end, is_broken_between
from mmduet.video.timeline import PacketTimeline, is_discontinuous

MAX_LOSS_SECONDS = 2  # of MPEG-TS packets that are not numbered consecutively; a longer gap is one between recordings
COUNTED_FORMATS = ("avi", "gif", "apng")  # a packet starts where the one before ends; what is lost leaves no gap
MAX_DELAY_FRAMES = 32  # by which a decoder outputs frames late, at most


@dataclass(frozen=True, eq=False)
class FrameTiming:
    """When a frame is displayed: ``time`` in seconds from the first one, and ``duration``. It need not have been decoded."""

    time: float
    duration: float


@dataclass(frozen=True, eq=False)
class TimedFrame(FrameTiming):
    """A good frame that was decoded."""

    av_frame: VideoFrame


@dataclass
class PacketCounter:
    """The number of packets that have been decoded."""

    decoded: int = 0


@dataclass(frozen=True, eq=False)
class ReadPacket:
    """A packet, the one before it whose position in the file is known, and the number of the timeline's sections so far."""

    packet: Packet[Stream]
    previous: Packet[Stream] | None = None
    sections: int = 1


class Decoder:
    """Decodes the video stream of an open container once, from where the container is.

    Damaged packets and frames are skipped. A loss is recorded in ``log`` before the next good frame is yielded. What is shown
    before the first key frame cannot be decoded and is not damage: MPEG-TS may start anywhere. In other formats the first
    packet is a key frame. With ``path``, gaps are also checked against the structure of the file.

    A ``live`` stream is read without delay: errors of the connection are raised, and a gap in its timestamps during which time
    has really passed is kept. Times count from ``start`` seconds. ``counter`` counts the packets that are decoded.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        log: DamageLog,
        *,
        path: Path | None = None,
        live: bool = False,
        start: float = 0.0,
        counter: PacketCounter | None = None,
    ) -> None:
        self._counter = counter or PacketCounter()
        self._path, self._live, self._start = path, live, start
        is_joined = is_discontinuous(container)  # by the timeline
        self.clock = PresentationClock(
            stream.time_base or Fraction(1, 1000), stream.average_rate, follows_jumps=not is_joined
        )
        self._container, self._stream, self._log = container, stream, log
        self._timeline = PacketTimeline(self.clock.time_base, stream.average_rate, live=live)
        self._index_keys = {entry.timestamp for entry in stream.index_entries if entry.is_keyframe}
        self._loss_frames = 0  # number of the next frames before which packets may be missing
        self._is_marked = False  # whether that is only because FFmpeg marks a packet as corrupt
        self._format = container.format.name
        self._index = _read_avi_index(stream) if self._format == "avi" else {}
        self._broken_at: float | None = (
            None  # seconds from the first frame at which the file's structure is first broken
        )
        self._packets_read = 0
        self._sections = 1  # of the timeline
        self.last_packet: Packet[Stream] | None = None  # whose position in the file is known
        self._has_key_frame = False
        self._first_key: int | None = None  # timestamp of the first key frame
        self._pending: set[int] = set()  # timestamps of packets from there whose frames have not come out
        self._keys: set[int] = set()  # those of them that are key frames
        self._waits_for_key = False  # because a key frame was lost, without which the next frames cannot be decoded
        self._errors = 0  # for which no skipped frames have been recorded
        self._frames_since_error = 0
        self._skipped_until = 0.0  # seconds from the first frame
        self._breaks_off = False  # within a packet, or because of errors
        self._ignored_until: int | None = None  # timestamp up to which frames have been yielded or passed already

    def frames(self) -> Iterator[TimedFrame]:
        """Yield the good frames in presentation order. Call ``finish`` after the last."""
        for read in self._live_packets() if self._live else self.packets():
            yield from self.decode(read)
        yield from self.drain()

    def decode(self, read: ReadPacket) -> Iterator[TimedFrame]:
        """Decode a packet and yield the good frames that come out."""
        if not self._live:
            self._check_gap(read)
        yield from self._good_frames(self._decode(read.packet))

    def drain(self) -> Iterator[TimedFrame]:
        """Yield the good frames that are still in the decoder."""
        for _ in range(MAX_DELAY_FRAMES):  # errors may repeat
            if (frames := self._flush()) is None:
                return
            yield from self._good_frames(frames)

    def decode_strictly(self, packets: Iterable[Packet[Stream]]) -> Iterator[VideoFrame]:
        """Decode packets on their own and yield all frames, untimed; raise what the decoder raises."""
        context = self._stream.codec_context
        for packet in packets:
            self._counter.decoded += 1
            yield from (frame for frame in packet.decode() if isinstance(frame, VideoFrame))
        with suppress(EOFError):
            yield from context.decode(None)
        context.flush_buffers()

    def pass_frame(self, packet: Packet[Stream]) -> FrameTiming:
        """Return the frame of a packet that is not decoded. Call it in presentation order."""
        time = self.clock.to_seconds(packet.pts, packet.duration)
        return FrameTiming(self._start + time, self.clock.last_duration)

    def time_frame(self, frame: VideoFrame) -> TimedFrame:
        """Return a good frame with its time. Call it in presentation order."""
        time = self.clock.to_seconds(self._stamp(frame), frame.duration)
        return TimedFrame(self._start + time, self.clock.last_duration, frame)

    def restart_after(self, stamp: int | None) -> None:
        """Discard what is in the decoder, and ignore frames up to this timestamp when packets are decoded again."""
        self._stream.codec_context.flush_buffers()
        if stamp is not None:
            self._has_key_frame, self._first_key = True, stamp + 1
            self._ignored_until = stamp

    def may_be_damaged(self, read: ReadPacket) -> bool:
        """Return whether the packet is marked as corrupt, or packets may be missing before it."""
        if read.packet.is_corrupt or (read.previous is not None and read.previous.is_corrupt):
            return True
        return self._path is not None and is_broken_between(self._container, self._path, read.previous, read.packet)

    @property
    def declares_end(self) -> bool:
        """Whether the format records its end; otherwise a last frame that cannot be decoded is incomplete."""
        return declares_end(self._container)

    @property
    def breaks_off(self) -> bool:
        """Whether the last packet that was read is incomplete, or reading has ended with an error."""
        return self._breaks_off

    def finish(self, truncated: bool) -> None:
        """Record whether the video breaks off after the last good frame, or else which frames are missing there."""
        end = self.clock.end_seconds
        if truncated or self._breaks_off:
            self._log.truncate(end)
            return
        if self._errors or (self._loss_frames and self._pending):
            missing = len(self._pending) or self._errors
            self._skip(missing, end, end + missing * self.clock.step_seconds)
        for stamp in sorted(self._index.values()):  # of packets that were not found
            start = self.clock.position(stamp)
            self._skip(1, start, start + self.clock.step_seconds)
        self._record_uncounted()

    def _record_uncounted(self) -> None:
        """Record frames that are missing in formats whose timestamps do not show it, if nothing else has shown it."""
        if self._broken_at is None or self._log.damage or self._format not in COUNTED_FORMATS:
            return
        missing = (
            self._stream.frames - self._packets_read if self._format == "avi" else 1
        )  # at least; the number is unknown
        if missing > 0:
            self._skip(missing, self._broken_at, self._broken_at)

    @property
    def fails_at_end(self) -> bool:
        """Whether there was an error after the last good frame."""
        return self._errors > 0

    def _live_packets(self) -> Iterator[ReadPacket]:
        packets = (packet for packet in self._container.demux([self._stream]) if packet.size)
        corrected = self._timeline.correct_all(packets) if is_discontinuous(self._container) else packets
        return (ReadPacket(packet) for packet in corrected)

    def packets(self) -> Iterator[ReadPacket]:
        """Yield the packets with continuous timestamps."""
        try:
            packets = demux(self._container, [self._stream])
            for packet in self._timeline.correct_all(packets) if is_discontinuous(self._container) else packets:
                if (stamp := self._index.pop(packet.pos or 0, None)) is not None:
                    # the demuxer of AVI only counts packets, also after damage
                    packet.pts, packet.dts = stamp if packet.pts == packet.dts else packet.pts, stamp
                if self._format == "avi" and _is_unlikely(packet.pts, packet.dts):
                    packet.pts = packet.dts
                self._packets_read += 1
                self._breaks_off = packet.is_corrupt
                read = ReadPacket(packet, self.last_packet, len(self._timeline.offsets))
                if packet.pos is not None:
                    self.last_packet = packet
                yield read
        except CorruptVideoError as error:
            self._breaks_off = True
            self._log.add_reason(str(error))

    def _check_gap(self, read: ReadPacket) -> None:
        """Note whether data is missing before a packet; the frames that are lost may be shown before or after it."""
        packet, previous, sections = read.packet, read.previous, read.sections
        if self._path is not None and is_broken_between(self._container, self._path, previous, packet):
            self._loss_frames, self._is_marked = MAX_DELAY_FRAMES, False
            self._broken_at = self.clock.end_seconds if self._broken_at is None else self._broken_at
            if previous is None and self._stamp(packet):  # these containers count from 0
                self._pending.add(0)
        elif sections > self._sections and self._is_marked:
            self._loss_frames = 0
        elif previous is not None and previous.is_corrupt and not self._loss_frames:
            # MPEG-TS: a gap in the packet numbers, which loses nothing if recordings are joined here or a few packets later
            self._loss_frames, self._is_marked = MAX_DELAY_FRAMES, True
        self._sections = sections

    def _stamp(self, item: Packet[Stream] | VideoFrame) -> int | None:
        """Return the presentation timestamp; AVI has none, but there the decode time is the same without reordering."""
        return item.dts if item.pts is None and not self._stream.codec_context.has_b_frames else item.pts

    def _decode(self, packet: Packet[Stream]) -> list[VideoFrame]:
        stamp = self._stamp(packet)
        is_key = packet.is_keyframe or stamp in self._index_keys or packet.dts in self._index_keys
        is_key = is_key or not (self._has_key_frame or is_discontinuous(self._container))
        if is_key and not self._has_key_frame:
            self._has_key_frame, self._first_key = True, stamp
        if stamp is not None and not packet.is_discard and self._is_decodable(stamp):
            self._pending.add(stamp)
            if is_key:
                self._keys.add(stamp)
        self._counter.decoded += 1
        try:
            return [frame for frame in packet.decode() if isinstance(frame, VideoFrame)]
        except Exception as error:  # noqa: BLE001 - whatever a decoder raises for a packet, the next one may be good
            self._count_error(stamp, error_reason(error))
            return []

    def _flush(self) -> list[VideoFrame] | None:
        """Return frames that are still in the decoder; None after the last."""
        try:
            return self._stream.codec_context.decode(None) or None
        except EOFError:
            return None
        except Exception as error:  # noqa: BLE001 - as above
            self._count_error(None, error_reason(error))
            return []

    def _good_frames(self, frames: Sequence[VideoFrame]) -> Iterator[TimedFrame]:
        for frame in frames:
            stamp = self._stamp(frame)
            if self._ignored_until is not None and stamp is not None and stamp <= self._ignored_until:
                continue
            if frame.is_corrupt:
                self._count_error(stamp, "the decoder marks a frame as corrupt")
                self._keys.discard(stamp or 0)  # a part of it was decoded, enough for the frames that depend on it
                continue
            self._record_lost(stamp)
            if stamp is not None and self._depends_on_lost_key(stamp):
                start = self.clock.position(stamp)
                self._skip(1, start, start + self.clock.step_seconds)
            else:
                yield self.time_frame(frame)

    def _depends_on_lost_key(self, pts: int) -> bool:
        """Return whether the key frame without which this frame cannot be decoded was lost."""
        if self._waits_for_key and pts not in self._keys:
            return True
        self._waits_for_key = False
        self._keys = {stamp for stamp in self._keys if stamp > pts}
        return False

    def _skip(self, count: int, start: float, end: float) -> None:
        self._log.add_frames(count, self._start + start, self._start + end)
        self._skipped_until = max(self._skipped_until, end)

    def _count_error(self, pts: int | None, reason: str) -> None:
        if self._is_decodable(pts):
            self._errors, self._frames_since_error = self._errors + 1, 0
            self._log.add_reason(reason)

    def _is_decodable(self, pts: int | None) -> bool:
        """Return whether a frame is not shown before the first key frame."""
        return self._has_key_frame and (pts is None or self._first_key is None or pts >= self._first_key)

    def _record_lost(self, pts: int | None) -> None:
        """After an error, record the frames that are missing before the good one at ``pts``."""
        lost = [] if pts is None else sorted(stamp for stamp in self._pending if stamp < pts)
        self._pending.difference_update(lost, () if pts is None else (pts,))
        self._frames_since_error += 1
        if pts is None and self._errors:
            self._skip(self._errors, self.clock.end_seconds, self.clock.end_seconds)
            self._errors = 0
        elif pts is not None and (self._errors or self._loss_frames):
            self._record_lost_before(pts, lost)
        self._loss_frames = max(self._loss_frames - 1, 0)
        if self._frames_since_error > MAX_DELAY_FRAMES:
            self._errors = 0  # the decoder has reported an error, but all frames came out

    def _record_lost_before(self, pts: int, lost: Sequence[int]) -> None:
        if lost:
            self.clock.start_at(lost[0])
        self._waits_for_key = self._waits_for_key or not self._keys.isdisjoint(lost)
        end, interval = self.clock.position(pts), self.clock.interval_seconds
        due = max(self.clock.next_seconds, self._skipped_until)
        start, count = (self.clock.position(lost[0]) if lost else end), len(lost)
        limit = MAX_LOSS_SECONDS if is_discontinuous(self._container) else math.inf
        is_gap = self._loss_frames and self.clock.has_started and end - due <= limit
        if is_gap and self._format not in COUNTED_FORMATS:
            start = min(due, start)
            count = max(count, round((end - start) / interval))
        if count:
            self._log.add_reason("data is missing")
            self._skip(count, start, end)
            self._errors = 0


def _is_unlikely(pts: int | None, dts: int | None) -> bool:
    """Return whether a presentation time, in frames, is one that FFmpeg invents after the loss of a key frame in AVI."""
    return pts is not None and dts is not None and abs(pts - dts) > MAX_DELAY_FRAMES


def _read_avi_index(stream: VideoStream) -> dict[int, int]:
    """Return the timestamps of an AVI stream's packets by their positions."""
    return {entry.pos + CHUNK_HEADER: entry.timestamp for entry in stream.index_entries}
