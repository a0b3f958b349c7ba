"""Runs the application under uvicorn, with draining on SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Callable
from socket import SO_RCVBUF, SOL_SOCKET, socket
from types import FrameType

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from mmduet.errors import ServerError
from mmduet.server.config import ServerConfig
from mmduet.server.error_response import error_body
from mmduet.server.file_descriptors import is_scarce
from mmduet.server.log_events import DRAINING
from mmduet.server.tls import create_tls_context

log = logging.getLogger(__name__)
SHUTDOWN_TIMEOUT_SECONDS = 5
CLOSE_FRAME_SECONDS = 0.2
REQUEST_TIMEOUT_SECONDS = 20.0
"""Time for the head of a connection's first request."""
MIN_RECEIVE_BUFFER_BYTES, MAX_RECEIVE_BUFFER_BYTES = 64 << 10, 4 << 20


class AbortableWebSocketProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's WebSocket protocol with ``abort``, for clients that do not read; ASGI has no message for that.

    Its keepalive suits an application that reads slowly on purpose.
    """

    _received_since_ping = False

    async def run_asgi(self) -> None:
        """Run the application with the transport's ``abort`` in the scope's state."""
        self.scope["state"]["abort"] = self.transport.abort
        await super().run_asgi()

    def data_received(self, data: bytes) -> None:
        """Process data of the client, which shows that it is alive."""
        self._received_since_ping = True
        super().data_received(data)

    def send_keepalive_ping(self) -> None:
        """Send a ping and wait for its pong."""
        self._received_since_ping = False
        super().send_keepalive_ping()

    def keepalive_timeout(self) -> None:
        """Close the connection of a client that has not sent a pong.

        While the application reads slowly, the pong may stand behind data that has not been read yet; such a client is alive.
        """
        if self.read_paused or self._received_since_ping:
            self._received_since_ping = False
            self.pong_timer = self.loop.call_later(self.config.ws_ping_timeout or 0.0, self.keepalive_timeout)
        else:
            super().keepalive_timeout()

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message of the application. A rejection completes the handshake, too, which uvicorn would log as an error."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True


class JsonErrorHTTPProtocol(H11Protocol):
    """Uvicorn's HTTP protocol, with an error in the OpenAI API's shape for what is not HTTP, and a timeout for requests.

    A connection whose first request does not arrive would hold a file descriptor for ever.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout of the first request."""
        super().connection_made(transport)
        self.loop.call_later(REQUEST_TIMEOUT_SECONDS, self._close_without_request)

    def _close_without_request(self) -> None:
        if getattr(self, "scope", None) is None:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Reject the connection's data and close it."""
        body = json.dumps(error_body(f"{msg} Send HTTP/1.1.", 400, "invalid_http")).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        events = (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Server(uvicorn.Server):
    """A uvicorn server that drains its sessions on the first signal and exits at once on the second."""

    def __init__(
        self, app: FastAPI, config: ServerConfig, on_started: Callable[[int], None] = lambda port: None
    ) -> None:
        """``on_started`` is called with the port once the server is listening."""
        tls = create_tls_context(config.tls_certificate, config.tls_key) if config.tls_certificate else None
        super().__init__(
            uvicorn.Config(
                app,
                host=config.host,
                port=config.port,
                http=JsonErrorHTTPProtocol,
                ws=AbortableWebSocketProtocol,
                ws_max_size=config.max_message_bytes,
                ws_ping_interval=config.ping_interval,
                ws_ping_timeout=config.ping_interval,
                ws_per_message_deflate=False,
                log_config=None,
                access_log=False,
                # Out of descriptors, uvloop closes new connections unanswered; asyncio accepts them when some are free.
                loop="asyncio" if is_scarce() else "auto",
                proxy_headers=False,  # the application has its own rule for them
                ssl_context_factory=(lambda *_: tls) if tls is not None else None,
                timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_SECONDS,
            )
        )
        self._bytes_per_second = config.bytes_per_second_per_key
        self._manager, self._drain_seconds, self._on_started = app.state.manager, config.drain_seconds, on_started
        self._drain_task: asyncio.Task[None] | None = None
        self.loop: asyncio.AbstractEventLoop  # set by startup

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Start listening and report the port."""
        await super().startup(sockets)  # type: ignore[arg-type]
        self.loop = asyncio.get_running_loop()
        if self.started:
            listening = [sock for server in self.servers for sock in server.sockets]
            if self._bytes_per_second is not None:
                for sock in listening:
                    _limit_receive_buffer(sock, self._bytes_per_second)
            self._on_started(listening[0].getsockname()[1])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain on the first SIGTERM or SIGINT; exit without waiting on the second."""
        if self._manager.draining or not self.started:
            self.force_exit = self.should_exit = True
            return
        DRAINING.emit(log, signal=signal.Signals(sig).name, timeout_s=self._drain_seconds)
        self.loop.call_soon_threadsafe(self.begin_drain)

    def begin_drain(self) -> None:
        """Start draining; call it in the server's loop."""
        self._drain_task = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        await self._manager.drain(self._drain_seconds)
        await asyncio.sleep(CLOSE_FRAME_SECONDS)  # let sockets send their close frames
        self.should_exit = True


def _limit_receive_buffer(listening: socket, bytes_per_second: float) -> None:
    """Bound what the kernel receives ahead of connections that are read slowly to about a second, and with it their latency."""
    size = min(max(int(bytes_per_second), MIN_RECEIVE_BUFFER_BYTES), MAX_RECEIVE_BUFFER_BYTES)
    listening.setsockopt(SOL_SOCKET, SO_RCVBUF, size)  # accepted connections inherit it


def run_server(app: FastAPI, config: ServerConfig, on_started: Callable[[int], None] = lambda port: None) -> None:
    """Serve until SIGTERM or SIGINT. Raises ``ServerError`` if the address cannot be bound."""
    server = Server(app, config, on_started)
    try:
        server.run()
    except SystemExit as error:
        raise ServerError(f"cannot listen on {config.host}:{config.port}; choose another port or host") from error
    if not server.started:
        raise ServerError(f"cannot listen on {config.host}:{config.port}; choose another port or host")
