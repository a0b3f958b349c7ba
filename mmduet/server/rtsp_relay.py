"""The only way on which FFmpeg reaches a camera for a client: it speaks to a port on loopback, and we to the checked address.

FFmpeg would follow a camera's redirects, and send packets to whatever address a camera names as its own. Here every answer of
the camera's is read before FFmpeg gets it: a redirect is handed back to be checked, an address is put right. Media passes.
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

MOST_HEADER = 64 << 10
STATUS = re.compile(r"RTSP/1\.\d ([1-6])\d\d( [^\r\n]*)?")
FIELD = re.compile(r"([A-Za-z0-9-]+):([^\r\n]*)")
LENGTH = re.compile(r"[0-9]{1,9}")
PACKET = ord("$")  # RFC 2326, section 10.12: media among the answers
CHUNK = 64 << 10
SECONDS = 10.0


class RedirectError(SourceError):
    """The camera is elsewhere: at ``location``, which has not been checked."""

    def __init__(self, location: str) -> None:
        super().__init__("the camera redirects; give the address that it leads to")
        self.location = location


class Inspector:
    """Passes on what a camera says, once it has been read; knows where answers end and packets begin."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._held = bytearray()
        self._free = 0  # bytes that may pass unread: bodies and packets

    def feed(self, data: bytes) -> bytes:
        """What may go on to FFmpeg. Raises ``SourceError`` for what must not."""
        self._held += data
        out = bytearray()
        while self._held:
            if self._free:
                out += self._passed()
            elif self._held[0] == PACKET:
                if len(self._held) < 4:
                    break
                self._free = 4 + int.from_bytes(self._held[2:4], "big")
            else:
                end = self._held.find(b"\r\n\r\n") + 4
                if end < 4:
                    if len(self._held) > MOST_HEADER:
                        raise SourceError("the camera answers with something that is not RTSP; check the address")
                    break
                head, self._held = bytes(self._held[:end]), self._held[end:]
                out += self._checked(head)
        return bytes(out)

    def _passed(self) -> bytes:
        passed = bytes(self._held[: self._free])
        del self._held[: len(passed)]
        self._free -= len(passed)
        return passed

    def _checked(self, head: bytes) -> bytes:
        """The answer as we read it, written anew: what we would read otherwise than FFmpeg does not pass."""
        first, *rest = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        status, fields = STATUS.fullmatch(first), [FIELD.fullmatch(line) for line in rest]
        if status is None or None in fields or any(char in head for char in (b"\0", b"\r\r", b"\n\n")):
            raise SourceError("the camera answers with something that is not RTSP; it cannot be pulled")
        pairs = [(field[1], field[2].strip()) for field in fields if field is not None]
        told = {name.lower(): value for name, value in pairs}
        if status[1] == "3":
            raise RedirectError(told.get("location", ""))
        lengths = [value for name, value in pairs if name.lower() == "content-length"]
        if len(lengths) > 1 or not all(LENGTH.fullmatch(value) for value in lengths):
            raise SourceError("the camera answers with a body of no certain length; it cannot be pulled")
        self._free = int(lengths[0]) if lengths else 0
        lines = [first, *(f"{name}: {self._put_right(name, value)}" for name, value in pairs)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _put_right(self, name: str, value: str) -> str:
        """The camera's own address in place of any other that packets are to be sent to."""
        if name.lower() != "transport":
            return value
        if "," in value:
            raise SourceError("the camera offers several transports at once; it cannot be pulled")
        parts = [part.strip() for part in value.split(";") if part.strip()]
        kept = [part for part in parts if part.partition("=")[0].strip().lower() not in ("source", "destination")]
        return ";".join([*kept, f"source={self._address}"])


class RtspRelay:
    """One connection to ``address``, open while the block lasts; ``fault`` is why it was cut, if it was.

    ``tls_host`` None: without encryption; otherwise the name that the certificate has to bear.
    """

    def __init__(self, address: str, port: int, tls_host: str | None = None) -> None:
        self._target, self._tls_host = (address, port), tls_host
        self.fault: SourceError | None = None
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(SECONDS)

    @property
    def port(self) -> int:
        """Where FFmpeg is to connect, on 127.0.0.1."""
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, name="mmduet-rtsp", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cut()

    def _serve(self) -> None:
        try:
            near, _ = self._listener.accept()
            self._sockets.append(near)
            far = self._connected()
            threading.Thread(target=self._copy, args=(near, far, bytes), name="mmduet-rtsp-up", daemon=True).start()
            self._copy(far, near, Inspector(self._target[0]).feed)
        except OSError as error:  # ssl's are such, too
            self.fault = self.fault or SourceError(f"the camera cannot be reached ({error.strerror or error})")
        finally:
            self._cut()

    def _connected(self) -> socket.socket:
        far = socket.create_connection(self._target, SECONDS)
        self._sockets.append(far)
        if self._tls_host is not None:
            far = ssl.create_default_context().wrap_socket(far, server_hostname=self._tls_host)
            self._sockets.append(far)
        far.settimeout(None)  # how long silence may last is FFmpeg's to say
        return far

    def _copy(self, source: socket.socket, target: socket.socket, checked: Callable[[bytes], bytes]) -> None:
        try:
            while data := source.recv(CHUNK):
                target.sendall(checked(data))
        except SourceError as error:
            self.fault = error
        except OSError:
            pass  # the other side has been cut
        self._cut()

    def _cut(self) -> None:
        for opened in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()
