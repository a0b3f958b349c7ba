"""Join the timestamps of MPEG-TS and HLS recordings that restart or jump into one continuous timeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
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
    another stream of the same file takes these instead of its own, so that both stay in step. In a ``live`` stream, a step
    forwards during which time has really passed is none.
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

    @property
    def packet_duration(self) -> Fraction:
        """The duration of the last packet in seconds: its own, or else that of the one before it, or the average."""
        return self._step

    def correct(self, packet: Packet[Stream]) -> None:
        """Shift the packet's timestamps."""
        stamp = packet.pts if packet.dts is None else packet.dts
        if stamp is None:
            return
        now, elapsed = stamp * self._time_base, self._seconds_since_last_packet()
        if self._last is not None and self._is_discontinuity(now - self._last, elapsed, packet.dts is None):
            self._start_section(self._last + self._step - now)
        self._last = now
        self._step = packet.duration * self._time_base if packet.duration else self._step
        shift = round(self.offsets[-1] / self._time_base)
        packet.pts = None if packet.pts is None else packet.pts + shift
        packet.dts = None if packet.dts is None else packet.dts + shift

    def _seconds_since_last_packet(self) -> float:
        before, self._read_at = self._read_at, self._clock()
        return self._read_at - before if self._live else 0.0

    def _is_discontinuity(self, step: Fraction, elapsed: float, reordered: bool) -> bool:
        return step > MAX_GAP_SECONDS + elapsed or step < (-REORDER_SECONDS if reordered else 0)

    def _start_section(self, shift: Fraction) -> None:
        number = min(len(self.offsets), len(self._given) - 1)
        self.offsets.append(self._given[number] if self._given else self.offsets[-1] + shift)


def is_discontinuous(container: InputContainer) -> bool:
    """Return whether timestamps may jump in this container's format."""
    return container.format.name in FORMATS


def correct_packets(
    container: InputContainer, packets: Iterator[Packet[Stream]], offsets: Sequence[Fraction] = ()
) -> Iterator[Packet[Stream]]:
    """Yield the packets with continuous timestamps; those of formats without discontinuities are unchanged."""
    timelines: dict[int, PacketTimeline] = {}
    for packet in packets:
        if packet.size and is_discontinuous(container):
            index = packet.stream.index
            if index not in timelines:
                timelines[index] = PacketTimeline(packet.time_base, _rate(packet.stream), offsets)
            timelines[index].correct(packet)
        yield packet


def _rate(stream: Stream) -> Fraction | None:
    return stream.average_rate if isinstance(stream, VideoStream) else None


def scan_timeline(container: InputContainer, stream: Stream) -> Timeline:
    """Read the timestamps of all packets of a stream; its declared duration is wrong if timestamps jump."""
    timeline, end = PacketTimeline(stream.time_base or Fraction(1, 90000), stream.average_rate), None
    for packet in demux(container, [stream]):
        timeline.correct(packet)
        if packet.pts is not None:
            packet_end = packet.pts * packet.time_base + timeline.packet_duration
            end = packet_end if end is None else max(end, packet_end)
    return Timeline(offsets=tuple(timeline.offsets), end=end)
