"""Runs the application under uvicorn, with draining on SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from collections.abc import Callable
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
from mmduet.server.hand_over import HandOver
from mmduet.server.log_events import DRAINING
from mmduet.server.take_over import TakenOver
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
        self,
        app: FastAPI,
        config: ServerConfig,
        on_started: Callable[[int], None] = lambda port: None,
        hand_over: HandOver | None = None,
    ) -> None:
        """``on_started`` is called with the port once the server is listening; from then on ``hand_over`` answers requests."""
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
        self._hand_over = hand_over
        self._hand_over_task: asyncio.Task[None] | None = None
        self.port = 0  # set by startup, as is the loop
        self.loop: asyncio.AbstractEventLoop  # set by startup

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Start listening and report the port."""
        await super().startup(sockets)  # type: ignore[arg-type]
        self.loop = asyncio.get_running_loop()
        if not self.started:
            return
        listening = [sock for server in self.servers for sock in server.sockets]
        if self._bytes_per_second is not None:
            for sock in listening:
                _limit_receive_buffer(sock, self._bytes_per_second)
        self.port = listening[0].getsockname()[1]
        self._on_started(self.port)
        if self._hand_over is not None:
            self._hand_over_task = asyncio.create_task(self._hand_over.serve(self))

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Stop, first of all answering requests to hand over: the lock of the journal must still be held."""
        if self._hand_over_task is not None:
            self._hand_over_task.cancel()
            await asyncio.wait([self._hand_over_task])
        await super().shutdown(sockets)  # type: ignore[arg-type]

    def stop_listening(self) -> list[socket.socket]:
        """Stop accepting connections and return the listening sockets, in whose queues clients wait."""
        listeners = [listener for server in self.servers for listener in server.sockets]
        sockets = [socket.socket(fileno=os.dup(listener.fileno())) for listener in listeners]
        for server in self.servers:
            server.close()
        self.servers = []
        return sockets

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Accept connections on these sockets, after ``stop_listening``."""
        for each in sockets:
            server = await self.loop.create_server(
                self._create_protocol, sock=each, ssl=self.config.ssl, backlog=self.config.backlog
            )
            self.servers.append(server)

    def _create_protocol(self) -> JsonErrorHTTPProtocol:
        return JsonErrorHTTPProtocol(self.config, self.server_state, self.lifespan.state)

    def finish(self) -> None:
        """Exit once the HTTP requests in progress have been answered, for which there are up to ``drain_seconds``."""
        self.config.timeout_graceful_shutdown = max(SHUTDOWN_TIMEOUT_SECONDS, round(self._drain_seconds))
        self.should_exit = True

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


def _limit_receive_buffer(listening: socket.socket, bytes_per_second: float) -> None:
    """Bound what the kernel receives ahead of connections that are read slowly to about a second, and with it their latency."""
    size = min(max(int(bytes_per_second), MIN_RECEIVE_BUFFER_BYTES), MAX_RECEIVE_BUFFER_BYTES)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)  # accepted connections inherit it


def run_server(
    app: FastAPI,
    config: ServerConfig,
    on_started: Callable[[int], None] = lambda port: None,
    taken_over: TakenOver | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or a hand-over, on the sockets of the previous server if it was ``taken_over``.

    Raises ``ServerError`` if the address cannot be bound.
    """

    def report(port: int) -> None:
        if taken_over is not None:
            taken_over.confirm()
        on_started(port)

    journals = app.state.journals
    hand_over = HandOver(app.state.manager, journals, config) if journals is not None else None
    server = Server(app, config, report, hand_over)
    try:
        server.run(taken_over.sockets if taken_over is not None else None)
    except SystemExit as error:
        raise ServerError(f"cannot listen on {config.host}:{config.port}; choose another port or host") from error
    if not server.started:
        raise ServerError(f"cannot listen on {config.host}:{config.port}; choose another port or host")
