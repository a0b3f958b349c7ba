"""Read a stream of JPEG images over HTTP (MJPEG, multipart or raw), timed by their arrival because it has no timestamps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import simplejpeg

from mmduet.errors import SourceError
from mmduet.redaction import redact
from mmduet.video.body_reader import BodyReader
from mmduet.video.connection import StreamFrame
from mmduet.video.damage import DamageLog
from mmduet.video.image import decode_image

MAX_IMAGE_BYTES = 16 << 20
_END_OF_IMAGE, _START_OF_IMAGE = 0xD9, 0xD8
_STAND_ALONE_MARKERS = frozenset({0x00, 0x01, *range(0xD0, 0xD8)})  # an escaped 0xFF, and markers without a length


_BOUNDARY = re.compile(r'boundary="?-*([^";]+)')
_MAX_END_BYTES = 256  # of the last boundary and the white space after it


class JpegSplitter:
    """Splits a byte stream into JPEG images; what stands between them, such as multipart headers, is skipped."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0  # parsed up to here; 0 outside an image

    @property
    def is_between_images(self) -> bool:
        """Whether no image has begun that is not complete."""
        return self._position == 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the images that are complete with ``data``. Raises ValueError if one is longer than ``MAX_IMAGE_BYTES``."""
        self._buffer += data
        while (end := self._find_end()) is not None:
            yield bytes(self._buffer[:end])
            del self._buffer[:end]
            self._position = 0
        if len(self._buffer) > MAX_IMAGE_BYTES:
            raise ValueError(f"an image has more than {MAX_IMAGE_BYTES} bytes")

    def _find_end(self) -> int | None:
        """Return the end of the image at the buffer's start, or None if more data is needed."""
        buffer = self._buffer
        if self._position == 0:
            start = buffer.find(b"\xff\xd8\xff")
            del buffer[: start if start >= 0 else max(len(buffer) - 2, 0)]
            if start < 0:
                return None
            self._position = 2
        while self._position + 1 < len(buffer):
            at = buffer.find(0xFF, self._position)
            if at < 0 or at + 1 >= len(buffer):
                self._position = len(buffer) if at < 0 else at
                return None
            marker = buffer[at + 1]
            if marker == _END_OF_IMAGE:
                return at + 2
            if marker == _START_OF_IMAGE:  # the previous image was cut off
                del buffer[:at]
                self._position = 2
            elif marker == 0xFF or marker in _STAND_ALONE_MARKERS:
                self._position = at + (1 if marker == 0xFF else 2)
            elif at + 4 > len(buffer):
                self._position = at
                return None
            else:  # a segment, which may contain the markers of a thumbnail
                self._position = at + 2 + int.from_bytes(buffer[at + 2 : at + 4], "big")
        return None


class MjpegConnection:
    """The images of an HTTP response. The boundary in its ``content_type`` shows where the stream ends."""

    live, keeps_unread = True, False
    duration = fps = None

    def __init__(self, name: str, body: BodyReader, content_type: str) -> None:
        self._name, self._body, self._end_mark = name, body, _end_mark(content_type)
        self.ended = False

    def frames(self, log: DamageLog, start: float) -> Iterator[StreamFrame]:
        """Yield the images, timed by their arrival. Raises ``SourceError``."""
        first: float | None = None
        with closing(self._body):
            for arrival, image in self._images():
                first = arrival if first is None else first
                time = start + arrival - first
                if (size := _size(image)) is None:
                    log.add_frames(1, time, time)
                else:
                    yield StreamFrame(time, *size, partial(decode_image, image), "mjpeg")
            self.ended = self.ended or self._body.ended_properly

    def _images(self) -> Iterator[tuple[float, bytes]]:
        """Yield each image and the time at which it was complete, up to the last boundary."""
        splitter, tail = JpegSplitter(), b""
        while not self.ended and (data := self._body.read(1 << 16)):
            arrival = self._body.last_read_arrived_at
            try:
                for image in splitter.feed(data):
                    yield arrival, image
            except ValueError as error:
                raise SourceError(f"{redact(self._name)} is not an MJPEG stream ({error}); check the address") from None
            tail = (tail + data)[-_MAX_END_BYTES:]
            self.ended = splitter.is_between_images and _ends_with(tail, self._end_mark)

    def close(self) -> None:
        """Break the connection; may be called from another thread."""
        self._body.abort()


def _end_mark(content_type: str) -> bytes | None:
    """Return the last boundary of a multipart body, in lower case; cameras often declare it with the dashes before it."""
    found = _BOUNDARY.search(content_type.lower())
    return f"--{found[1].rstrip()}--".encode() if found else None


def _ends_with(data: bytes, mark: bytes | None) -> bool:
    return mark is not None and data.rstrip().lower().endswith(mark)


def _size(image: bytes) -> tuple[int, int] | None:
    """Return width and height, or None for a damaged header."""
    try:
        height, width = simplejpeg.decode_jpeg_header(image)[:2]
    except ValueError:
        return None
    return width, height
