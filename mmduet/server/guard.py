"""What a server may reach for a client: which schemes, hosts and folders; everything else is refused before it is touched."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mmduet.errors import SourceError
from mmduet.video.rtsp import shown

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]
PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}


@dataclass(frozen=True)
class Guard:
    """``hosts`` are names that may be reached (``*.example.org`` for those below, ``*`` for any), ``networks`` the private ones
    among their addresses that may be, ``roots`` the folders that files may be read from,
    ``webcams`` those of this machine. Nothing is allowed by default.
    """

    hosts: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    roots: tuple[Path, ...] = ()
    webcams: tuple[str, ...] = ()

    def check_webcam(self, name: str) -> None:
        """Raise ``SourceError`` unless this machine's camera may be looked through."""
        if name not in self.webcams:
            raise SourceError(f"{name!r} may not be used; the server's pull_webcams lists what may")

    def check_url(self, url: str, schemes: Sequence[str], resolve: Resolve | None = None) -> str:
        """An address, of those that the URL's host has, that may be connected to. Raises ``SourceError``.

        Connect to the address that is returned, not to the name: the name may mean another one a moment later.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise SourceError(f"{shown(url)} is no URL: {error}") from None
        if parts.scheme not in schemes:
            raise SourceError(f"{shown(url)} is not allowed; this server takes {', '.join(schemes)}")
        if not any(_matches(host, pattern) for pattern in self.hosts):
            raise SourceError(f"host {host!r} is not allowed; the server's pull_hosts lists what is")
        found = (resolve or resolved)(host, port or PORTS.get(parts.scheme, 0))
        for address in found:
            self._check_address(host, ipaddress.ip_address(address))
        return found[0]

    def _check_address(self, host: str, address: Address) -> None:
        mapped = getattr(address, "ipv4_mapped", None) or address
        if any(mapped in ipaddress.ip_network(network) for network in self.networks):
            return
        if not mapped.is_global or mapped.is_multicast:
            raise SourceError(
                f"host {host!r} is at {address}, which is private; the server's pull_networks lists what is allowed"
            )

    def check_file(self, url: str) -> Path:
        """The file of a ``file://`` URL or a path. Raises ``SourceError`` unless it lies, links followed, under a root."""
        text = unquote(urlsplit(url).path) if url.startswith("file:") else url
        if "\0" in text:
            raise SourceError("the path holds a null byte; name a file")
        for root in self.roots:
            with suppress(OSError):  # a name too long, a folder that may not be looked into
                path = (root / text).resolve()
                if path.is_relative_to(root.resolve()) and path.is_file():
                    return path
        raise SourceError(f"{text[:100]!r} is no file that may be read; the server's pull_roots lists the folders")


def resolved(host: str, port: int) -> list[str]:
    """The addresses of a host. Raises ``SourceError`` where it has none."""
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise SourceError(f"host {host!r} cannot be found ({error})") from None


def _matches(host: str, pattern: str) -> bool:
    host, pattern = host.lower().rstrip("."), pattern.lower()
    return pattern == "*" or host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:]))
