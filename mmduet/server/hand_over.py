"""Hands a running server over to a newer process on the same journal and port, without losing a frame or a reply.

The process that takes over (``take_over.py``) has loaded its model before it asks on the control socket. It receives the lock
of the journal folder and the listening sockets as file descriptors, and this process keeps its own until the other one serves.
Clients that connect meanwhile wait in the sockets' queues. If the other process fails, this one restores the sessions from
their journals and continues.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from contextlib import ExitStack, suppress
from typing import Any, Protocol

from mmduet.errors import FormatError
from mmduet.server import control_socket
from mmduet.server.config import ServerConfig
from mmduet.server.journal import JournalFolder
from mmduet.server.log_events import (
    HAND_OVER_FAILED,
    HAND_OVER_REQUEST_FAILED,
    HAND_OVER_STARTED,
    HAND_OVER_UNAVAILABLE,
    HANDED_OVER,
    NEW_SERVER_KILLED,
)
from mmduet.server.session_manager import SessionManager

log = logging.getLogger(__name__)
PROTOCOL_VERSION = 1
REQUEST_SECONDS = 5.0
REPLY_SECONDS = 2.0
"""Time for replies that are being generated; clients are to be served again within 5 seconds."""
SERVING_SECONDS = 30.0
"""Time for the process that takes over to restore the sessions and serve."""


class ListeningServer(Protocol):
    """What the hand-over needs of the server that listens for clients."""

    port: int

    def stop_listening(self) -> list[socket.socket]:
        """Stop accepting connections and return the listening sockets."""

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Accept connections on these sockets."""

    def finish(self) -> None:
        """Exit once the HTTP requests in progress have been answered."""


class HandOver:
    """Answers requests on the control socket of a journal folder."""

    def __init__(self, manager: SessionManager, journals: JournalFolder, config: ServerConfig) -> None:
        self._manager, self._journals, self._config = manager, journals, config

    async def serve(self, server: ListeningServer) -> None:
        """Answer requests until the server has been handed over. Log a warning if the folder cannot have a socket."""
        handed_over = False
        while not handed_over:
            try:
                listener = control_socket.listen(self._journals.path)
            except OSError as error:
                HAND_OVER_UNAVAILABLE.emit(log, folder=str(self._journals.path), detail=str(error))
                return
            try:
                connection = await self._wait_for_request(listener, server.port)
            finally:  # while this server hands over, the folder has no socket; later it is the next server's
                listener.close()
                control_socket.remove(self._journals.path)
            with connection:
                handed_over = await self._hand_over(server, connection)

    async def _wait_for_request(self, listener: socket.socket, port: int) -> socket.socket:
        """Answer requests that change nothing; return the connection of a process that can take over."""
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            connection.setblocking(False)
            try:
                if await self._is_accepted(connection, port):
                    return connection
            except (OSError, FormatError) as error:
                HAND_OVER_REQUEST_FAILED.emit(log, detail=repr(error))
            connection.close()

    async def _is_accepted(self, connection: socket.socket, port: int) -> bool:
        """Read a request and answer it, unless it is an acceptable one to hand over: then return True."""
        async with asyncio.timeout(REQUEST_SECONDS):
            request = await control_socket.receive_async(connection)
        if request is None:
            return False
        refusal = self._refusal(port, request)
        if refusal is None and request["type"] == "hand_over":
            return True
        answer = {"type": "accepted"} if refusal is None else {"type": "refused", "message": refusal}
        connection.send(control_socket.encode(answer))
        return False

    def _refusal(self, port: int, request: dict[str, Any]) -> str | None:
        """Return why this server cannot be replaced by the one that asks; None if it can."""
        if request.get("version") != PROTOCOL_VERSION or request.get("type") not in ("probe", "hand_over"):
            return "it is another version of mmduet, which cannot hand over; stop it first"
        if self._manager.draining:
            return "it is shutting down; start again when it has ended"
        if (request["host"], request["port"]) != (self._config.host, port):
            return (
                f"it listens on {self._config.host}:{port}; use the same host and port to take over, or another journal"
            )
        if request["type"] == "probe":
            return None
        if request["model"] != self._manager.model_name:
            return f"its sessions need the model {self._manager.model_name!r}, not {request['model']!r}; stop it first"
        sessions, used_bytes = self._manager.active_count, self._manager.kv_used_bytes
        if sessions > request["max_sessions"] or used_bytes > request["kv_bytes"]:
            return (
                f"its {sessions} sessions use {used_bytes >> 20} MiB of KV memory, and this one allows "
                f"{request['max_sessions']} and {request['kv_bytes'] >> 20} MiB; raise max_sessions or kv_memory_mb"
            )
        return None

    async def _hand_over(self, server: ListeningServer, connection: socket.socket) -> bool:
        """Hand over to the process at the other end; if it fails, continue. Return whether it serves now."""
        process = control_socket.peer_process(connection)
        HAND_OVER_STARTED.emit(log, pid=process, open_sessions=self._manager.active_count)
        with ExitStack() as kept:
            sockets = [kept.enter_context(each) for each in server.stop_listening()]
            await self._manager.hand_over(min(self._config.drain_seconds, REPLY_SECONDS))
            if await self._transfer(connection, sockets):
                HANDED_OVER.emit(log, pid=process)
                server.finish()
                return True
            kept.pop_all()
        await self._manager.take_back()
        await server.listen(sockets)
        HAND_OVER_FAILED.emit(log, pid=process, open_sessions=self._manager.active_count)
        return False

    async def _transfer(self, connection: socket.socket, sockets: list[socket.socket]) -> bool:
        """Send lock and sockets to the other process; return whether it serves. If not, it has ended."""
        descriptors = [self._journals.lock_file, *(each.fileno() for each in sockets)]
        try:
            socket.send_fds(connection, [control_socket.encode({"type": "handed_over"})], descriptors)
            async with asyncio.timeout(SERVING_SECONDS):
                answer = await control_socket.receive_async(connection)
        except (TimeoutError, FormatError):
            await _end_peer(connection)
            return False
        except OSError:
            return False
        return answer is not None


async def _end_peer(connection: socket.socket) -> None:
    """Kill the process at the other end, which does not answer, because two servers must not write the same journals.

    Return when it has ended. A process of an unknown id must be ended by someone else.
    """
    process = control_socket.peer_process(connection)
    NEW_SERVER_KILLED.emit(log, pid=process, timeout_s=SERVING_SECONDS)
    if process is not None:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    with suppress(OSError):
        while await asyncio.get_running_loop().sock_recv(connection, control_socket.MAX_MESSAGE_BYTES):
            pass
