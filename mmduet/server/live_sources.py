"""Opens the live sources that the URL policy allows: HLS playlists, RTSP cameras and webcams of this machine."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urljoin, urlsplit

import av
from av.container import InputContainer

from mmduet.errors import SourceError
from mmduet.redaction import redact
from mmduet.server.rtsp_proxy import RedirectError, RtspProxy
from mmduet.server.url_policy import DEFAULT_PORTS, UrlPolicy
from mmduet.video.live import LiveVideo
from mmduet.video.network import RTSP_SCHEMES, Transport, open_rtsp
from mmduet.video.source import LiveSource
from mmduet.video.webcam import Webcam, is_webcam

PLAYLIST_SUFFIX = ".m3u8"
MAX_REDIRECTS = 5
HLS_TIMEOUT_SECONDS = 30.0  # longer than a usual segment
HLS_OPTIONS = {
    "protocol_whitelist": "http,https",
    "http_persistent": "0",  # FFmpeg would otherwise treat our in-memory files as its own connections
    "http_multiple": "0",
    "analyzeduration": "500000",  # microseconds; do not delay a live stream to probe it further
}


def is_live_source(url: str) -> bool:
    """Return whether ``url`` names a stream rather than a file; False for an invalid URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return is_webcam(url) or parts.scheme in RTSP_SCHEMES or parts.path.endswith(PLAYLIST_SUFFIX)


def open_live_source(url: str, transport: Transport, policy: UrlPolicy, fetch: Callable[[str], bytes]) -> LiveSource:
    """Open a stream and wait for its first frame; blocking. Raises ``SourceError``.

    ``fetch`` downloads a playlist or segment and checks its URL.
    """
    if is_webcam(url):
        policy.check_webcam(url)
        return Webcam(url)
    if urlsplit(url).scheme in RTSP_SCHEMES:
        return LiveVideo(redact(url), lambda: open_rtsp_container(url, transport, policy))
    return open_hls(url, fetch)


@contextmanager
def open_rtsp_container(url: str, transport: Transport, policy: UrlPolicy) -> Iterator[InputContainer]:
    """Open an RTSP stream through an ``RtspProxy``, checking its address and every redirect. Raises ``SourceError``."""
    for _ in range(MAX_REDIRECTS + 1):
        address = policy.check_url(url, RTSP_SCHEMES)
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme == "rtsps" else None
        with RtspProxy(address, parts.port or DEFAULT_PORTS[parts.scheme], host) as proxy:
            user = parts.netloc.rpartition("@")[0]
            netloc = f"{user}@127.0.0.1:{proxy.port}" if user else f"127.0.0.1:{proxy.port}"
            try:
                container = open_rtsp(parts._replace(scheme="rtsp", netloc=netloc).geturl(), transport)
            except (av.FFmpegError, ValueError) as error:
                if isinstance(proxy.error, RedirectError):
                    url = urljoin(url, proxy.error.location)
                    continue
                raise proxy.error or error from None
            with container:
                yield container
            return
    raise SourceError(f"{redact(url)} redirects more than {MAX_REDIRECTS} times; use the final address")


def open_hls(url: str, fetch: Callable[[str], bytes]) -> LiveVideo:
    """Open an HLS playlist. FFmpeg accesses no network: ``fetch`` downloads the playlist and everything it names."""
    errors: list[SourceError] = []

    def io_open(address: str, flags: int, options: dict[str, str]) -> io.BytesIO:
        try:
            return io.BytesIO(fetch(address))
        except SourceError as error:
            errors.append(error)
            raise

    def connect() -> InputContainer:
        errors.clear()
        try:
            return av.open(url, "r", io_open=io_open, options=HLS_OPTIONS, timeout=HLS_TIMEOUT_SECONDS)
        except (av.FFmpegError, ValueError) as error:
            raise (errors[0] if errors else error) from None

    return LiveVideo(redact(url), connect)
