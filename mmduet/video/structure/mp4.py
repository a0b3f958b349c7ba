"""MP4 and QuickTime: boxes, and the fragments of streams."""

from __future__ import annotations

import mmap
import re
from typing import BinaryIO

from av.packet import Packet
from av.stream import Stream

BOXES = frozenset(b"ftyp styp moov moof mdat mfra sidx ssix free skip wide meta uuid emsg prft pdin udta".split())
TRACK_FRAGMENT = re.compile(rb"traf.{4}tfhd.{4}(.{4})", re.DOTALL)  # of MP4: the number of the track
MAX_FRAGMENT_HEADER = 1 << 20
MAX_PADDING_BYTES = 1 << 16


def is_contiguous(file: BinaryIO, previous: Packet[Stream] | None, following: Packet[Stream]) -> bool:
    """Return whether the fragment of a packet is the first one, or the one after that of the packet before."""
    start = 0 if previous is None else previous.pos or 0
    return _count_fragments(file, start, following.pos or 0, following.stream.id) <= 1


def is_contiguous_to_end(file: BinaryIO, last: Packet[Stream], size: int) -> bool:
    """Return whether no fragment follows that of the last packet."""
    return not _count_fragments(file, last.pos or 0, size, last.stream.id)


def _count_fragments(file: BinaryIO, start: int, end: int, track: int) -> int:
    """Return how many MP4 fragments between two positions belong to a track or cannot be read."""
    count = 0
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = data.find(b"moof", start, end)
        while position >= 0:
            length = int.from_bytes(data[position - 4 : position])
            tracks = TRACK_FRAGMENT.findall(data[position : position + min(length, MAX_FRAGMENT_HEADER)])
            count += not tracks or track.to_bytes(4) in tracks
            position = data.find(b"moof", position + 4, end)
    return count


def is_cut(file: BinaryIO, size: int) -> bool:
    position, kinds = 0, set[bytes]()
    while position < size:
        file.seek(position)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4]), head[4:8]
        if len(head) < 8:
            return any(head)
        if kind not in BOXES:  # other data after the end, unless it takes the place of another fragment
            rest = file.read(MAX_PADDING_BYTES)
            return (b"moof" in kinds or b"moof" in rest) and any(head + rest)
        if length == 0:  # up to the end of the file
            return False
        kinds.add(kind)
        position += int.from_bytes(head[8:]) if length == 1 else max(length, 8)
    return position > size
