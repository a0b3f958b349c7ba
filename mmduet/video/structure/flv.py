"""FLV: tags with their lengths before and after them."""

from __future__ import annotations

from typing import BinaryIO

from av.packet import Packet
from av.stream import Stream

TAGS, VIDEO = (8, 9, 18), 9  # audio, video, script data
FRAME_TYPES = range(1, 6)
FILE_HEADER = 13  # bytes before the first tag
TAG_HEADER, TAG_END = 11, 4  # bytes


def is_contiguous(file: BinaryIO, previous: Packet[Stream] | None, following: Packet[Stream]) -> bool:
    """Return whether tags lead from a packet, or from the start of the file, to the following one."""
    start = FILE_HEADER if previous is None else previous.pos or FILE_HEADER
    return _tags_lead(file, start, following.pos or 0)


def is_contiguous_to_end(file: BinaryIO, last: Packet[Stream], size: int) -> bool:
    """Return whether tags lead from the last packet to the end of the file."""
    return _tags_lead(file, last.pos or 0, size)


def _tags_lead(file: BinaryIO, position: int, target: int) -> bool:
    while position < target:
        file.seek(position)
        head = file.read(TAG_HEADER + 1)
        kind, length = (head[0] & 0x1F, int.from_bytes(head[1:4])) if len(head) > TAG_HEADER else (0, 0)
        if kind not in TAGS or (kind == VIDEO and head[-1] >> 4 & 7 not in FRAME_TYPES):
            return False
        position += TAG_HEADER + length + TAG_END
    return position == target


def is_cut(file: BinaryIO, size: int) -> bool:
    file.seek(size - 4)
    length = int.from_bytes(file.read(4))
    file.seek(max(size - 4 - length, 0))
    head = file.read(4)
    return not (head[:1] and head[0] & 0x1F in TAGS and int.from_bytes(head[1:]) + TAG_HEADER == length)
