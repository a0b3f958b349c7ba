"""What disturbances have in common: they run beside the clients until a given time and report figures and faults."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, Protocol

from mmduet.client.address import http_url


class Disturbance(Protocol):
    """Something that goes wrong around the server, or observes how it reacts."""

    @property
    def name(self) -> str:
        """Return the name of its figures in the report."""
        ...

    @property
    def observes(self) -> bool:
        """Return whether it only observes, and so also while the server recovers at the end."""
        ...

    @property
    def faults(self) -> list[str]:
        """Return descriptions of the server's faults; empty if it has passed."""
        ...

    async def run(self, end: float) -> None:
        """Disturb the server until ``end``, a time of ``monotonic()``, and leave everything as it was before."""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures."""
        ...


def server_root(url: str) -> str:
    """Return the address of the server at ``url`` without a path."""
    return http_url(url).removesuffix("/v1")


async def sleep_until(time: float, end: float) -> bool:
    """Sleep until ``time`` or ``end``, times of ``monotonic()``; return whether ``end`` has not come yet."""
    await asyncio.sleep(max(min(time, end) - monotonic(), 0))
    return monotonic() < end
