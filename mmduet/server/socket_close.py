"""Closes WebSockets: the close codes of the server, and closing without waiting for a client that does not read."""

from __future__ import annotations

import asyncio
import contextlib

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

NORMAL_CLOSURE, ABNORMAL_CLOSURE, POLICY_VIOLATION, INTERNAL_ERROR = 1000, 1006, 1008, 1011
SERVICE_RESTART, TRY_AGAIN_LATER = 1012, 1013
EXPIRED, TOO_SLOW = 4004, 4008
CLOSE_TIMEOUT_SECONDS = 1.0
MAX_REASON_BYTES = 123
"""RFC 6455's limit of a close reason."""


async def close_socket(ws: WebSocket, code: int, reason: str) -> None:
    """Close the socket if it is open, without waiting for a client that does not read."""
    if ws.application_state is not WebSocketState.DISCONNECTED:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await ws.close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
