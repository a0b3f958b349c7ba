"""Runs the application under uvicorn: what it listens with, and how it goes down when it is told to."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from mmduet.errors import ServerError
from mmduet.server.config import ServerConfig

log = logging.getLogger(__name__)


class Socket(WebSocketsSansIOProtocol):
    """Uvicorn's, but that the application can cut a connection whose client does not read, which ASGI has no word for."""

    async def run_asgi(self) -> None:
        """Serve, with the way to cut in the scope's state."""
        self.scope["state"]["abort"] = self.transport.abort
        await super().run_asgi()


class Server(uvicorn.Server):
    """Uvicorn, but that a signal first empties the house; a second one does not wait."""

    def __init__(self, app: FastAPI, config: ServerConfig, started: Callable[[int], None] = lambda port: None) -> None:
        """``started`` is told the port once it listens."""
        super().__init__(
            uvicorn.Config(
                app,
                host=config.host,
                port=config.port,
                ws=Socket,
                ws_max_size=config.max_message_bytes,
                ws_ping_interval=config.ping_interval,
                ws_ping_timeout=config.ping_interval,
                ws_per_message_deflate=False,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=5,
            )
        )
        self._house, self._seconds, self._told = app.state.house, config.drain_seconds, started
        self._emptying: asyncio.Task[None] | None = None
        self.loop: asyncio.AbstractEventLoop  # once it has started

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Listen, and say where."""
        await super().startup(sockets)  # type: ignore[arg-type]
        self.loop = asyncio.get_running_loop()
        if self.started:
            self._told(self.servers[0].sockets[0].getsockname()[1])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first SIGTERM or SIGINT drains; the second stops at once."""
        if self._house.draining or not self.started:
            self.force_exit = self.should_exit = True
            return
        log.info("%s: closing within %g s", signal.Signals(sig).name, self._seconds)
        self.loop.call_soon_threadsafe(self.empty)

    def empty(self) -> None:
        """Begin to close; in the loop."""
        self._emptying = asyncio.ensure_future(self._empty())

    async def _empty(self) -> None:
        await self._house.drain(self._seconds)
        await asyncio.sleep(0.2)  # sockets say goodbye
        self.should_exit = True


def serve(app: FastAPI, config: ServerConfig, started: Callable[[int], None] = lambda port: None) -> None:
    """Run until SIGTERM or SIGINT. Raises ``ServerError`` where the address cannot be had."""
    server = Server(app, config, started)
    try:
        server.run()
    except SystemExit as error:
        raise ServerError(f"cannot listen on {config.host}:{config.port}; choose another port or host") from error
    if not server.started:
        raise ServerError(f"cannot listen on {config.host}:{config.port}; choose another port or host")
