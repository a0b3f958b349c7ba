"""Download over HTTP for video sources: checked addresses and redirects, byte ranges, passwords, and bounded bodies."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

from mmduet.errors import OptionError, SourceError
from mmduet.redaction import redact
from mmduet.text import shorten, to_printable
from mmduet.video.hls_playlist import ByteRange

if TYPE_CHECKING:
    import httpx2

HTTP_SCHEMES = ("http", "https")
MAX_REDIRECTS = 5
FETCH_TIMEOUT_SECONDS = 30.0
READ_TIMEOUT_SECONDS = 10.0  # seconds without data after which a connection counts as broken
DEFAULT_MAX_BYTES = 256 << 20
CheckUrl = Callable[[str, Sequence[str]], str]


class HttpStatusError(SourceError):
    """The server answered with an error status."""

    def __init__(self, url: str, status: int) -> None:
        super().__init__(f"{redact(url)} returned HTTP status {status}{_status_remedy(url, status)}")
        self.status = status


def _status_remedy(url: str, status: int) -> str:
    """Return what a status means, if the address need not be wrong, and what to do about it."""
    if status in (401, 407):
        has_password = _credentials(url)[0] is not None
        return (
            " (user name or password is wrong); check both in the address, and write special characters as %40 for @"
            if has_password
            else " (a password is required); write it into the address, as USER:PASSWORD@ before the host"
        )
    if status == 403:
        return " (access is denied); check the rights of the user, or whether the address has expired"
    if status == 429 or status >= 500:
        return "; the address may be right: try again later"
    return "; check the address"


class HttpResponse:
    """A response whose body is read chunk by chunk; ``url`` is the final address."""

    def __init__(self, url: str, response: httpx2.Response) -> None:
        self.url, self._response = url, response
        self._chunks = response.iter_bytes()
        self.status: int = response.status_code
        self.content_type = response.headers.get("content-type", "").lower()
        self.content_range = response.headers.get("content-range", "")

    @property
    def length(self) -> int | None:
        """The length of the body in bytes, or None if it is not announced."""
        text = self._response.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def has_end_mark(self) -> bool:
        """Whether the end of the body can be distinguished from a broken connection."""
        return self.length is not None or "chunked" in self._response.headers.get("transfer-encoding", "").lower()

    def read_chunk(self) -> bytes:
        """Return the next bytes as they arrive, or no bytes at the end. Raises ``SourceError``."""
        with _http_errors(self.url):
            return next((chunk for chunk in self._chunks if chunk), b"")

    def read_all(self, max_bytes: int) -> bytes:
        """Return the rest of the body. Raises ``SourceError``, also for more than ``max_bytes`` or after 30 s."""
        body, deadline = bytearray(), monotonic() + FETCH_TIMEOUT_SECONDS
        while chunk := self.read_chunk():
            body += chunk
            if len(body) > max_bytes:
                raise SourceError(f"{redact(self.url)} is larger than {max_bytes} bytes; use a smaller file")
            if monotonic() > deadline:
                raise SourceError(
                    f"{redact(self.url)} took longer than {FETCH_TIMEOUT_SECONDS:.0f} s; use a smaller file"
                )
        return bytes(body)

    def abort(self) -> None:
        """Break the connection from another thread, so that a blocked read ends."""
        stream = self._response.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream is not None else None
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._response.close()


class HttpClient:
    """Sends GET requests.

    ``check_url`` returns the IP address to connect to, or raises ``SourceError``; it is called for every URL and redirect.
    Without it every address is allowed. A body that is read at once may have ``max_bytes``.
    """

    def __init__(self, check_url: CheckUrl | None = None, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._check_url, self.max_bytes = check_url, max_bytes

    def open(self, url: str, byte_range: ByteRange | None = None) -> HttpResponse:
        """Return the response to a request, whose status is 200, or 206 for a range. Raises ``SourceError``."""
        original_url = url
        for _ in range(MAX_REDIRECTS + 1):
            with _http_errors(url):
                response = self._send(url, byte_range)
            if response.has_redirect_location:
                response.close()
                with _http_errors(url):
                    url = urljoin(url, response.headers["location"])
                continue
            if response.status_code not in (200, 206) or (response.status_code == 206 and byte_range is None):
                response.close()
                raise HttpStatusError(url, response.status_code)
            return HttpResponse(url, response)
        raise SourceError(f"{redact(original_url)} redirects more than {MAX_REDIRECTS} times; use the final address")

    def fetch(self, url: str, max_bytes: int | None = None) -> bytes:
        """Return what is at a URL. Raises ``SourceError``."""
        with closing(self.open(url)) as response:
            return response.read_all(self.max_bytes if max_bytes is None else max_bytes)

    def _send(self, url: str, byte_range: ByteRange | None) -> httpx2.Response:
        """Send one request; a password is sent only if the server asks for it."""
        import httpx2

        response = self._send_once(url, byte_range, None)
        user, password = _credentials(url)
        if response.status_code == 401 and user is not None:
            response.close()
            digest = response.headers.get("www-authenticate", "").lower().startswith("digest")
            auth = httpx2.DigestAuth(user, password) if digest else httpx2.BasicAuth(user, password)
            response = self._send_once(url, byte_range, auth)
        return response

    def _send_once(self, url: str, byte_range: ByteRange | None, auth: Any) -> httpx2.Response:
        parts = urlsplit(url)
        if self._check_url is not None:
            address = self._check_url(url, HTTP_SCHEMES)  # the connection goes to the checked address
        elif parts.scheme in HTTP_SCHEMES and parts.hostname:
            address = parts.hostname
        else:
            raise SourceError(f"{redact(url)} is not an http(s) URL; name one")
        host, port = f"[{address}]" if ":" in address else address, f":{parts.port}" if parts.port else ""
        name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        headers = {"Host": f"{name}{port}", "Accept-Encoding": "identity", "User-Agent": "mmduet"}
        if byte_range is not None:
            headers["Range"] = f"bytes={byte_range.start}-{byte_range.stop - 1}"
        request = self._client.build_request(
            "GET",
            parts._replace(netloc=f"{host}{port}", fragment="").geturl(),
            headers=headers,
            extensions={"sni_hostname": parts.hostname},
        )
        return self._client.send(request, stream=True, auth=auth)

    @cached_property
    def _client(self) -> httpx2.Client:
        try:
            import httpx2
        except ImportError:
            raise OptionError("sources at an http(s) address need httpx2; run: pip install httpx2") from None
        # No connection is kept: one that was made for a host must not be used for another host at the same address.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        return httpx2.Client(timeout=READ_TIMEOUT_SECONDS, trust_env=self._check_url is None, limits=limits)


@contextmanager
def _http_errors(url: str) -> Iterator[None]:
    """Raise the HTTP library's errors as ``SourceError``."""
    import httpx2

    try:
        yield
    except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, OSError, ValueError) as error:
        raise SourceError(f"{redact(url)} cannot be downloaded ({_reason(error)}); check the address") from None


def _reason(error: Exception) -> str:
    import httpx2

    if isinstance(error, httpx2.ConnectError):
        return "connection refused or host unknown"
    if isinstance(error, httpx2.TimeoutException):
        return "no data arrived in time"
    if isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError):
        return "the connection broke off, or the answer is not HTTP"
    return to_printable(shorten(str(error))) or "the connection failed"


def _credentials(url: str) -> tuple[str | None, str]:
    parts = urlsplit(url)
    return (unquote(parts.username) if parts.username else None), unquote(parts.password or "")
