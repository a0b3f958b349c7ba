"""Matroska and WebM: EBML elements in clusters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

from av.packet import Packet
from av.stream import Stream

SEGMENT, CLUSTER, BLOCK_GROUP = 0x18538067, 0x1F43B675, 0xA0
BLOCKS = (0xA3, 0xA1)  # SimpleBlock and Block
CONTAINERS = (SEGMENT, CLUSTER, BLOCK_GROUP)
SEGMENT_ELEMENTS = frozenset({
    0x114D9B74, 0x1549A966, 0x1654AE6B, CLUSTER, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, 0xEC, 0xBF,
})  # fmt: skip
CLUSTER_ELEMENTS = frozenset({
    0xE7, 0x5854, 0xA7, 0xAB, 0xA3, BLOCK_GROUP, 0xAF, 0xA1, 0xA2, 0x75A1, 0x9B, 0xFA, 0xFB, 0xFD, 0xA4, 0x75A2,
    0x8E, 0xC8,
})  # fmt: skip
BLOCK_HEADER = 4  # bytes before the data of a Matroska block
MAX_PADDING_BYTES = 1 << 16


def is_contiguous(file: BinaryIO, previous: Packet[Stream] | None, following: Packet[Stream]) -> bool:
    """Return whether elements lead from a packet, or from the start of the file, to the following one of its track."""
    start, target = 0 if previous is None else _block_end(file, previous), following.pos or 0
    return _elements_lead(file, start, target, _read_track(file, target))


def is_contiguous_to_end(file: BinaryIO, last: Packet[Stream], size: int) -> bool:
    """Return whether elements other than blocks of its track lead from the last packet to the end of the file."""
    return _is_end(file, _block_end(file, last), size, _read_track(file, last.pos or 0))


def _block_end(file: BinaryIO, packet: Packet[Stream]) -> int:
    """Return where the Matroska block of a packet ends; the packet may be shorter or longer because of compression."""
    position = packet.pos or 0
    file.seek(max(position - 9, 0))
    head = file.read(min(position, 9))
    for digits in range(1, len(head)):
        coded = head[-digits:]
        if head[-digits - 1] in BLOCKS and _vint_length(coded[:1]) == digits:
            return position + (int.from_bytes(coded) & (1 << 7 * digits) - 1)
    return position + BLOCK_HEADER + packet.size


def _read_track(file: BinaryIO, position: int) -> bytes:
    """Return the first byte of a Matroska block, which has the number of its track."""
    file.seek(position)
    return file.read(1)


def _is_lost_block(file: BinaryIO, kind: int, start: int, track: bytes) -> bool:
    """Return whether an element is a block of the track ``track``, or one whose track cannot be read."""
    return kind in BLOCKS and _read_track(file, start) in (track, b"\x80", b"\0")


def _is_end(file: BinaryIO, position: int, size: int, track: bytes) -> bool:
    """Return whether elements follow up to the end of the segment, after which there may be other data, or padding.

    None of them may be a block of ``track`` or longer than the cluster that it is in.
    """
    segment_end, limit = _ends_around(file, position, size)
    while position < min(segment_end, size):
        kind, start, length = _read_header(file, position)
        if kind not in SEGMENT_ELEMENTS | CLUSTER_ELEMENTS:
            file.seek(position)
            return segment_end > size and not any(file.read(MAX_PADDING_BYTES))
        limit = segment_end if position >= limit else limit
        end = start if length is None else start + length
        if _is_lost_block(file, kind, start, track) or end > limit:
            return False
        limit = end if kind == CLUSTER and length is not None else limit
        position = start if kind in CONTAINERS else end
    return position <= size


def _ends_around(file: BinaryIO, position: int, size: int) -> tuple[int, int]:
    """Return the ends of the segment and of the cluster around a position; past the end of the file where unknown."""
    segment_end = size + 1
    for kind, start, length in _elements(file, size, containers=(SEGMENT,)):
        end = size + 1 if length is None else start + length
        if kind == SEGMENT:
            segment_end = end
        elif start <= position <= end:
            return segment_end, end
        elif start > position:
            break
    return segment_end, segment_end


def _elements_lead(file: BinaryIO, position: int, target: int, track: bytes) -> bool:
    """Return whether the elements from ``position`` on lead to a track's next block, whose content starts at ``target``."""
    while position < target:
        kind, start, length = _read_header(file, position)
        if not kind or start >= target:
            return start == target
        if _is_lost_block(file, kind, start, track):
            return False
        is_container = length is None or kind in CONTAINERS
        position = start if is_container else start + (length or 0)
    return False


def is_cut(file: BinaryIO, size: int) -> bool:
    position = 0
    for kind, start, length in _elements(file, size):
        if length is not None and kind == SEGMENT:
            return start + length > size
        position = start if length is None else start + length
    return position > size


def _elements(file: BinaryIO, size: int, containers: Sequence[int] = ()) -> Iterator[tuple[int, int, int | None]]:
    """Yield identifier, start of the content and its length; the content of containers and of unknown length follows.

    An element whose header is incomplete has a length past the end of the file.
    """
    position = 0
    while position < size:
        kind, start, length = _read_header(file, position)
        if start > size:
            yield 0, size, 1
        if not kind or start > size:
            return  # other data, which the demuxer skips
        yield kind, start, length
        position = start if length is None or kind in containers else start + length


def _read_header(file: BinaryIO, position: int) -> tuple[int, int, int | None]:
    """Return identifier, start of the content and its length (None: unknown); identifier 0 for other data.

    The content of an element whose header is incomplete starts after the end of the file.
    """
    file.seek(position)
    head = file.read(12)
    id_length = _vint_length(head[:1])
    if not id_length:
        return 0, position, 0
    if len(head) <= id_length:
        return 1, position + id_length + 1, 0
    size_length = _vint_length(head[id_length : id_length + 1])
    if not size_length:
        return 0, position, 0
    coded, unknown = int.from_bytes(head[id_length : id_length + size_length]), (1 << 7 * size_length) - 1
    length = coded & unknown
    start = position + id_length + size_length
    return int.from_bytes(head[:id_length]), start, None if length == unknown else length


def _vint_length(first: bytes) -> int:
    """Return the number of bytes of an EBML number, from its first byte; 0 if it is invalid."""
    return 9 - first[0].bit_length() if first and first[0] else 0
