"""Encoding of frames on the wire: binary messages with a 16-byte header, and images in base64. Images are not decoded.

The header is little-endian: u8 version, u8 image format, u16 reserved, u32 seq, u64 pts in microseconds. The image follows;
that of a RAW frame begins with u16 width and u16 height.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from enum import IntEnum

from mmduet.errors import ProtocolError
from mmduet.protocol.client_events import MAX_PTS
from mmduet.text import decode_base64

HEADER_VERSION = 1
HEADER = struct.Struct("<BBHIQ")
RAW_SIZE = struct.Struct("<HH")


class ImageFormat(IntEnum):
    """Encoding of an image. The values are those of the header."""

    JPEG = 1
    PNG = 2
    WEBP = 3
    RAW = 4  # RGB, one byte per channel, row by row


MEDIA_TYPES = {
    "image/jpeg": ImageFormat.JPEG,
    "image/jpg": ImageFormat.JPEG,
    "image/png": ImageFormat.PNG,
    "image/webp": ImageFormat.WEBP,
}


@dataclass(frozen=True)
class EncodedImage:
    """An image as it is sent. ``width`` and ``height`` are set for RAW only."""

    format: ImageFormat
    data: bytes
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class WireFrame:
    """A frame of a message. ``pts`` is in microseconds. ``seq`` is None if the receiver assigns it."""

    seq: int | None
    pts: int
    image: EncodedImage


def pack_frame(seq: int, pts: int, image: EncodedImage) -> bytes:
    """Return the binary message for a frame."""
    size = RAW_SIZE.pack(image.width, image.height) if image.format is ImageFormat.RAW else b""
    return HEADER.pack(HEADER_VERSION, image.format, 0, seq, pts) + size + image.data


def unpack_frame(message: bytes) -> WireFrame:
    """Return the frame in a binary message. Raises ``ProtocolError`` with code ``invalid_frame`` if it is malformed."""
    if len(message) < HEADER.size:
        raise _invalid_frame(
            f"a binary message must have at least {HEADER.size} bytes for its header, got {len(message)}"
        )
    version, kind, reserved, seq, pts = HEADER.unpack_from(message)
    if version != HEADER_VERSION:
        raise _invalid_frame(f"frame header version must be {HEADER_VERSION}, got {version}")
    if kind not in list(ImageFormat):
        raise _invalid_frame(
            f"kind {kind} is not a valid image format; send 1 (JPEG), 2 (PNG), 3 (WebP) or 4 (raw RGB)"
        )
    if reserved and kind != ImageFormat.RAW:  # some clients repeat the width of raw frames here
        raise _invalid_frame(f"the reserved header bytes must be 0, got {reserved}")
    if pts > MAX_PTS:
        raise _invalid_frame(
            f"pts must be at most {MAX_PTS} microseconds, got {pts}; count from the start of the stream"
        )
    return WireFrame(seq, pts, _parse_image(ImageFormat(kind), message[HEADER.size :]))


def image_from_base64(text: str, param: str) -> EncodedImage:
    """Return the image in base64 or in a data URL. Raises ``ProtocolError`` for parameter ``param``."""
    declared, body = _split_data_url(text, param)
    try:
        data = decode_base64(body)
    except ValueError as error:
        raise ProtocolError(
            f"{param} is not valid base64 ({error}); encode it again", "invalid_value", param=param
        ) from None
    image_format = declared or detect_format(data)
    if image_format is None or not data:
        raise ProtocolError(
            f"{param} is not a JPEG, PNG or WebP image; send one of these formats", "invalid_value", param=param
        )
    return EncodedImage(image_format, data)


def to_data_url(image: EncodedImage) -> str:
    """Return the data URL of an encoded image."""
    name = {ImageFormat.JPEG: "jpeg", ImageFormat.PNG: "png", ImageFormat.WEBP: "webp"}[image.format]
    return f"data:image/{name};base64,{base64.b64encode(image.data).decode()}"


def detect_format(data: bytes) -> ImageFormat | None:
    """Return the format that the first bytes indicate, or None for any other format."""
    if data.startswith(b"\xff\xd8\xff"):
        return ImageFormat.JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return ImageFormat.PNG
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ImageFormat.WEBP
    return None


def _split_data_url(text: str, param: str) -> tuple[ImageFormat | None, str]:
    if text[:5].lower() != "data:":
        return None, text
    head, comma, body = text.partition(",")
    name, _, encoding = head[5:].replace(" ", "").lower().partition(";")
    if name not in MEDIA_TYPES or encoding != "base64" or not comma:
        raise ProtocolError(
            f"{param} begins with {head[:60]!r}; expected a base64 data URL of {', '.join(MEDIA_TYPES)}",
            "invalid_value",
            param=param,
        )
    return MEDIA_TYPES[name], body


def _parse_image(image_format: ImageFormat, body: bytes) -> EncodedImage:
    if not body:
        raise _invalid_frame("the frame has no image after its header")
    if image_format is not ImageFormat.RAW:
        return EncodedImage(image_format, body)
    if len(body) < RAW_SIZE.size:
        raise _invalid_frame("a raw frame must begin with its width and height, two bytes each")
    width, height = RAW_SIZE.unpack_from(body)
    data = body[RAW_SIZE.size :]
    if width * height * 3 != len(data) or not data:
        raise _invalid_frame(f"a raw frame of {width}x{height} must have {width * height * 3} bytes, got {len(data)}")
    return EncodedImage(image_format, data, width, height)


def _invalid_frame(message: str) -> ProtocolError:
    return ProtocolError(message, "invalid_frame")
