"""A session with a server, for asyncio: one object over as many sockets as it takes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from mmduet.client.images import Encoding, encode_image
from mmduet.client.outbox import Outbox
from mmduet.errors import AuthError, CapacityError, ConnectionLostError, OptionError, ServerError, SessionClosedError
from mmduet.protocol import server_events
from mmduet.protocol.event_ids import parse_event_id
from mmduet.protocol.frames import pack_frame

PATH = "/v1/realtime"
MOST_UNCONSUMED = 256
HEARTBEAT_EVERY = 32
HEARTBEAT_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
CONNECT_SECONDS = 10.0
LEAST_PATIENCE = 60.0  # seconds
LEAVE_SECONDS = 1.0


class RemoteSession:
    """Run a session at a server: ``async with RemoteSession(url) as session``, then push, ask and iterate over its events.

    A lost connection is replaced and the session resumed, for at most ``give_up`` seconds (None: a minute, or the time for
    which the server keeps the session if that is longer, because a restarted server has to load the model first). After that,
    iteration and pending calls raise ``ConnectionLostError``. Raises ``AuthError`` for a wrong key, ``CapacityError`` if the
    server is full, and ``ServerError`` for anything else that prevents a connection.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        model: str | None = None,
        give_up: float | None = None,
        block_when_behind: bool = False,
    ) -> None:
        """``patient``: ``push`` waits rather than have a frame dropped because the server is behind, as files want."""
        self.url = endpoint(url)
        self.created: server_events.Session | None = None
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._model, self._give_up, self._block_when_behind = model, give_up, block_when_behind
        self._unfinished_frames = 0  # frames of which the server has not told the end
        self._acknowledged = True  # it tells of every frame
        self._outbox = Outbox()
        self._seq = 0
        self._to_send, self._room, self._open = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._last = 0  # number of the last event
        self._error: Exception | None = None
        self._over = False
        self._run: asyncio.Task[None] | None = None
        self._updates: dict[str, asyncio.Future[str | None]] = {}  # oldest first; what was wrong, or None

    async def __aenter__(self) -> Self:
        """Connect; the session has been created when this returns."""
        self._run = asyncio.create_task(self._run_until_closed())
        opened = asyncio.create_task(self._open.wait())
        await asyncio.wait([self._run, opened], return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        if self.created is None:
            raise self._error or ServerError(f"{self.url} closed before a session was created")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave; a session that has not ended is closed."""
        if self._run is not None:
            if self._over:  # nothing is left but to close the socket
                await asyncio.wait([self._run], timeout=LEAVE_SECONDS)
            self._run.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._run

    # what is said

    async def update(self, *, duet: dict[str, Any] | None = None, **fields: Any) -> None:
        """Set the session: ``update(duet={"fps": 2}, instructions="…")``; what can be set is in docs/protocol.md.

        Returns when it is set. Raises ``OptionError`` where the server refuses; the session goes on as it was.
        """
        session = {"type": "realtime", **fields, **({"duet": duet} if duet is not None else {})}
        name, done = f"update-{self._outbox.appended}", asyncio.get_running_loop().create_future()
        self._updates[name] = done
        try:
            await self.send("session.update", session=session, event_id=name)
            refused = await done
        except SessionClosedError:
            self._updates.pop(name, None)
            raise
        if refused is not None:
            raise OptionError(refused)

    async def push(self, image: NDArray[np.uint8] | bytes, time: float, encoding: Encoding = "jpeg") -> int:
        """A frame at ``time`` seconds: RGB uint8 ``[H, W, 3]``, or bytes of JPEG, PNG or WebP. Returns its seq."""
        picture = encode_image(image, encoding)
        while (
            self._block_when_behind
            and self._acknowledged
            and self._unfinished_frames * 2 > self._max_waiting()
            and not self._over
        ):
            self._room.clear()
            await self._room.wait()
        seq, self._seq = self._seq, self._seq + 1
        self._unfinished_frames += 1
        await self._put(pack_frame(seq, round(time * 1e6), picture))
        return seq

    async def ask(self, text: str, time: float | None = None) -> None:
        """A query, to be read before the next frame; ``time`` is when it was said, and only told back."""
        await self._turn("user", text, keep=True, time=time)

    async def add_context(self, text: str, time: float | None = None, *, keep: bool = False) -> None:
        """A context: a transcript line, a cast list; ``keep`` pins it in the window."""
        await self._turn("system", text, keep=keep, time=time)

    async def speak_now(self) -> None:
        """Have the model reply, whatever its policy says."""
        await self.send("response.create")

    async def cancel(self) -> None:
        """Stop the reply that is being written."""
        await self.send("response.cancel")

    async def end(self) -> None:
        """No more frames; iteration goes on to the last event."""
        await self.send("input_frame.end")

    async def send(self, kind: str, **fields: Any) -> None:
        """Any message of the protocol."""
        await self._put(json.dumps({"type": kind, **fields}))

    def _max_waiting(self) -> int:
        limits = self.created.duet.limits if self.created is not None else None
        return limits.max_waiting_frames if limits is not None else 2

    async def _turn(self, role: str, text: str, *, keep: bool, time: float | None) -> None:
        extras = {"keep": keep, **({"pts": round(time * 1e6)} if time is not None else {})}
        item = {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}], "duet": extras}
        await self.send("conversation.item.create", item=item)

    async def _put(self, message: str | bytes) -> None:
        """Queue a message; waits while the server has not consumed what was sent before."""
        self._check_message_size(message)
        while len(self._outbox) >= MOST_UNCONSUMED and not self._over:
            self._room.clear()
            await self._room.wait()
        if self._over:
            raise self._error or SessionClosedError("the session has ended; open another")
        self._outbox.append(message)
        if self._outbox.appended % HEARTBEAT_EVERY == 0:
            self._outbox.append(json.dumps({"type": "session.heartbeat"}))
        self._to_send.set()

    def _check_message_size(self, message: str | bytes) -> None:
        limits = self.created.duet.limits if self.created is not None else None
        if limits is not None and len(message) > limits.max_message_bytes:
            raise OptionError(
                f"a message of {len(message)} bytes is more than the server's {limits.max_message_bytes}; send smaller pictures"
            )

    # what is heard

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Every event to ``session.closed``. Raises what ended the session early."""
        while not (self._over and self._events.empty()):
            event = await self._events.get()
            if event is not None:
                yield event
        if self._error is not None:
            raise self._error

    # sockets

    async def _run_until_closed(self) -> None:
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
        lost = loop.time()
        try:
            while not self._over:
                try:
                    await self._run_connection()
                    break
                except (ConnectionClosed, OSError, TimeoutError, InvalidHandshake, InvalidURI) as error:
                    if self._open.is_set():
                        self._open.clear()
                        lost, pause = loop.time(), FIRST_PAUSE
                    raise_if_permanent(self.url, error, resuming=self.created is not None)
                    if loop.time() + pause - lost > self._max_retry_seconds:
                        raise ConnectionLostError(
                            f"{self.url} cannot be reached ({error}); open a new session"
                        ) from error
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
        except (ServerError, CapacityError) as error:
            self._error = error
        finally:
            self._over = True
            self._room.set()
            for waiting in self._updates.values():
                if not waiting.done():
                    waiting.set_exception(self._error or SessionClosedError("the session has ended; open another"))
                    waiting.exception()  # it may be that nobody waits any more
            self._events.put_nowait(None)

    @property
    def _max_retry_seconds(self) -> float:
        if self._give_up is not None:
            return self._give_up
        limits = self.created.duet.limits if self.created is not None else None
        return max(LEAST_PATIENCE, limits.time_to_live_s if limits is not None else 0.0)

    async def _run_connection(self) -> None:
        """One socket, from its opening to the session's end. Raises what ends it before."""
        url = f"{self.url}?{urlencode(self._query())}"
        headers = self._headers
        async with asyncio.timeout(CONNECT_SECONDS):
            ws = await connect(url, additional_headers=headers, compression=None, max_size=None, ping_interval=20)
        async with ws:
            if self.created is not None:
                await ws.send(self._resume(self.created))
            writing = asyncio.create_task(self._write(ws))
            try:
                async for message in ws:
                    await self._on_message(message)
                    if self._over:
                        return
                raise ConnectionResetError("the server closed the socket")
            except asyncio.CancelledError:
                await ws.close()  # on purpose: the server need not wait for us
                raise
            finally:
                writing.cancel()

    def _query(self) -> dict[str, str]:
        model = {"model": self._model} if self._model is not None else {}
        return {**model, **({"resume": self.created.id} if self.created is not None else {})}

    def _resume(self, session: server_events.Session) -> str:
        fields = {"session_id": session.id, "resume_token": session.duet.resume_token or ""}
        return json.dumps({"type": "session.resume", **fields, "last_event_id": f"event_{self._last:012d}"})

    async def _write(self, ws: ClientConnection) -> None:
        await self._open.wait()
        while True:
            message = self._outbox.next()
            if message is not None:
                await ws.send(message)
                continue
            self._to_send.clear()
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._to_send.wait()
            except TimeoutError:
                self._outbox.append(json.dumps({"type": "session.heartbeat"}))

    async def _on_message(self, message: str | bytes) -> None:
        try:
            event = server_events.parse_server_event(message)
        except ValidationError as error:
            raise ServerError(
                f"{self.url} sent what is not an event of the protocol ({error.error_count()} faults)"
            ) from error
        number = parse_event_id(event.event_id) or 0
        if number and number <= self._last:
            return
        self._last = max(self._last, number)
        self._track(event)
        match event:
            case server_events.HeartbeatAck():
                return
            case server_events.SessionExpired():
                raise ConnectionLostError(
                    f"session {event.session_id} is no longer kept by {self.url}; open a new session"
                )
            case server_events.SessionReplaced():
                raise ConnectionLostError(f"session {event.session_id} goes on at another socket")
            case server_events.ErrorEvent(error=fault) if fault.event_id in self._updates:
                self._updated(fault.event_id or "", fault.message)
                return
            case server_events.SessionUpdated() if self._updates:
                self._updated(next(iter(self._updates)), None)
        self._events.put_nowait(event)

    def _track(self, event: Any) -> None:
        """What the event says of the session, of messages that were consumed, of frames that were watched."""
        match event:
            case server_events.SessionCreated():
                self.created = event.session
                self._open.set()
            case server_events.SessionUpdated(session=session):
                self._acknowledged = session.duet.ack
            case server_events.SessionResumed() | server_events.ResyncRequired():
                if isinstance(event, server_events.ResyncRequired):
                    self._fail_pending_updates()
                self._outbox.rewind(event.last_consumed_client_message_index)
                self._open.set()
            case server_events.HeartbeatAck():
                self._outbox.acknowledge(event.last_consumed_client_message_index)
                self._room.set()
            case server_events.FrameScored() | server_events.FrameDropped():
                self._unfinished_frames -= 1
                self._room.set()
            case server_events.SessionClosed():
                self._over = True

    def _fail_pending_updates(self) -> None:
        """Some events were lost: what they would have said is not waited for."""
        self._unfinished_frames = 0
        for name in list(self._updates):
            self._updated(name, "the answer was lost with the connection; set it again")

    def _updated(self, name: str, refused: str | None) -> None:
        waiting = self._updates.pop(name)
        if not waiting.done():
            waiting.set_result(refused)


def endpoint(url: str) -> str:
    """``ws://host:port/v1/realtime`` from what a person may type. Raises ``OptionError`` for another scheme."""
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.hostname:
        raise OptionError(f"server {url!r} is not a valid address; use ws://HOST:PORT, or wss:// over TLS")
    path = parts.path if parts.path not in ("", "/") else PATH
    return urlunsplit((scheme, parts.netloc, path, "", ""))


def raise_if_permanent(url: str, error: Exception, *, resuming: bool) -> None:
    """Raise where connecting again would not help: a wrong key, a wrong model; a full or absent server at the first try."""
    if isinstance(error, ConnectionClosed) and error.rcvd is not None and error.rcvd.code in (1007, 1009):
        raise ServerError(f"{url} will not take what was sent: {error.rcvd.reason}") from error
    if isinstance(error, InvalidURI):
        raise OptionError(f"server {url!r} is not a valid address: {error}") from error
    if isinstance(error, InvalidStatus):
        status, words = error.response.status_code, _error_text(error)
        if status in (401, 403):
            raise AuthError(f"{url} refuses: {words} (here: key, --key or MMDUET_KEY)") from error
        if status == 503 and not resuming:
            raise CapacityError(f"{url} has no room: {words}") from error
        if status not in (502, 503, 504):
            raise ServerError(f"{url} answers {status}: {words}") from error
    if not resuming:
        raise ServerError(f"{url} cannot be reached ({error}); is a server running there?") from error


def _error_text(error: InvalidStatus) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(error.response.body or b"")["error"]["message"])
    return error.response.reason_phrase
