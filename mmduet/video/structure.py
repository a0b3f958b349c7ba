"""Find evidence in a container's structure that a part of a file or its end is missing; nothing is decoded.

Durations do not count: they are rounded, averaged, or those of another stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

MP4_BOXES = frozenset(b"ftyp styp moov moof mdat mfra sidx ssix free skip wide meta uuid emsg prft pdin udta".split())
EBML_SEGMENT, EBML_CLUSTER, EBML_BLOCK_GROUP = 0x18538067, 0x1F43B675, 0xA0
BLOCK_HEADER = 4  # bytes before the data of a Matroska block
TS_SYNC_BYTE, TS_CHECKED_PACKETS = b"\x47", 4
TS_SYNC_OFFSETS = {188: 0, 192: 4, 204: 0}  # position of the sync byte within a packet, by the length of packets
FLV_TAGS = (8, 9, 18)  # audio, video, script data
FLV_TAG_HEADER, FLV_TAG_END = 11, 4  # bytes
MAX_PADDING_BYTES = 1 << 16
MAX_GIF_TRAILER = 1024  # bytes after the last frame
GIF_TRAILER = b"\x3b"


def is_truncated(container: InputContainer, stream: VideoStream, path: Path, *, failed: bool, bytes_read: int) -> bool:
    """Return whether the index or the container's structure continues past the end of the file, or reading ended before it.

    ``failed`` is whether the last frame could not be decoded: in MPEG-TS, which has no end, it is then incomplete.
    ``bytes_read`` is the position of the end of the last packet.
    """
    size = path.stat().st_size
    if container.format.name == "gif" and bytes_read + MAX_GIF_TRAILER < size:
        return True
    if failed and container.format.name == "mpegts":
        return True
    entries = stream.index_entries
    if len(entries) and entries[-1].pos + entries[-1].size > size:
        return True
    checks: dict[str, Callable[[BinaryIO, int], bool]] = {
        "mov": _is_mp4_cut, "matroska": _is_matroska_cut, "avi": _is_riff_cut, "flv": _is_flv_cut,
        "mpegts": _is_ts_cut, "gif": _is_gif_cut,
    }  # fmt: skip
    check = checks.get(container.format.name.split(",")[0])
    if check is None:
        return False
    with path.open("rb") as file:
        return check(file, size)


def is_broken_between(container: InputContainer, path: Path, packet: Packet[Stream], following: Packet[Stream]) -> bool:
    """Return whether the file's structure does not lead from a packet to the following one of its stream.

    Demuxers of Matroska and FLV skip what they cannot read without an error.
    """
    kind = container.format.name.split(",")[0]
    if kind not in ("matroska", "flv") or packet.pos is None or following.pos is None or packet.pos == following.pos:
        return False
    with path.open("rb") as file:
        if kind == "flv":
            return not _flv_tags_lead(file, packet.pos, following.pos)
        return not _ebml_elements_lead(file, packet.pos + BLOCK_HEADER + packet.size, following.pos)


def _ebml_elements_lead(file: BinaryIO, position: int, target: int) -> bool:
    """Return whether the elements from ``position`` on lead to the one whose content starts at ``target``."""
    while position < target:
        kind, start, length = _read_ebml_header(file, position)
        if not kind or start >= target:
            return start == target
        is_container = length is None or kind in (EBML_CLUSTER, EBML_BLOCK_GROUP)
        position = start if is_container else start + (length or 0)
    return False


def _flv_tags_lead(file: BinaryIO, position: int, target: int) -> bool:
    while position < target:
        file.seek(position)
        head = file.read(4)
        if not head or head[0] & 0x1F not in FLV_TAGS:
            return False
        position += FLV_TAG_HEADER + int.from_bytes(head[1:]) + FLV_TAG_END
    return position == target


def _is_mp4_cut(file: BinaryIO, size: int) -> bool:
    position, kinds = 0, set[bytes]()
    while position < size:
        file.seek(position)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4]), head[4:8]
        if len(head) < 8:
            return any(head)
        if kind not in MP4_BOXES:  # other data after the end, unless it takes the place of another fragment
            return b"moof" in kinds and any(head + file.read(MAX_PADDING_BYTES))
        if length == 0:  # up to the end of the file
            return False
        kinds.add(kind)
        position += int.from_bytes(head[8:]) if length == 1 else max(length, 8)
    return position > size


def _is_matroska_cut(file: BinaryIO, size: int) -> bool:
    position = 0
    for kind, start, length in _ebml_elements(file, size):
        if length is not None and kind == EBML_SEGMENT:
            return start + length > size
        position = start if length is None else start + length
    return position > size


def _ebml_elements(file: BinaryIO, size: int) -> Iterator[tuple[int, int, int | None]]:
    """Yield identifier, start of the content and its length; the content of elements of unknown length follows.

    An element whose header is incomplete has a length past the end of the file.
    """
    position = 0
    while position < size:
        kind, start, length = _read_ebml_header(file, position)
        if start > size:
            yield 0, size, 1
        if not kind or start > size:
            return  # other data, which the demuxer skips
        yield kind, start, length
        position = start if length is None else start + length


def _read_ebml_header(file: BinaryIO, position: int) -> tuple[int, int, int | None]:
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


def _is_riff_cut(file: BinaryIO, size: int) -> bool:
    position = 0
    while position + 12 <= size:
        file.seek(position)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):  # unknown, as in a stream
            return False
        position += 8 + length + length % 2
    return position - size > 1  # the last byte is padding


def _is_flv_cut(file: BinaryIO, size: int) -> bool:
    file.seek(size - 4)
    length = int.from_bytes(file.read(4))
    file.seek(max(size - 4 - length, 0))
    head = file.read(4)
    return not (head[:1] and head[0] & 0x1F in FLV_TAGS and int.from_bytes(head[1:]) + FLV_TAG_HEADER == length)


def _is_ts_cut(file: BinaryIO, size: int) -> bool:
    file.seek(0)
    head = file.read(TS_CHECKED_PACKETS * max(TS_SYNC_OFFSETS))
    for length, offset in TS_SYNC_OFFSETS.items():
        starts = head[offset::length]
        if starts and not starts.strip(TS_SYNC_BYTE):
            return size % length > 0
    return False  # packets do not start where the file does


def _is_gif_cut(file: BinaryIO, size: int) -> bool:
    file.seek(max(size - 64, 0))
    return not file.read().rstrip(b"\0").endswith(GIF_TRAILER)
