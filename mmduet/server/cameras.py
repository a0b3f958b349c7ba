"""Streams that a client wants watched, opened as the guard allows: HLS, RTSP and this machine's own webcams."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urljoin, urlsplit

import av
from av.container import InputContainer

from mmduet.errors import SourceError
from mmduet.server.guard import PORTS, Guard
from mmduet.server.rtsp_relay import RedirectError, RtspRelay
from mmduet.video.live import LiveVideo
from mmduet.video.rtsp import SCHEMES, Transport, open_rtsp, shown
from mmduet.video.source import LiveSource
from mmduet.video.webcam import Webcam, is_webcam

PLAYLIST = ".m3u8"
MOST_REDIRECTS = 5
HLS_SILENCE_SECONDS = 30.0  # longer than a segment usually is
HLS = {
    "protocol_whitelist": "http,https",
    "http_persistent": "0",  # FFmpeg would take our files for its own connections
    "http_multiple": "0",
    "analyzeduration": "500000",  # microseconds: a live stream is not waited for to be known better
}


def is_camera(url: str) -> bool:
    """Whether it is a stream rather than a file."""
    parts = urlsplit(url)
    return is_webcam(url) or parts.scheme in SCHEMES or parts.path.endswith(PLAYLIST)


def open_camera(url: str, transport: Transport, guard: Guard, fetch: Callable[[str], bytes]) -> LiveSource:
    """The stream, its first picture seen. Blocks. Raises ``SourceError``."""
    if is_webcam(url):
        guard.check_webcam(url)
        return Webcam(url)
    if urlsplit(url).scheme in SCHEMES:
        return LiveVideo(shown(url), lambda: rtsp(url, transport, guard))
    return hls(url, fetch)


@contextmanager
def rtsp(url: str, transport: Transport, guard: Guard) -> Iterator[InputContainer]:
    """A camera's stream, its address checked each time it is connected to, and redirects with it. Raises ``SourceError``."""
    for _ in range(MOST_REDIRECTS + 1):
        address = guard.check_url(url, SCHEMES)
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme == "rtsps" else None
        with RtspRelay(address, parts.port or PORTS[parts.scheme], host) as relay:
            user = parts.netloc.rpartition("@")[0]
            netloc = f"{user}@127.0.0.1:{relay.port}" if user else f"127.0.0.1:{relay.port}"
            try:
                container = open_rtsp(parts._replace(scheme="rtsp", netloc=netloc).geturl(), transport)
            except (av.FFmpegError, ValueError) as error:
                if isinstance(relay.fault, RedirectError):
                    url = urljoin(url, relay.fault.location)
                    continue
                raise relay.fault or error from None
            with container:
                yield container
            return
    raise SourceError(f"{shown(url)} redirects more than {MOST_REDIRECTS} times; give the last address")


def hls(url: str, fetch: Callable[[str], bytes]) -> LiveVideo:
    """A playlist: it and all that it names is fetched by ``fetch``, which checks it, never by FFmpeg."""
    faults: list[SourceError] = []

    def fetched(address: str, flags: int, options: dict[str, str]) -> io.BytesIO:
        try:
            return io.BytesIO(fetch(address))
        except SourceError as error:
            faults.append(error)
            raise

    def opened() -> InputContainer:
        faults.clear()
        try:
            return av.open(url, "r", io_open=fetched, options=HLS, timeout=HLS_SILENCE_SECONDS)
        except (av.FFmpegError, ValueError) as error:
            raise (faults[0] if faults else error) from None

    return LiveVideo(shown(url), opened)
