"""A camera that fails and returns, and sessions in which the server reads it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from mmduet.bench.chaos.disturbance import sleep_until
from mmduet.client import SessionsClient
from mmduet.errors import MmduetError
from mmduet.protocol.session_status import SessionStatus

BOUNDARY = "frame"
POLL_SECONDS = 0.5
RETURN_SECONDS = 20.0  # within which a session must receive frames again


class Camera:
    """An MJPEG camera on loopback that sends ``images`` at ``fps`` repeatedly."""

    def __init__(self, images: Sequence[bytes], fps: float) -> None:
        self._images, self._fps = images, fps
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._port = 0

    @property
    def url(self) -> str:
        """Return its address, which is the same after every start."""
        return f"http://127.0.0.1:{self._port}/camera"

    async def start(self) -> None:
        """Accept connections."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Reset all connections and accept no more."""
        if self._server is not None:
            self._server.close()
        for writer in self._connections:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(
                f"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary={BOUNDARY}\r\n".encode()
            )
            writer.write(b"Connection: close\r\n\r\n")
            for number in range(2**31):
                image = self._images[number % len(self._images)]
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
                writer.write(head.encode() + image + b"\r\n")
                await writer.drain()
                await asyncio.sleep(1 / self._fps)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the server has closed the connection, or the camera was stopped
        finally:
            self._connections.discard(writer)
            with contextlib.suppress(ConnectionError):
                writer.close()


@dataclass
class CameraOutages:
    """Sessions on a camera that works for ``up_seconds`` and is unreachable for ``down_seconds``, repeatedly."""

    url: str
    key: str | None
    camera: Camera
    sessions: int = 2
    up_seconds: float = 20.0
    down_seconds: float = 5.0
    outages: int = 0
    frames: Counter[str] = field(default_factory=Counter)
    longest_return_seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    name = "dying_source"
    observes = False

    async def run(self, end: float) -> None:
        """Open the sessions, stop and restart the camera repeatedly, and compare the counts at the end."""
        await self.camera.start()
        client = SessionsClient(self.url, key=self.key)
        try:
            ids = [(await asyncio.to_thread(client.create, self.camera.url)).id for _ in range(self.sessions)]
            await self._wait_for_frames(client, ids, dict.fromkeys(ids, 0))
            while await sleep_until(monotonic() + self.up_seconds, end):
                await self._interrupt(client, ids)
            await self._close(client, ids)
        except MmduetError as error:
            self.faults.append(f"a session on a source was lost: {error}")
        finally:
            await self.camera.stop()
            client.close()
        if not self.outages:
            self.faults.append("the source was never interrupted; run longer")

    async def _interrupt(self, client: SessionsClient, ids: Sequence[str]) -> None:
        await self.camera.stop()
        self.outages += 1
        await asyncio.sleep(self.down_seconds)
        counts = {name: (await _get_status(client, name)).frames.received for name in ids}
        await self.camera.start()
        returned_at = monotonic()
        if await self._wait_for_frames(client, ids, counts):
            self.longest_return_seconds = max(self.longest_return_seconds, monotonic() - returned_at)

    async def _wait_for_frames(self, client: SessionsClient, ids: Sequence[str], counts: dict[str, int]) -> bool:
        """Wait until every session has more frames than in ``counts``; otherwise add a fault and return False."""
        deadline = monotonic() + RETURN_SECONDS
        for name in ids:
            while (status := await _get_status(client, name)).frames.received <= counts[name]:
                if monotonic() > deadline:
                    state = status.source.state if status.source is not None else "none"
                    self.faults.append(f"a session received no frames for {RETURN_SECONDS:g} s; its source is {state}")
                    return False
                await asyncio.sleep(POLL_SECONDS)
        return True

    async def _close(self, client: SessionsClient, ids: Sequence[str]) -> None:
        for name in ids:
            await asyncio.to_thread(client.pause, name)
            status = await self._settled(client, name)
            frames = status.frames
            self.frames["received"] += frames.received
            self.frames["scored"] += frames.scored
            self.frames["dropped"] += sum(frames.dropped.values())
            missing = frames.received - frames.scored - sum(frames.dropped.values())
            if missing:
                self.faults.append(f"{missing} frames of a source were not accounted for")
            await asyncio.to_thread(client.delete, name)

    async def _settled(self, client: SessionsClient, name: str) -> SessionStatus:
        """Return the state once no frame waits for its score."""
        deadline = monotonic() + RETURN_SECONDS
        while (status := await _get_status(client, name)).frames.waiting and monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)
        return status

    def to_dict(self) -> dict[str, Any]:
        """Return the number of outages, the longest time until frames arrived again, and the sum of the sessions' frames."""
        return {
            "sessions": self.sessions,
            "outages": self.outages,
            "longest_return_seconds": self.longest_return_seconds,
            "frames": dict(self.frames),
        }


async def _get_status(client: SessionsClient, name: str) -> SessionStatus:
    return await asyncio.to_thread(client.show, name)
