"""Opens the cameras that the URL policy allows: RTSP cameras and webcams of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urljoin, urlsplit

import av
from av.container import InputContainer

from mmduet.errors import SourceError
from mmduet.redaction import redact
from mmduet.server.rtsp_proxy import RedirectError, RtspProxy
from mmduet.server.url_policy import DEFAULT_PORTS, UrlPolicy
from mmduet.video.connection import Connection, ContainerConnection
from mmduet.video.live import LiveVideo, RetryCallback
from mmduet.video.network import RTSP_SCHEMES, Transport, open_rtsp
from mmduet.video.source import LiveSource
from mmduet.video.webcam import Webcam, is_webcam

MAX_REDIRECTS = 5


def is_camera(url: str) -> bool:
    """Return whether ``url`` names a camera; False for an invalid URL."""
    return is_webcam(url) or url.lower().startswith(tuple(f"{scheme}:" for scheme in RTSP_SCHEMES))


def check_camera(url: str, policy: UrlPolicy) -> None:
    """Raise ``SourceError`` if the policy does not allow this camera; blocking, because it resolves the host."""
    if is_webcam(url):
        policy.check_webcam(url)
    else:
        policy.check_url(url, RTSP_SCHEMES)


def open_camera(url: str, transport: Transport, policy: UrlPolicy, on_retry: RetryCallback) -> LiveSource:
    """Open a camera and wait for its first frame; blocking. Raises ``SourceError``."""
    if is_webcam(url):
        policy.check_webcam(url)
        return Webcam(url)
    name = redact(url)

    def connect() -> Connection:
        return ContainerConnection(name, lambda: open_rtsp_container(url, transport, policy))

    return LiveVideo(name, connect, on_retry=on_retry)


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
