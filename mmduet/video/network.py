"""Open network streams with FFmpeg, over TCP or UDP, with a read timeout."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

import av
from av.container import InputContainer

from mmduet.redaction import redact
from mmduet.video.live import LiveVideo

Transport = Literal["tcp", "udp"]
RTSP_SCHEMES = ("rtsp", "rtsps")
HTTP_SCHEMES = ("http", "https")
READ_TIMEOUT_SECONDS = 10.0  # seconds without data after which a connection counts as broken


def is_network_url(name: str) -> bool:
    """Return whether ``name`` is an RTSP or HTTP URL rather than a file name."""
    return urlsplit(name).scheme in (*RTSP_SCHEMES, *HTTP_SCHEMES)


def open_rtsp(url: str, transport: Transport = "tcp") -> InputContainer:
    """Open a connection to a camera. Raises PyAV's errors, whose messages contain the URL and so may contain a password."""
    options = {"rtsp_transport": transport, "analyzeduration": "1000000", "fflags": "nobuffer"}
    return av.open(url, "r", options=options, timeout=READ_TIMEOUT_SECONDS)


def open_network_stream(url: str, transport: Transport = "tcp") -> LiveVideo:
    """Open an RTSP or HLS stream or a file on a web server. The URL must be trusted. Raises ``SourceError``."""
    if urlsplit(url).scheme in RTSP_SCHEMES:
        return LiveVideo(redact(url), lambda: open_rtsp(url, transport))
    return LiveVideo(redact(url), lambda: av.open(url, "r", timeout=READ_TIMEOUT_SECONDS))
