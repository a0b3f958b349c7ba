"""GIF: blocks up to a trailer. FFmpeg makes one packet of an image and the blocks before it."""

from __future__ import annotations

from typing import BinaryIO

from av.packet import Packet
from av.stream import Stream

SIGNATURES = (b"GIF87a", b"GIF89a")
FILE_HEADER = 13  # bytes: signature and screen descriptor
IMAGE, EXTENSION, TRAILER = b"\x2c", b"\x21", b"\x3b"
IMAGE_DESCRIPTOR = 9  # bytes after the first
HAS_COLOR_TABLE, COLOR_TABLE_SIZE = 0x80, 0x07  # bits of the last byte of a descriptor
MAX_TRAILING_BYTES = 1024


def is_contiguous(file: BinaryIO, previous: Packet[Stream] | None, following: Packet[Stream]) -> bool:
    """Return whether the blocks of one image lead from a packet to the following one."""
    start, target = 0 if previous is None else previous.pos or 0, following.pos or 0
    return start == target or _skip_image(file, start) == target


def is_contiguous_to_end(file: BinaryIO, last: Packet[Stream], size: int) -> bool:
    """Return whether the last packet is one image, after which only the trailer follows."""
    position = _skip_image(file, last.pos or 0)
    return position is not None and position + MAX_TRAILING_BYTES >= size


def is_cut(file: BinaryIO, size: int) -> bool:
    """Return whether the file ends without a trailer."""
    file.seek(max(size - 64, 0))
    return not file.read().rstrip(b"\0").endswith(TRAILER)


def _skip_image(file: BinaryIO, position: int) -> int | None:
    """Return the position after the next image and the blocks before it; None if something else is there."""
    file.seek(position)
    if position == 0:
        header = file.read(FILE_HEADER)
        if not header.startswith(SIGNATURES):
            return None
        file.seek(_color_table_bytes(header[10]), 1)
    while (kind := file.read(1)) == EXTENSION:
        file.seek(1, 1)  # its label
        _skip_sub_blocks(file)
    descriptor = file.read(IMAGE_DESCRIPTOR)
    if kind != IMAGE or len(descriptor) < IMAGE_DESCRIPTOR:
        return None
    file.seek(_color_table_bytes(descriptor[-1]) + 1, 1)  # and the code size
    _skip_sub_blocks(file)
    return file.tell()


def _skip_sub_blocks(file: BinaryIO) -> None:
    while (length := file.read(1)) and length[0]:
        file.seek(length[0], 1)


def _color_table_bytes(flags: int) -> int:
    return 3 << (flags & COLOR_TABLE_SIZE) + 1 if flags & HAS_COLOR_TABLE else 0
