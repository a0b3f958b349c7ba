"""Animated PNG: chunks up to IEND. FFmpeg makes one packet of the chunks of a frame."""

from __future__ import annotations

from typing import BinaryIO

from av.packet import Packet
from av.stream import Stream

FRAME, END = b"fcTL", b"IEND"
AROUND_CONTENT = 12  # bytes of a chunk: length, kind, checksum


def is_contiguous(file: BinaryIO, previous: Packet[Stream] | None, following: Packet[Stream]) -> bool:
    """Return whether the chunks of one frame lead from a packet to the following one."""
    return previous is None or _skip_frame(file, previous.pos or 0) == (following.pos, FRAME)


def is_contiguous_to_end(file: BinaryIO, last: Packet[Stream], size: int) -> bool:
    """Return whether the last packet is one frame, after which the end of the image follows."""
    return _skip_frame(file, last.pos or 0)[1] == END


def is_cut(file: BinaryIO, size: int) -> bool:
    """Return False: ``is_contiguous_to_end`` has looked at the end."""
    return False


def _skip_frame(file: BinaryIO, position: int) -> tuple[int, bytes]:
    """Return position and kind of the chunk that follows those of a frame; that kind is empty if the file ends before it."""
    count = 0
    while True:
        file.seek(position)
        head = file.read(8)
        kind = head[4:]
        count += kind == FRAME
        if len(head) < 8 or kind == END or count > 1 or not kind.isalpha():
            return position, kind
        position += int.from_bytes(head[:4]) + AROUND_CONTENT
