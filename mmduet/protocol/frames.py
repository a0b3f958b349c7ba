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
from mmduet.protocol.client_events import MAX_PTS

HEADER_VERSION = 1
HEADER = struct.Struct("<BBHIQ")
RAW_SIZE = struct.Struct("<HH")


class ImageFormat(IntEnum):
    """How a picture is encoded."""

    JPEG = 1
    PNG = 2
    WEBP = 3
    RAW = 4  # RGB, a byte a channel, row by row


MEDIA_TYPES = {
    "image/jpeg": ImageFormat.JPEG,
    "image/jpg": ImageFormat.JPEG,
    "image/png": ImageFormat.PNG,
    "image/webp": ImageFormat.WEBP,
}


@dataclass(frozen=True)
class EncodedImage:
    """A picture as it was sent: ``data`` in the encoding of ``kind``; ``width`` and ``height`` are known of RAW alone."""

    format: ImageFormat
    data: bytes
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class WireFrame:
    """A picture with its place; ``seq`` is None where the sender left it to the receiver. ``pts`` in microseconds."""

    seq: int | None
    pts: int
    image: EncodedImage


def pack_frame(seq: int, pts: int, image: EncodedImage) -> bytes:
    """The binary message of a frame."""
    size = RAW_SIZE.pack(image.width, image.height) if image.format is ImageFormat.RAW else b""
    return HEADER.pack(HEADER_VERSION, image.format, 0, seq, pts) + size + image.data


def unpack_frame(message: bytes) -> WireFrame:
    """The frame of a binary message. Raises ``ProtocolError`` (``invalid_frame``) for anything else."""
    if len(message) < HEADER.size:
        raise _invalid_frame(f"a binary message of {len(message)} bytes has no room for its header of {HEADER.size}")
    version, kind, reserved, seq, pts = HEADER.unpack_from(message)
    if version != HEADER_VERSION:
        raise _invalid_frame(f"version {version} of the frame header is not known; send version {HEADER_VERSION}")
    if kind not in list(ImageFormat):
        raise _invalid_frame(f"kind {kind} is not a valid encoding; send 1 JPEG, 2 PNG, 3 WebP or 4 raw RGB")
    if reserved and kind != ImageFormat.RAW:  # some senders of raw frames put the width here as well
        raise _invalid_frame(f"the reserved bytes are {reserved}; send 0")
    if pts > MAX_PTS:
        raise _invalid_frame(f"pts {pts} is beyond {MAX_PTS} microseconds; count from the start of the stream")
    return WireFrame(seq, pts, _parse_image(ImageFormat(kind), message[HEADER.size :]))


def image_from_base64(text: str, param: str) -> EncodedImage:
    """A picture from base64 or a data URL. Raises ``ProtocolError`` naming ``param``."""
    kind, body = _split_data_url(text, param)
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProtocolError(
            f"{param} is not valid base64 ({error}); encode it again", "invalid_value", param=param
        ) from None
    found = kind or detect_format(data)
    if found is None or not data:
        raise ProtocolError(f"{param} is no JPEG, PNG or WebP; send one of these", "invalid_value", param=param)
    return EncodedImage(found, data)


def to_data_url(image: EncodedImage) -> str:
    """The data URL of an encoded picture."""
    name = {ImageFormat.JPEG: "jpeg", ImageFormat.PNG: "png", ImageFormat.WEBP: "webp"}[image.format]
    return f"data:image/{name};base64,{base64.b64encode(image.data).decode()}"


def detect_format(data: bytes) -> ImageFormat | None:
    """The encoding that the first bytes tell, None if it is none of ours."""
    if data.startswith(b"\xff\xd8\xff"):
        return ImageFormat.JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return ImageFormat.PNG
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ImageFormat.WEBP
    return None


def _split_data_url(text: str, param: str) -> tuple[ImageFormat | None, str]:
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


def _parse_image(kind: ImageFormat, body: bytes) -> EncodedImage:
    if not body:
        raise _invalid_frame("the frame has no picture after its header")
    if kind is not ImageFormat.RAW:
        return EncodedImage(kind, body)
    if len(body) < RAW_SIZE.size:
        raise _invalid_frame("a raw frame begins with its width and height, two bytes each")
    width, height = RAW_SIZE.unpack_from(body)
    data = body[RAW_SIZE.size :]
    if width * height * 3 != len(data) or not data:
        raise _invalid_frame(f"a raw frame of {width}x{height} takes {width * height * 3} bytes, {len(data)} came")
    return EncodedImage(kind, data, width, height)


def _invalid_frame(message: str) -> ProtocolError:
    return ProtocolError(message, "invalid_frame")
