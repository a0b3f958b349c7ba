"""Find evidence in a container's structure that a part of a file or its end is missing; nothing is decoded.

Durations do not count: they are rounded, averaged, or those of another stream.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

MP4_BOXES = frozenset(b"ftyp styp moov moof mdat mfra sidx ssix free skip wide meta uuid emsg prft pdin udta".split())
EBML_SEGMENT, EBML_CLUSTER, EBML_BLOCK_GROUP = 0x18538067, 0x1F43B675, 0xA0
EBML_BLOCKS = (0xA3, 0xA1)  # SimpleBlock and Block
TRACK_FRAGMENT = re.compile(rb"traf.{4}tfhd.{4}(.{4})", re.DOTALL)  # of MP4: the number of the track
MAX_FRAGMENT_HEADER = 1 << 20
EBML_CONTAINERS = (EBML_SEGMENT, EBML_CLUSTER, EBML_BLOCK_GROUP)
EBML_SEGMENT_ELEMENTS = frozenset({
    0x114D9B74, 0x1549A966, 0x1654AE6B, EBML_CLUSTER, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, 0xEC, 0xBF,
})  # fmt: skip
EBML_CLUSTER_ELEMENTS = frozenset({
    0xE7, 0x5854, 0xA7, 0xAB, 0xA3, EBML_BLOCK_GROUP, 0xAF, 0xA1, 0xA2, 0x75A1, 0x9B, 0xFA, 0xFB, 0xFD, 0xA4, 0x75A2,
    0x8E, 0xC8,
})  # fmt: skip
BLOCK_HEADER = 4  # bytes before the data of a Matroska block
TS_SYNC_BYTE, TS_CHECKED_PACKETS, TS_PACKETS_AT_ONCE = b"\x47", 4, 4096
TS_SYNC_OFFSETS = {188: 0, 192: 4, 204: 0}  # position of the sync byte within a packet, by the length of packets
TS_UNIT_START, TS_PID_BITS = 0x40, 0x1F  # in the byte after the sync byte
FLV_TAGS, FLV_VIDEO = (8, 9, 18), 9  # audio, video, script data
FLV_FRAME_TYPES = range(1, 6)
FLV_HEADER = 13  # bytes before the first tag
FLV_TAG_HEADER, FLV_TAG_END = 11, 4  # bytes
RIFF_HEADER = 8  # bytes before the content of a chunk
RIFF_CHUNK = re.compile(rb"[A-Za-z0-9 ]{4}")
MAX_PADDING_BYTES = 1 << 16
MAX_GIF_TRAILER = 1024  # bytes after the last frame
GIF_TRAILER = b"\x3b"


def is_truncated(
    container: InputContainer, stream: VideoStream, path: Path, *, failed: bool, last_packet: Packet[Stream] | None
) -> bool:
    """Return whether the index or the container's structure continues past the end of the file, or reading ended before it.

    ``failed`` is whether the last frame could not be decoded: in MPEG-TS, which has no end, it is then incomplete.
    """
    size = path.stat().st_size
    if last_packet is not None and not _leads_to_end(container, path, last_packet, size):
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


def is_broken_between(
    container: InputContainer, path: Path, packet: Packet[Stream] | None, following: Packet[Stream]
) -> bool:
    """Return whether the file's structure does not lead from a packet to the following one of its stream.

    Without ``packet``, from the start of the file; MPEG-TS may start anywhere. Demuxers skip what they cannot read without an
    error.
    """
    kind, target = container.format.name.split(",")[0], following.pos
    start = 0 if packet is None else packet.pos
    if target is None or start is None or start >= target:
        return False
    with path.open("rb") as file:
        if kind == "mov":
            return _count_fragments(file, start, target, following.stream.id) > 1
        if kind == "mpegts":
            return packet is not None and not _ts_packets_lead(file, start, target)
        if kind == "flv":
            return not _flv_tags_lead(file, start or FLV_HEADER, target)
        if kind == "avi":
            return not _riff_chunks_lead(file, start + packet.size if packet else 0, target - RIFF_HEADER)
        if kind == "matroska":
            return not _ebml_elements_lead(
                file, _block_end(file, packet) if packet else 0, target, _track(file, target)
            )
    return False


def _leads_to_end(container: InputContainer, path: Path, packet: Packet[Stream], size: int) -> bool:
    """Return whether the structure leads from the last packet that was read to the end of the file."""
    kind, position = container.format.name.split(",")[0], packet.pos
    if position is None:
        return True
    with path.open("rb") as file:
        checks: dict[str, Callable[[], bool]] = {
            "gif": lambda: position + packet.size + MAX_GIF_TRAILER >= size,
            "mov": lambda: not _count_fragments(file, position, size, packet.stream.id),
            "mpegts": lambda: _ts_packets_lead(file, position, size),
            "flv": lambda: _flv_tags_lead(file, position, size),
            "avi": lambda: _riff_chunks_lead(file, position + packet.size, size),
            "matroska": lambda: _is_ebml_end(file, _block_end(file, packet), size, _track(file, position)),
        }
        return kind not in checks or checks[kind]()


def _count_fragments(file: BinaryIO, start: int, end: int, track: int) -> int:
    """Return how many MP4 fragments between two positions are of a track, or of none that can be read."""
    count = 0
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = data.find(b"moof", start, end)
        while position >= 0:
            length = int.from_bytes(data[position - 4 : position])
            tracks = TRACK_FRAGMENT.findall(data[position : position + min(length, MAX_FRAGMENT_HEADER)])
            count += not tracks or track.to_bytes(4) in tracks
            position = data.find(b"moof", position + 4, end)
    return count


def _block_end(file: BinaryIO, packet: Packet[Stream]) -> int:
    """Return where the Matroska block of a packet ends; the packet may be shorter or longer because of compression."""
    position = packet.pos or 0
    file.seek(max(position - 9, 0))
    head = file.read(min(position, 9))
    for digits in range(1, len(head)):
        coded = head[-digits:]
        if head[-digits - 1] in EBML_BLOCKS and _vint_length(coded[:1]) == digits:
            return position + (int.from_bytes(coded) & (1 << 7 * digits) - 1)
    return position + BLOCK_HEADER + packet.size


def _track(file: BinaryIO, position: int) -> bytes:
    """Return the first byte of a Matroska block, which has the number of its track."""
    file.seek(position)
    return file.read(1)


def _is_lost_block(file: BinaryIO, kind: int, start: int, track: bytes) -> bool:
    """Return whether an element is a block of a track, or of none."""
    return kind in EBML_BLOCKS and _track(file, start) in (track, b"\x80", b"\0")


def _is_ebml_end(file: BinaryIO, position: int, size: int, track: bytes) -> bool:
    """Return whether elements follow up to the end of the segment, after which there may be other data, or padding.

    None of them may be a block of ``track`` or longer than the cluster that it is in.
    """
    segment_end, limit = _ends_around(file, position, size)
    while position < min(segment_end, size):
        kind, start, length = _read_ebml_header(file, position)
        if kind not in EBML_SEGMENT_ELEMENTS | EBML_CLUSTER_ELEMENTS:
            file.seek(position)
            return segment_end > size and not any(file.read(MAX_PADDING_BYTES))
        limit = segment_end if position >= limit else limit
        end = start if length is None else start + length
        if _is_lost_block(file, kind, start, track) or end > limit:
            return False
        limit = end if kind == EBML_CLUSTER and length is not None else limit
        position = start if kind in EBML_CONTAINERS else end
    return position <= size


def _ends_around(file: BinaryIO, position: int, size: int) -> tuple[int, int]:
    """Return the ends of the segment and of the cluster around a position; past the end of the file where unknown."""
    segment_end = size + 1
    for kind, start, length in _ebml_elements(file, size, containers=(EBML_SEGMENT,)):
        end = size + 1 if length is None else start + length
        if kind == EBML_SEGMENT:
            segment_end = end
        elif start <= position <= end:
            return segment_end, end
        elif start > position:
            break
    return segment_end, segment_end


def _ebml_elements_lead(file: BinaryIO, position: int, target: int, track: bytes) -> bool:
    """Return whether the elements from ``position`` on lead to a track's next block, whose content starts at ``target``."""
    while position < target:
        kind, start, length = _read_ebml_header(file, position)
        if not kind or start >= target:
            return start == target
        if _is_lost_block(file, kind, start, track):
            return False
        is_container = length is None or kind in EBML_CONTAINERS
        position = start if is_container else start + (length or 0)
    return False


def _flv_tags_lead(file: BinaryIO, position: int, target: int) -> bool:
    while position < target:
        file.seek(position)
        head = file.read(FLV_TAG_HEADER + 1)
        kind, length = (head[0] & 0x1F, int.from_bytes(head[1:4])) if len(head) > FLV_TAG_HEADER else (0, 0)
        if kind not in FLV_TAGS or (kind == FLV_VIDEO and head[-1] >> 4 & 7 not in FLV_FRAME_TYPES):
            return False
        position += FLV_TAG_HEADER + length + FLV_TAG_END
    return position == target


def _riff_chunks_lead(file: BinaryIO, position: int, target: int) -> bool:
    position += position % 2
    while position < target - RIFF_HEADER:
        file.seek(position)
        kind = file.read(4)
        length = int.from_bytes(file.read(4), "little")
        if not RIFF_CHUNK.fullmatch(kind):
            return not any(kind + file.read(MAX_PADDING_BYTES)) if kind == bytes(4) else False
        position += RIFF_HEADER + (4 if kind in (b"RIFF", b"LIST") else length + length % 2)
    return position <= target + 1


def _ts_packets_lead(file: BinaryIO, position: int, target: int) -> bool:
    """Return whether all packets up to ``target`` have a sync byte and belong to the one PES packet that starts here."""
    length, offset = _ts_packet_format(file)
    if not length:
        return True
    file.seek(position)
    head = file.read(length)[offset : offset + 3]
    if len(head) < 3:
        return True
    unit_start = (head[1] & TS_PID_BITS | TS_UNIT_START, head[2])
    position += length
    while position < target:
        part = file.read(min(target - position, length * TS_PACKETS_AT_ONCE))
        if part[offset::length].strip(TS_SYNC_BYTE):
            return False
        flags = (byte & (TS_UNIT_START | TS_PID_BITS) for byte in part[offset + 1 :: length])
        if any(start == unit_start for start in zip(flags, part[offset + 2 :: length], strict=False)):
            return False
        position += max(len(part), 1)
    return True


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


def _ebml_elements(file: BinaryIO, size: int, containers: Sequence[int] = ()) -> Iterator[tuple[int, int, int | None]]:
    """Yield identifier, start of the content and its length; the content of containers and of unknown length follows.

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
        position = start if length is None or kind in containers else start + length


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
    """Return whether the file ends within a packet; after a part is lost in the middle, packets may start anywhere."""
    length, offset = _ts_packet_format(file)
    if not length:
        return False
    file.seek(max(size - TS_CHECKED_PACKETS * length, 0))
    return bool(file.read()[offset::length].strip(TS_SYNC_BYTE))


def _ts_packet_format(file: BinaryIO) -> tuple[int, int]:
    """Return the length of packets and the position of their sync byte; 0 if they do not start where the file does."""
    file.seek(0)
    head = file.read(TS_CHECKED_PACKETS * max(TS_SYNC_OFFSETS))
    for length, offset in TS_SYNC_OFFSETS.items():
        starts = head[offset::length]
        if starts and not starts.strip(TS_SYNC_BYTE):
            return length, offset
    return 0, 0


def _is_gif_cut(file: BinaryIO, size: int) -> bool:
    file.seek(max(size - 64, 0))
    return not file.read().rstrip(b"\0").endswith(GIF_TRAILER)
