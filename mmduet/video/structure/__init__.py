"""Find evidence in a container's structure that a part of a file or its end is missing; nothing is decoded.

Durations do not count: they are rounded, averaged, or those of another stream.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Protocol

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from mmduet.video.structure import flv, gif, matroska, mp4, mpegts, png, riff, y4m
from mmduet.video.structure.riff import CHUNK_HEADER

__all__ = ["CHUNK_HEADER", "declares_end", "is_broken_between", "is_cut", "is_truncated"]


class Structure(Protocol):
    """What is known of one container format. The packets have a position in the file."""

    def is_contiguous(self, file: BinaryIO, previous: Packet[Stream] | None, following: Packet[Stream]) -> bool:
        """Return whether no packet of the stream is missing between two, or before the first if ``previous`` is None."""

    def is_contiguous_to_end(self, file: BinaryIO, last: Packet[Stream], size: int) -> bool:
        """Return whether no packet of the stream is missing between the last one that was read and the end of the file."""

    def is_cut(self, file: BinaryIO, size: int) -> bool:
        """Return whether the structure continues past the end of the file."""


STRUCTURES: dict[str, Structure] = {
    "mov": mp4, "matroska": matroska, "mpegts": mpegts, "flv": flv, "avi": riff, "gif": gif, "apng": png,
    "yuv4mpegpipe": y4m,
}  # fmt: skip
"""The structures by the first of FFmpeg's names of the format."""

ENDED_FORMATS = STRUCTURES.keys() - {"mpegts"}
"""Formats that record whether they are complete. In others, a last frame that cannot be decoded is incomplete."""


def is_truncated(
    container: InputContainer, stream: VideoStream, path: Path, *, failed: bool, last_packet: Packet[Stream] | None
) -> bool:
    """Return whether the index or the container's structure continues past the end of the file, or reading ended before it.

    ``failed`` is whether the last frame could not be decoded.
    """
    name, size = _format_name(container), path.stat().st_size
    if failed and not declares_end(container):
        return True
    entries = stream.index_entries
    if len(entries) and entries[-1].pos + entries[-1].size > size:
        return True
    structure = STRUCTURES.get(name)
    if structure is not None and last_packet is not None and last_packet.pos is not None:
        with path.open("rb") as file:
            if not structure.is_contiguous_to_end(file, last_packet, size):
                return True
    return is_cut(container, path)


def declares_end(container: InputContainer) -> bool:
    """Return whether the container's format records its end."""
    return _format_name(container) in ENDED_FORMATS


def is_cut(container: InputContainer, path: Path) -> bool:
    """Return whether the container's structure continues past the end of the file."""
    structure = STRUCTURES.get(_format_name(container))
    if structure is None:
        return False
    with path.open("rb") as file:
        return structure.is_cut(file, path.stat().st_size)


def is_broken_between(
    container: InputContainer, path: Path, packet: Packet[Stream] | None, following: Packet[Stream]
) -> bool:
    """Return whether the file's structure does not lead from a packet to the following one of its stream.

    Without ``packet``, from the start of the file; MPEG-TS may start anywhere. Demuxers skip what they cannot read without an
    error.
    """
    structure, start = STRUCTURES.get(_format_name(container)), 0 if packet is None else packet.pos
    if structure is None or following.pos is None or start is None or start >= following.pos:
        return False
    with path.open("rb") as file:
        return not structure.is_contiguous(file, packet, following)


def _format_name(container: InputContainer) -> str:
    return container.format.name.split(",")[0]
