"""MPEG-TS: packets of a fixed length with a sync byte."""

from __future__ import annotations

from typing import BinaryIO

from av.packet import Packet
from av.stream import Stream

SYNC_BYTE, CHECKED_PACKETS, PACKETS_AT_ONCE = b"\x47", 4, 4096
SYNC_OFFSETS = {188: 0, 192: 4, 204: 0}  # position of the sync byte within a packet, by the length of packets
UNIT_START, PID_BITS = 0x40, 0x1F  # in the byte after the sync byte


def is_contiguous(file: BinaryIO, previous: Packet[Stream] | None, following: Packet[Stream]) -> bool:
    """Return whether nothing is missing between two packets of a stream; the file may start anywhere."""
    return previous is None or _packets_lead(file, previous.pos or 0, following.pos or 0)


def is_contiguous_to_end(file: BinaryIO, last: Packet[Stream], size: int) -> bool:
    """Return whether no other packet of the stream starts after the last one."""
    return _packets_lead(file, last.pos or 0, size)


def _packets_lead(file: BinaryIO, position: int, target: int) -> bool:
    """Return whether all packets up to ``target`` have a sync byte and belong to the one PES packet that starts here."""
    length, offset = _packet_format(file)
    if not length:
        return True
    file.seek(position)
    head = file.read(length)[offset : offset + 3]
    if len(head) < 3:
        return True
    unit_start = (head[1] & PID_BITS | UNIT_START, head[2])
    position += length
    while position < target:
        part = file.read(min(target - position, length * PACKETS_AT_ONCE))
        if part[offset::length].strip(SYNC_BYTE):
            return False
        flags = (byte & (UNIT_START | PID_BITS) for byte in part[offset + 1 :: length])
        if any(start == unit_start for start in zip(flags, part[offset + 2 :: length], strict=False)):
            return False
        position += max(len(part), 1)
    return True


def is_cut(file: BinaryIO, size: int) -> bool:
    """Return whether the file ends within a packet; after a part is lost in the middle, packets may start anywhere."""
    length, offset = _packet_format(file)
    if not length:
        return False
    file.seek(max(size - CHECKED_PACKETS * length, 0))
    return bool(file.read()[offset::length].strip(SYNC_BYTE))


def _packet_format(file: BinaryIO) -> tuple[int, int]:
    """Return the length of packets and the position of their sync byte; 0 if they do not start where the file does."""
    file.seek(0)
    head = file.read(CHECKED_PACKETS * max(SYNC_OFFSETS))
    for length, offset in SYNC_OFFSETS.items():
        starts = head[offset::length]
        if starts and not starts.strip(SYNC_BYTE):
            return length, offset
    return 0, 0
