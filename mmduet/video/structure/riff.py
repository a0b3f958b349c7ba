"""RIFF, the container of AVI: chunks."""

from __future__ import annotations

import re
from typing import BinaryIO

from av.packet import Packet
from av.stream import Stream

CHUNK_HEADER = 8  # bytes before the content of a chunk
CHUNK = re.compile(rb"[A-Za-z0-9 ]{4}")
MAX_PADDING_BYTES = 1 << 16


def is_contiguous(file: BinaryIO, previous: Packet[Stream] | None, following: Packet[Stream]) -> bool:
    """Return whether chunks lead from a packet, or from the start of the file, to the following one."""
    start = 0 if previous is None else (previous.pos or 0) + previous.size
    return _chunks_lead(file, start, (following.pos or 0) - CHUNK_HEADER)


def is_contiguous_to_end(file: BinaryIO, last: Packet[Stream], size: int) -> bool:
    """Return whether chunks lead from the last packet to the end of the file."""
    return _chunks_lead(file, (last.pos or 0) + last.size, size)


def _chunks_lead(file: BinaryIO, position: int, target: int) -> bool:
    position += position % 2
    while position < target - CHUNK_HEADER:
        file.seek(position)
        kind = file.read(4)
        length = int.from_bytes(file.read(4), "little")
        if not CHUNK.fullmatch(kind):
            return not any(kind + file.read(MAX_PADDING_BYTES)) if kind == bytes(4) else False
        position += CHUNK_HEADER + (4 if kind in (b"RIFF", b"LIST") else length + length % 2)
    return position <= target + 1


def is_cut(file: BinaryIO, size: int) -> bool:
    position = 0
    while position + 12 <= size:
        file.seek(position)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):  # unknown, as in a stream
            return False
        position += 8 + length + length % 2
    return position - size > 1  # the last byte is padding
