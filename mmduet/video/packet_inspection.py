"""Read from a packet's header whether decoding can start with it, and whether other frames are predicted from its frame."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

START_CODE = re.compile(b"\0\0\1")
H264_SLICES, H264_IDR = range(1, 6), 5
HEVC_SLICES, HEVC_RANDOM_ACCESS = range(32), range(16, 22)  # BLA, IDR and CRA pictures
HEVC_NOT_REFERENCED = range(0, 16, 2)  # within their temporal layer
AV1_SEQUENCE_HEADER = 1
INTRA_CODECS = frozenset({"mjpeg", "prores", "dnxhd", "png"})


@dataclass(frozen=True)
class PacketTraits:
    """What a packet's header says about its frame.

    Attributes:
        starts_group: Whether this frame and all frames that are shown after it can be decoded without earlier packets.
        is_disposable: Whether frames of the same temporal layer are not predicted from this frame.
        temporal_layer: Frames of a higher layer may be predicted from it; 0 for codecs without layers.
    """

    starts_group: bool = False
    is_disposable: bool = False
    temporal_layer: int = 0


Inspector: TypeAlias = Callable[[bytes, bool], PacketTraits]
"""Called with a packet's data and whether the container marks it as a key frame."""

OTHER = PacketTraits()
INTRA = PacketTraits(starts_group=True, is_disposable=True)


def make_inspector(codec: str, extradata: bytes | None) -> Inspector | None:
    """Return the inspector for FFmpeg's ``codec`` name; None for codecs whose packets are not known well enough.

    ``extradata`` is the decoder's configuration, as the container stores it.
    """
    stored = extradata or b""
    has_lengths = stored[:1] == b"\1"  # in front of each unit, as in MP4 and Matroska, instead of start codes
    if codec == "h264":
        return partial(_inspect_h264, (stored[4] & 3) + 1 if has_lengths and len(stored) > 4 else 0)
    if codec == "hevc":
        return partial(_inspect_hevc, (stored[21] & 3) + 1 if has_lengths and len(stored) > 21 else 0)
    if codec in INTRA_CODECS:
        return lambda data, is_key: INTRA
    return {"vp9": _inspect_vp9, "av1": _inspect_av1}.get(codec)


def _inspect_h264(length_size: int, data: bytes, is_key: bool) -> PacketTraits:
    headers = [data[at] for at in _unit_starts(data, length_size) if data[at] & 31 in H264_SLICES]
    starts_group = all(header & 31 == H264_IDR for header in headers)
    is_disposable = all(header >> 5 & 3 == 0 for header in headers)  # nal_ref_idc
    return PacketTraits(starts_group, is_disposable) if headers else OTHER


def _inspect_hevc(length_size: int, data: bytes, is_key: bool) -> PacketTraits:
    units = [data[at : at + 2] for at in _unit_starts(data, length_size)]
    slices = [(unit[0] >> 1, unit[1] & 7) for unit in units if _is_hevc_base_slice(unit)]
    if not slices:
        return OTHER
    starts_group = all(kind in HEVC_RANDOM_ACCESS for kind, _ in slices)
    is_disposable = all(kind in HEVC_NOT_REFERENCED for kind, _ in slices)
    return PacketTraits(starts_group, is_disposable, max(layer for _, layer in slices) - 1)


def _is_hevc_base_slice(unit: bytes) -> bool:
    """Return whether a unit, of which the header is given, is a slice of the only layer that is decoded."""
    return len(unit) == 2 and unit[0] >> 1 in HEVC_SLICES and not (unit[0] & 1 or unit[1] >> 3)


def _inspect_vp9(data: bytes, is_key: bool) -> PacketTraits:
    if not is_key or not data or data[0] >> 6 != 2:
        return OTHER
    profile = data[0] >> 5 & 1 | data[0] >> 3 & 2
    flags = data[0] >> (1 if profile == 3 else 2)  # show_existing_frame, frame_type
    return PacketTraits(starts_group=flags & 3 == 0)


def _inspect_av1(data: bytes, is_key: bool) -> PacketTraits:
    return PacketTraits(starts_group=is_key and AV1_SEQUENCE_HEADER in _av1_unit_types(data))


def _av1_unit_types(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        header = data[at]
        yield header >> 3 & 15
        if not header & 2:  # without a size, it is the last unit
            return
        size, at = _read_leb128(data, at + (2 if header & 4 else 1))
        at += size


def _read_leb128(data: bytes, at: int) -> tuple[int, int]:
    """Return a number and the position after it."""
    value = 0
    for digit, byte in enumerate(data[at : at + 8]):
        value |= (byte & 127) << 7 * digit
        if not byte & 128:
            return value, at + digit + 1
    return value, len(data)


def _unit_starts(data: bytes, length_size: int) -> Sequence[int]:
    """Return where the headers of the units of H.264 or HEVC are; ``length_size`` 0 if start codes separate them."""
    if not length_size:
        return [found.end() for found in START_CODE.finditer(data) if found.end() < len(data)]
    starts, at = [], 0
    while at + length_size < len(data):
        starts.append(at + length_size)
        at += length_size + int.from_bytes(data[at : at + length_size])
    return starts
