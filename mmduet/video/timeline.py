"""Join the timestamps of MPEG-TS and HLS recordings that restart or jump into one continuous timeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from mmduet.video.clock import FALLBACK_RATE
from mmduet.video.demuxing import demux

FORMATS = frozenset({"mpegts", "hls"})
MAX_GAP_SECONDS = 10  # of a stream; a longer one is a discontinuity, as in FFmpeg
MAX_HELD_PACKETS = 64
REORDER_SECONDS = 1  # by which presentation times may run backwards in decode order


@dataclass(frozen=True)
class Timeline:
    """Where the times of a file start, and how its timestamps are joined.

    Attributes:
        origin: Timestamp of the first frame in seconds, which is at time 0.
        offsets: By how many seconds the timestamps of each section are shifted.
        end: Shifted timestamp of the end of the last frame in seconds; None if it was not determined.
    """

    origin: Fraction = Fraction(0)
    offsets: tuple[Fraction, ...] = ()
    end: Fraction | None = None


class PacketTimeline:
    """Shifts the timestamps of one stream's packets, in decode order, so that they continue after a discontinuity.

    A discontinuity is a step backwards, or forwards by more than ``MAX_GAP_SECONDS``. The first packet after it follows the one
    before it by that one's duration. ``offsets`` has the shift of each section in seconds. Given the offsets of the video,
    another stream of the same file takes these instead of its own, so that both stay in step. In a ``live`` stream, a
    step forwards is not a discontinuity if as much time has passed on the clock.

    If the clock of an encoder jumps, presentation times after the jump come with decode times before it, because frames are
    reordered. Such packets are held back until the decode times have jumped too.
    """

    def __init__(
        self,
        time_base: Fraction,
        rate: Fraction | None,
        offsets: Sequence[Fraction] = (),
        *,
        live: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._live, self._clock, self._read_at = live, clock, clock()
        self._time_base = time_base
        self._given = tuple(offsets)
        self.offsets = list(offsets[:1]) or [Fraction(0)]
        self._last: Fraction | None = None  # decode time of the last packet, as stored
        self._step = 1 / (rate or FALLBACK_RATE)
        self._end: Fraction | None = None  # of the frame that is shown last, shifted
        self._last_dts: int | None = None  # shifted
        self._held: list[Packet[Stream]] = []

    @property
    def packet_duration(self) -> Fraction:
        """The duration of the last packet in seconds: its own, or else that of the one before it, or the average."""
        return self._step

    def correct_all(self, packets: Iterable[Packet[Stream]]) -> Iterator[Packet[Stream]]:
        """Yield all packets with their timestamps shifted."""
        for packet in packets:
            yield from self.correct(packet)
        yield from self.flush()

    def correct(self, packet: Packet[Stream]) -> list[Packet[Stream]]:
        """Shift the timestamps of the packet and of those held back, and return them; none if it is held back too."""
        self._held.append(packet)
        if len(self._held) > MAX_HELD_PACKETS or all(self._is_near_a_decode_time(held.pts) for held in self._held):
            return self.flush()
        return []

    def flush(self) -> list[Packet[Stream]]:
        """Shift the timestamps of the packets that are held back, and return them."""
        packets, self._held = self._held, []
        elapsed, is_crossing = self._seconds_since_last_packet(), len(packets) > 1
        sections = [(_decode_time(packet), self._advance(packet, elapsed, is_crossing)) for packet in packets]
        for packet, (_, shift) in zip(packets, sections, strict=True):
            if packet.pts is not None:
                shown, known = packet.pts, [section for section in sections if section[0] is not None]
                is_near = packet.dts is None or abs(shown - packet.dts) <= MAX_GAP_SECONDS / self._time_base
                packet.pts = shown + (shift if is_near else min(known, key=lambda one: abs(shown - (one[0] or 0)))[1])
                end = packet.pts * self._time_base + self._step
                self._end = end if self._end is None else max(self._end, end)
            if packet.dts is not None:
                packet.dts = self._increasing(packet.dts + shift, packet.pts)
        return packets

    def _increasing(self, dts: int, pts: int | None) -> int:
        """Return a later decode time if a section's decode times start before the end of those of the section before."""
        if self._last_dts is not None and len(self.offsets) > 1:
            latest = dts if pts is None else max(pts, dts)
            dts = min(max(dts, self._last_dts + 1), latest)
        self._last_dts = dts
        return dts

    def _is_near_a_decode_time(self, stamp: int | None) -> bool:
        """Return whether a presentation time may be of the same section as the decode time of a packet that is held back."""
        known = [packet.dts for packet in self._held if packet.dts is not None]
        limit = MAX_GAP_SECONDS / self._time_base
        return stamp is None or not known or any(abs(stamp - other) <= limit for other in known)

    def _advance(self, packet: Packet[Stream], elapsed: float, is_crossing: bool) -> int:
        """Return the shift of a packet, in units of the time base."""
        stamp = _decode_time(packet)
        if stamp is not None:
            now = stamp * self._time_base
            if self._last is not None and self._is_discontinuity(now - self._last, elapsed, packet.dts is None):
                if is_crossing or packet.pts is None or self._end is None:
                    self._start_section(self.offsets[-1] + self._last + self._step - now)
                else:
                    self._start_section(self._end - packet.pts * self._time_base)
            elif self._last is not None and 0 < now - self._last < REORDER_SECONDS:
                self._step = now - self._last
            self._last = now
            self._step = packet.duration * self._time_base if packet.duration else self._step
        return round(self.offsets[-1] / self._time_base)

    def _seconds_since_last_packet(self) -> float:
        before, self._read_at = self._read_at, self._clock()
        return self._read_at - before if self._live else 0.0

    def _is_discontinuity(self, step: Fraction, elapsed: float, reordered: bool) -> bool:
        return step > MAX_GAP_SECONDS + elapsed or step < (-REORDER_SECONDS if reordered else 0)

    def _start_section(self, shift: Fraction) -> None:
        number = min(len(self.offsets), len(self._given) - 1)
        self.offsets.append(self._given[number] if self._given else shift)


def is_discontinuous(container: InputContainer) -> bool:
    """Return whether timestamps may jump in this container's format."""
    return container.format.name in FORMATS


def correct_packets(
    container: InputContainer, packets: Iterator[Packet[Stream]], offsets: Sequence[Fraction] = ()
) -> Iterator[Packet[Stream]]:
    """Yield the packets with continuous timestamps; those of formats without discontinuities are unchanged."""
    timelines: dict[int, PacketTimeline] = {}
    for packet in packets:
        if not packet.size or not is_discontinuous(container):
            yield packet
            continue
        index = packet.stream.index
        if index not in timelines:
            timelines[index] = PacketTimeline(packet.time_base, _rate(packet.stream), offsets)
        yield from timelines[index].correct(packet)
    for timeline in timelines.values():
        yield from timeline.flush()


def _decode_time(packet: Packet[Stream]) -> int | None:
    return packet.pts if packet.dts is None else packet.dts


def _rate(stream: Stream) -> Fraction | None:
    return stream.average_rate if isinstance(stream, VideoStream) else None


def scan_timeline(container: InputContainer, stream: Stream) -> Timeline:
    """Read the timestamps of all packets of a stream; its declared duration is wrong if timestamps jump."""
    timeline, end = PacketTimeline(stream.time_base or Fraction(1, 90000), stream.average_rate), None
    for packet in timeline.correct_all(demux(container, [stream])):
        if packet.pts is not None:
            packet_end = packet.pts * packet.time_base + timeline.packet_duration
            end = packet_end if end is None else max(end, packet_end)
    return Timeline(offsets=tuple(timeline.offsets), end=end)
