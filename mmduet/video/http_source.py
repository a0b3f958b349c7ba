"""Tell from an HTTP response what it is: a file, an HLS playlist, MJPEG images, or an endless stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from time import monotonic

import av

from mmduet.errors import SourceError
from mmduet.redaction import redact
from mmduet.video.body_reader import BodyReader
from mmduet.video.connection import Connection, StreamFrame, decode_stream
from mmduet.video.damage import DamageLog
from mmduet.video.formats import CONTAINER_FORMATS, refuse_to_open
from mmduet.video.hls import HlsConnection
from mmduet.video.hls_playlist import is_playlist
from mmduet.video.http_client import FETCH_TIMEOUT_SECONDS, HttpClient, HttpResponse
from mmduet.video.mjpeg import MjpegConnection

PROBE_SECONDS = 1.5
"""A body of unknown length that is complete after this time is a file."""
FAST_BYTES = 8 << 20
"""A body of unknown length of which this much arrives in that time is not live, but it may be too large to be stored."""
STREAM_OPTIONS = {"format_whitelist": ",".join(CONTAINER_FORMATS), "analyzeduration": "1000000"}


@dataclass(frozen=True)
class HttpFile:
    """A response that is a file, whose body is read or requested again."""

    requested_url: str
    body: BodyReader

    def read(self, max_bytes: int) -> Iterator[bytes]:
        """Yield the body. Raises ``SourceError`` if it is larger than ``max_bytes`` or takes longer than 30 s."""
        received, deadline = 0, monotonic() + FETCH_TIMEOUT_SECONDS
        while chunk := self.body.read(1 << 20):
            received += len(chunk)
            if received > max_bytes:
                raise SourceError(f"{redact(self.requested_url)} is larger than {max_bytes} bytes; use a smaller file")
            if monotonic() > deadline:
                raise SourceError(
                    f"{redact(self.requested_url)} took longer than {FETCH_TIMEOUT_SECONDS:.0f} s; use a smaller file"
                )
            yield chunk


class HttpStreamConnection:
    """A body without an announced length, decoded while it arrives. With ``live`` false it arrives faster than it is shown."""

    duration = fps = None
    keeps_unread = False

    def __init__(self, name: str, body: BodyReader, *, live: bool) -> None:
        self._name, self._body, self.live = name, body, live
        self.ended = False

    def frames(self, log: DamageLog, start: float) -> Iterator[StreamFrame]:
        """Yield the good frames."""
        with (
            closing(self._body),
            av.open(self._body, "r", options=STREAM_OPTIONS, io_open=refuse_to_open) as container,
        ):
            name, arrived_at = redact(self._name), self._body.arrived_at
            yield from decode_stream(container, name, log, start, arrived_at)
            self.ended = self._body.ended_properly

    def close(self) -> None:
        """Break the connection; may be called from another thread."""
        self._body.abort()


def open_http(url: str, client: HttpClient, frame_size: int) -> Connection | HttpFile:
    """Request a URL and return what is there; blocking. Raises ``SourceError``.

    Of an HLS master playlist the variant that is large enough for frames of ``frame_size`` pixels is chosen.
    """
    response = client.open(url)
    try:
        opened = _classify(url, response, client, frame_size)
    except BaseException:
        response.close()
        raise
    if isinstance(opened, HlsConnection):
        response.close()
    return opened


def open_http_connection(url: str, client: HttpClient, frame_size: int) -> Connection:
    """Return a connection to a stream. Raises ``SourceError`` if there is a file instead."""
    opened = open_http(url, client, frame_size)
    if isinstance(opened, HttpFile):
        opened.body.close()
        raise SourceError(f"{redact(url)} is a file now, not a stream; open it again")
    return opened


def _classify(url: str, response: HttpResponse, client: HttpClient, frame_size: int) -> Connection | HttpFile:
    body = BodyReader(response)
    while len(body.buffered) < 64 and body.fill():
        pass
    head = bytes(body.buffered[:64])
    if is_playlist(head) or "mpegurl" in response.content_type:
        return HlsConnection(url, client, frame_size, response.url, body)
    if _is_mjpeg(head, response):
        return MjpegConnection(url, body, response.content_type)
    if response.length is not None or not head:
        return HttpFile(url, body)
    deadline = monotonic() + PROBE_SECONDS
    while monotonic() < deadline and len(body.buffered) < FAST_BYTES:
        if not body.fill():
            return HttpFile(url, body)
    if _needs_its_end(body.buffered):
        return HttpFile(url, body)
    return HttpStreamConnection(url, body, live=len(body.buffered) < FAST_BYTES)


def _is_mjpeg(head: bytes, response: HttpResponse) -> bool:
    if response.content_type.startswith("multipart/"):
        return True
    return response.length is None and (
        head.startswith(b"\xff\xd8\xff") or any(name in response.content_type for name in ("mjpeg", "motion-jpeg"))
    )


def _needs_its_end(data: bytearray) -> bool:
    """Return whether this is an MP4 whose index comes after its media, so that it cannot be decoded while it arrives."""
    position = 0
    if data[4:8] != b"ftyp":
        return False
    while position + 8 <= len(data):
        size, kind = int.from_bytes(data[position : position + 4], "big"), bytes(data[position + 4 : position + 8])
        if kind in (b"mdat", b"moov") or size < 8:
            return kind == b"mdat"
        position += size
    return False
