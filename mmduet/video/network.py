"""Open network streams of a user: cameras over RTSP, and files, playlists and streams over HTTP."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Literal
from urllib.parse import urlsplit

import av
from av.container import InputContainer

from mmduet.redaction import redact
from mmduet.video.connection import Connection, ContainerConnection
from mmduet.video.formats import CONTAINER_FORMATS, refuse_to_open
from mmduet.video.hls_playlist import DEFAULT_FRAME_SIZE
from mmduet.video.http_client import HTTP_SCHEMES, READ_TIMEOUT_SECONDS, HttpClient
from mmduet.video.http_source import HttpFile, open_http, open_http_connection
from mmduet.video.live import LiveVideo, RetryCallback

Transport = Literal["tcp", "udp"]
RTSP_SCHEMES = ("rtsp", "rtsps")
FILE_OPTIONS = {
    "protocol_whitelist": "http,https,tls,tcp,httpproxy",
    "format_whitelist": ",".join(CONTAINER_FORMATS),
}


def is_network_url(name: str) -> bool:
    """Return whether ``name`` is an RTSP or HTTP URL rather than a file name."""
    return name.lower().startswith(tuple(f"{scheme}://" for scheme in (*RTSP_SCHEMES, *HTTP_SCHEMES)))


def open_rtsp(url: str, transport: Transport = "tcp") -> InputContainer:
    """Open a connection to a camera. Raises PyAV's errors, whose messages contain the URL and so may contain a password."""
    options = {"rtsp_transport": transport, "analyzeduration": "1000000", "fflags": "nobuffer"}
    return av.open(url, "r", options=options, timeout=READ_TIMEOUT_SECONDS)


def open_network_stream(
    url: str, transport: Transport = "tcp", on_retry: RetryCallback = lambda reason, pause: None
) -> LiveVideo:
    """Open an RTSP or HTTP stream, an HLS playlist or a file on a web server. Raises ``SourceError``.

    The URL must be trusted: every address may be reached. ``on_retry`` is as in ``LiveVideo``.
    """
    name = redact(url)
    if urlsplit(url).scheme in RTSP_SCHEMES:
        connect = partial(ContainerConnection, name, partial(open_rtsp, url, transport))
        return LiveVideo(name, connect, on_retry=on_retry)
    client = HttpClient()
    opened = open_http(url, client, DEFAULT_FRAME_SIZE)
    if isinstance(opened, HttpFile):
        open_file = _file_opener(opened, client.max_bytes)
        return LiveVideo(name, lambda: ContainerConnection(name, open_file, is_file=True))
    reconnect = partial(open_http_connection, url, client, DEFAULT_FRAME_SIZE)
    return LiveVideo(name, first_then(opened, reconnect), on_retry=on_retry)


def first_then(first: Connection, reconnect: Callable[[], Connection]) -> Callable[[], Connection]:
    """Return a function that returns ``first`` once, and then what ``reconnect`` returns."""
    connections = [first]
    return lambda: connections.pop() if connections else reconnect()


def _file_opener(file: HttpFile, max_bytes: int) -> Callable[[], InputContainer]:
    """Return a function that opens a file on a web server, whose parts FFmpeg requests as it needs them.

    Of a file of unknown length no parts can be requested; it is downloaded into memory.
    """
    with closing(file.body):
        if file.body.length is not None:
            return lambda: av.open(file.requested_url, "r", options=FILE_OPTIONS, timeout=READ_TIMEOUT_SECONDS)
        data = b"".join(file.read(max_bytes))
    return lambda: av.open(io.BytesIO(data), "r", options=FILE_OPTIONS, io_open=refuse_to_open)
