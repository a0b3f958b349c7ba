"""A loopback proxy between FFmpeg and an RTSP camera, which inspects every response before FFmpeg receives it.

FFmpeg itself would follow a camera's redirects and send packets to any address that the camera names. Here the
connection goes to an address that has been checked, a redirect is returned to the caller to be checked as well, and a
``Transport`` header is rewritten to the checked address. Media data passes through unchanged.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from mmduet.errors import SourceError

MAX_HEADER_BYTES = 64 << 10
STATUS_LINE = re.compile(r"RTSP/1\.\d ([1-6])\d\d( [^\r\n]*)?")
HEADER_FIELD = re.compile(r"([A-Za-z0-9-]+):([^\r\n]*)")
CONTENT_LENGTH = re.compile(r"[0-9]{1,9}")
INTERLEAVED_PACKET = ord("$")  # RFC 2326, section 10.12: media packets between responses
CHUNK_BYTES = 64 << 10
CONNECT_TIMEOUT_SECONDS = 10.0


class RedirectError(SourceError):
    """The camera redirects to ``location``, which has not been checked."""

    def __init__(self, location: str) -> None:
        super().__init__("the camera redirects; use the address that it redirects to")
        self.location = location


class ResponseFilter:
    """Parse a camera's byte stream into responses, bodies and packets, and return the bytes that FFmpeg may receive."""

    def __init__(self, address: str) -> None:
        """``address`` replaces every address that the camera names for packets."""
        self._address = address
        self._buffer = bytearray()
        self._pass_through_bytes = 0  # rest of a body or packet, which passes unchanged

    def feed(self, data: bytes) -> bytes:
        """Return the bytes to forward to FFmpeg. Raises ``SourceError`` for a response that must not be forwarded."""
        self._buffer += data
        out = bytearray()
        while self._buffer:
            if self._pass_through_bytes:
                out += self._pass_through()
            elif self._buffer[0] == INTERLEAVED_PACKET:
                if len(self._buffer) < 4:
                    break
                self._pass_through_bytes = 4 + int.from_bytes(self._buffer[2:4], "big")
            else:
                end = self._buffer.find(b"\r\n\r\n") + 4
                if end < 4:
                    if len(self._buffer) > MAX_HEADER_BYTES:
                        raise SourceError("the camera's response is not RTSP; check the address")
                    break
                header, self._buffer = bytes(self._buffer[:end]), self._buffer[end:]
                out += self._rewrite_header(header)
        return bytes(out)

    def _pass_through(self) -> bytes:
        data = bytes(self._buffer[: self._pass_through_bytes])
        del self._buffer[: len(data)]
        self._pass_through_bytes -= len(data)
        return data

    def _rewrite_header(self, header: bytes) -> bytes:
        """Return the header serialised from its parsed form, so that FFmpeg cannot parse it differently."""
        first, *rest = header.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        status, fields = STATUS_LINE.fullmatch(first), [HEADER_FIELD.fullmatch(line) for line in rest]
        if status is None or None in fields or any(char in header for char in (b"\0", b"\r\r", b"\n\n")):
            raise SourceError("the camera's response is not RTSP; the stream cannot be opened")
        pairs = [(field[1], field[2].strip()) for field in fields if field is not None]
        if status[1] == "3":
            raise RedirectError({name.lower(): value for name, value in pairs}.get("location", ""))
        lengths = [value for name, value in pairs if name.lower() == "content-length"]
        if len(lengths) > 1 or not all(CONTENT_LENGTH.fullmatch(value) for value in lengths):
            raise SourceError("the camera's response has an invalid Content-Length; the stream cannot be opened")
        self._pass_through_bytes = int(lengths[0]) if lengths else 0
        lines = [first, *(f"{name}: {self._rewrite_transport(name, value)}" for name, value in pairs)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _rewrite_transport(self, name: str, value: str) -> str:
        """Return a header value; in ``Transport``, replace the addresses by the checked one."""
        if name.lower() != "transport":
            return value
        if "," in value:
            raise SourceError("the camera offers several transports in one response; the stream cannot be opened")
        parts = [part.strip() for part in value.split(";") if part.strip()]
        kept = [part for part in parts if part.partition("=")[0].strip().lower() not in ("source", "destination")]
        return ";".join([*kept, f"source={self._address}"])


class RtspProxy:
    """Proxy one connection to ``address`` for the duration of a ``with`` block.

    ``tls_host`` is the name that the camera's TLS certificate must match; None means no encryption. ``error`` is the
    reason why the proxy closed the connection, if it did.
    """

    def __init__(self, address: str, port: int, tls_host: str | None = None) -> None:
        self._target, self._tls_host = (address, port), tls_host
        self.error: SourceError | None = None
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(CONNECT_TIMEOUT_SECONDS)

    @property
    def port(self) -> int:
        """Return the loopback port for FFmpeg to connect to."""
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, name="mmduet-rtsp", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _serve(self) -> None:
        try:
            ffmpeg, _ = self._listener.accept()
            self._sockets.append(ffmpeg)
            camera = self._connect()
            uplink = threading.Thread(
                target=self._copy, args=(ffmpeg, camera, bytes), name="mmduet-rtsp-up", daemon=True
            )
            uplink.start()
            self._copy(camera, ffmpeg, ResponseFilter(self._target[0]).feed)
        except OSError as error:  # includes ssl.SSLError
            self.error = self.error or SourceError(
                f"the camera cannot be reached ({error.strerror or error}); check its address"
            )
        finally:
            self._close()

    def _connect(self) -> socket.socket:
        camera = socket.create_connection(self._target, CONNECT_TIMEOUT_SECONDS)
        self._sockets.append(camera)
        if self._tls_host is not None:
            camera = ssl.create_default_context().wrap_socket(camera, server_hostname=self._tls_host)
            self._sockets.append(camera)
        camera.settimeout(None)  # FFmpeg's own timeout applies from here on
        return camera

    def _copy(self, source: socket.socket, target: socket.socket, transform: Callable[[bytes], bytes]) -> None:
        try:
            while data := source.recv(CHUNK_BYTES):
                target.sendall(transform(data))
        except SourceError as error:
            self.error = error
        except OSError:
            pass  # the other direction has closed the sockets
        self._close()

    def _close(self) -> None:
        for opened in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()
