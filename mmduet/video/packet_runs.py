"""Split a stream's packets into runs that begin where decoding can start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from av.packet import Packet
from av.stream import Stream

from mmduet.video.decoding import ReadPacket
from mmduet.video.packet_inspection import Inspector, PacketTraits

MAX_RUN_PACKETS, MAX_RUN_BYTES = 1200, 32 << 20
"""Limits of the packets that are held in memory until the next one with which decoding can start."""


@dataclass(frozen=True, eq=False)
class InspectedPacket:
    """A packet that was read, and what its header says."""

    read: ReadPacket
    traits: PacketTraits

    @property
    def packet(self) -> Packet[Stream]:
        """The packet itself."""
        return self.read.packet


@dataclass(frozen=True, eq=False)
class PacketRun:
    """Packets in decode order, from one with which decoding can start up to the next one.

    ``is_complete`` is false if it does not begin with such a packet, or was cut because it is too long.
    """

    packets: Sequence[InspectedPacket]
    is_complete: bool

    @cached_property
    def leading(self) -> Sequence[InspectedPacket]:
        """The packets whose frames are shown before the first packet's, and may depend on the run before."""
        first = self.packets[0].packet.pts
        return [item for item in self.packets if _is_before(item.packet.pts, first)]

    @cached_property
    def trailing(self) -> Sequence[InspectedPacket]:
        """The other packets."""
        first = self.packets[0].packet.pts
        return [item for item in self.packets if not _is_before(item.packet.pts, first)]


def split_into_runs(packets: Iterable[ReadPacket], inspect: Inspector) -> Iterator[PacketRun]:
    """Yield all packets in runs."""
    run: list[InspectedPacket] = []
    size, has_start = 0, False
    for read in packets:
        traits = inspect(bytes(read.packet), read.packet.is_keyframe)
        is_too_long = len(run) == MAX_RUN_PACKETS or size > MAX_RUN_BYTES
        if run and (traits.starts_group or is_too_long):
            yield PacketRun(run, has_start and traits.starts_group)
            run, size = [], 0
        if not run:
            has_start = traits.starts_group
        run.append(InspectedPacket(read, traits))
        size += read.packet.size
    if run:
        yield PacketRun(run, has_start)


def _is_before(stamp: int | None, first: int | None) -> bool:
    return stamp is not None and first is not None and stamp < first
