"""YUV4MPEG2: uncompressed frames of one size, one after another."""

from __future__ import annotations

from typing import BinaryIO

from av.packet import Packet
from av.stream import Stream


def is_contiguous(file: BinaryIO, previous: Packet[Stream] | None, following: Packet[Stream]) -> bool:
    """Return True: FFmpeg stops reading where no frame follows."""
    return True


def is_contiguous_to_end(file: BinaryIO, last: Packet[Stream], size: int) -> bool:
    """Return whether the file ends with the last frame that is complete."""
    return (last.pos or 0) + last.size >= size


def is_cut(file: BinaryIO, size: int) -> bool:
    """Return False: ``is_contiguous_to_end`` has looked at the end."""
    return False
