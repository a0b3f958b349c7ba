"""The client's requests about a source that the server reads."""

from __future__ import annotations

from types import EllipsisType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it would import PyAV
    from mmduet.video.network import Transport


class SourceRequests:
    """Methods of a session; the results are events (``input_source.opened``, ``.updated``, ``.closed`` and ``error``)."""

    async def send(self, kind: str, **fields: Any) -> None:
        """Send any event of the protocol."""
        raise NotImplementedError

    async def open_source(self, url: str, *, transport: Transport = "tcp", speed: float | None = None) -> None:
        """Let the server read frames from a source: a file as fast as they are scored, or at ``speed`` times real time."""
        await self.send(
            "input_source.open", url=url, transport=transport, **({} if speed is None else {"speed": speed})
        )

    async def update_source(self, *, paused: bool | None = None, speed: float | EllipsisType | None = ...) -> None:
        """Pause or continue the source, or change the speed of a file (None: as fast as frames are scored), at once."""
        changes = {"paused": paused, **({} if speed is ... else {"speed": speed})}
        await self.send("input_source.update", **changes)

    async def close_source(self) -> None:
        """Stop reading the source."""
        await self.send("input_source.close")
