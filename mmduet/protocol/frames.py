"""Frames on the wire: the 16-byte header of a binary message, and pictures in base64; never decodes a picture.

The header is little-endian: u8 version, u8 kind, u16 reserved, u32 seq, u64 pts in microseconds. Then the picture's bytes;
those of kind RAW begin with u16 width and u16 height.
"""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from enum import IntEnum

from mmduet.errors import ProtocolError
from mmduet.protocol.client_events import MOST_PTS

VERSION = 1
HEADER = struct.Struct("<BBHIQ")
SIZE = struct.Struct("<HH")


class Kind(IntEnum):
    """How a picture is encoded."""

    JPEG = 1
    PNG = 2
    WEBP = 3
    RAW = 4  # RGB, a byte a channel, row by row


MEDIA_TYPES = {"image/jpeg": Kind.JPEG, "image/jpg": Kind.JPEG, "image/png": Kind.PNG, "image/webp": Kind.WEBP}


@dataclass(frozen=True)
class Picture:
    """A picture as it was sent: ``data`` in the encoding of ``kind``; ``width`` and ``height`` are known of RAW alone."""

    kind: Kind
    data: bytes
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class WireFrame:
    """A picture with its place; ``seq`` is None where the sender left it to the receiver. ``pts`` in microseconds."""

    seq: int | None
    pts: int
    picture: Picture


def pack(seq: int, pts: int, picture: Picture) -> bytes:
    """The binary message of a frame."""
    size = SIZE.pack(picture.width, picture.height) if picture.kind is Kind.RAW else b""
    return HEADER.pack(VERSION, picture.kind, 0, seq, pts) + size + picture.data


def unpack(message: bytes) -> WireFrame:
    """The frame of a binary message. Raises ``ProtocolError`` (``invalid_frame``) for anything else."""
    if len(message) < HEADER.size:
        raise _invalid(f"a binary message of {len(message)} bytes has no room for its header of {HEADER.size}")
    version, kind, reserved, seq, pts = HEADER.unpack_from(message)
    if version != VERSION:
        raise _invalid(f"version {version} of the frame header is not known; send version {VERSION}")
    if kind not in list(Kind):
        raise _invalid(f"kind {kind} is no encoding; send 1 JPEG, 2 PNG, 3 WebP or 4 raw RGB")
    if reserved and kind != Kind.RAW:  # some senders of raw frames put the width here as well
        raise _invalid(f"the reserved bytes are {reserved}; send 0")
    if pts > MOST_PTS:
        raise _invalid(f"pts {pts} is beyond {MOST_PTS} microseconds; count from the start of the stream")
    return WireFrame(seq, pts, _picture(Kind(kind), message[HEADER.size :]))


def from_base64(text: str, param: str) -> Picture:
    """A picture from base64 or a data URL. Raises ``ProtocolError`` naming ``param``."""
    kind, body = _media_type(text, param)
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProtocolError(f"{param} is no base64 ({error}); encode it anew", "invalid_value", param=param) from None
    found = kind or sniffed(data)
    if found is None or not data:
        raise ProtocolError(f"{param} is no JPEG, PNG or WebP; send one of these", "invalid_value", param=param)
    return Picture(found, data)


def to_data_url(picture: Picture) -> str:
    """The data URL of an encoded picture."""
    name = {Kind.JPEG: "jpeg", Kind.PNG: "png", Kind.WEBP: "webp"}[picture.kind]
    return f"data:image/{name};base64,{base64.b64encode(picture.data).decode()}"


def sniffed(data: bytes) -> Kind | None:
    """The encoding that the first bytes tell, None if it is none of ours."""
    if data.startswith(b"\xff\xd8\xff"):
        return Kind.JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return Kind.PNG
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Kind.WEBP
    return None


def _media_type(text: str, param: str) -> tuple[Kind | None, str]:
    if not text.startswith("data:"):
        return None, text
    head, comma, body = text.partition(",")
    name, _, encoding = head.removeprefix("data:").partition(";")
    if name not in MEDIA_TYPES or encoding != "base64" or not comma:
        raise ProtocolError(
            f"{param} begins {head[:60]!r}; send data:image/jpeg;base64, or another of {', '.join(MEDIA_TYPES)}",
            "invalid_value",
            param=param,
        )
    return MEDIA_TYPES[name], body


def _picture(kind: Kind, body: bytes) -> Picture:
    if not body:
        raise _invalid("the frame has no picture after its header")
    if kind is not Kind.RAW:
        return Picture(kind, body)
    if len(body) < SIZE.size:
        raise _invalid("a raw frame begins with its width and height, two bytes each")
    width, height = SIZE.unpack_from(body)
    data = body[SIZE.size :]
    if width * height * 3 != len(data) or not data:
        raise _invalid(f"a raw frame of {width}x{height} takes {width * height * 3} bytes, {len(data)} came")
    return Picture(kind, data, width, height)


def _invalid(message: str) -> ProtocolError:
    return ProtocolError(message, "invalid_frame")
