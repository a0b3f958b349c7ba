"""Decides what the server may access for a client: schemes, hosts, networks, folders and webcams.

Everything that is not allowed is rejected before it is accessed.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mmduet.errors import SourceError
from mmduet.redaction import redact

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]
DEFAULT_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}


@dataclass(frozen=True)
class UrlPolicy:
    """Allow-lists for sources; nothing is allowed by default.

    ``hosts`` are host names (``*.example.org`` for its subdomains, ``*`` for any). ``networks`` are the private networks
    that their addresses may be in. ``roots`` are the folders that files may be read from, and ``webcams`` the allowed
    webcams of this machine.
    """

    hosts: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    roots: tuple[Path, ...] = ()
    webcams: tuple[str, ...] = ()

    def check_webcam(self, name: str) -> None:
        """Raise ``SourceError`` unless this webcam is allowed."""
        if name not in self.webcams:
            raise SourceError(
                f"webcam {redact(name)[:100]!r} is not allowed; the server's pull_webcams lists the allowed ones"
            )

    def check_url(self, url: str, schemes: Sequence[str], resolve: Resolve | None = None) -> str:
        """Return an IP address to connect to for this URL. Raises ``SourceError`` if the URL is not allowed.

        Connect to the returned address, not to the host name: the name may resolve to another address a moment later.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise SourceError(
                f"{redact(url)} is not a valid URL; check its host and port{_escaping_hint(url)}"
            ) from None
        if parts.scheme not in schemes:
            raise SourceError(f"{redact(url)} is not allowed; this server accepts {', '.join(schemes)}")
        if not any(_host_matches(host, pattern) for pattern in self.hosts):
            raise SourceError(
                f"the host of {redact(url)} is not allowed; the server's pull_hosts lists the allowed ones{_escaping_hint(url)}"
            )
        try:
            found = (resolve or resolve_host)(host, port or DEFAULT_PORTS.get(parts.scheme, 0))
        except (OSError, UnicodeError):
            raise SourceError(
                f"the host of {redact(url)} cannot be resolved; check the name{_escaping_hint(url)}"
            ) from None
        for address in found:
            self._check_address(url, ipaddress.ip_address(address))
        return found[0]

    def _check_address(self, url: str, address: Address) -> None:
        mapped = getattr(address, "ipv4_mapped", None) or address
        if any(mapped in ipaddress.ip_network(network) for network in self.networks):
            return
        if not mapped.is_global or mapped.is_multicast:
            raise SourceError(
                f"the host of {redact(url)} has the private address {address}; "
                "the server's pull_networks lists the allowed networks"
            )

    def check_file(self, url: str) -> Path:
        """Return the path of a ``file://`` URL or a path.

        Raises ``SourceError`` unless it is a file under one of the roots after links have been resolved.
        """
        try:
            text = unquote(urlsplit(url).path) if url.startswith("file:") else url
        except ValueError:
            raise SourceError(f"{redact(url)[:100]!r} is not a valid URL; name a file") from None
        if "\0" in text:
            raise SourceError("the path contains a null byte; name a file")
        for root in self.roots:
            with suppress(OSError):  # name too long, or a folder without read permission
                path = (root / text).resolve()
                if path.is_relative_to(root.resolve()) and path.is_file():
                    return path
        raise SourceError(f"{redact(text)[:100]!r} is not a file under the server's pull_roots; name a file that is")


def resolve_host(host: str, port: int) -> list[str]:
    """Return the IP addresses of a host. Raises OSError or UnicodeError if the name cannot be resolved."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _escaping_hint(url: str) -> str:
    """Return advice for a URL whose password may contain a delimiter, which ends the host part early."""
    misplaced = re.match(r"[^:]*:/*[^/?#]*[/?#].*@", url, re.DOTALL)
    return "; write /, ? and # in a password as %2F, %3F and %23" if misplaced else ""


def _host_matches(host: str, pattern: str) -> bool:
    host, pattern = host.lower().rstrip("."), pattern.lower()
    return pattern == "*" or host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:]))
