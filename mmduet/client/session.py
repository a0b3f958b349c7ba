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

from mmduet.client.outbox import Outbox
from mmduet.client.pictures import Encoding, encoded
from mmduet.errors import AuthError, CapacityError, ConnectionLostError, OptionError, ServerError, SessionClosedError
from mmduet.protocol import server_events as told
from mmduet.protocol.frames import pack
from mmduet.protocol.session.event_log import event_number

PATH = "/v1/realtime"
MOST_UNCONSUMED = 256
HEARTBEAT_EVERY = 32
HEARTBEAT_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
CONNECT_SECONDS = 10.0
LEAST_PATIENCE = 60.0  # seconds
LEAVE_SECONDS = 1.0


class RemoteSession:
    """``async with RemoteSession(url) as session``: push, ask, and iterate over the server's events (``server_events``).

    A lost socket is replaced and the session resumed, for at most ``give_up`` seconds (None: a minute, or as long as the server
    keeps the session, if that is longer: one that is started anew has to load first); then iteration and whatever waits raise
    ``ConnectionLostError``. Raises ``AuthError`` for a wrong key, ``CapacityError`` where the server is full, ``ServerError``
    for what else stops it from connecting.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        model: str | None = None,
        give_up: float | None = None,
        patient: bool = False,
    ) -> None:
        """``patient``: ``push`` waits rather than have a frame dropped because the server is behind, as files want."""
        self.url = endpoint(url)
        self.created: told.SessionTold | None = None
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._model, self._give_up, self._patient = model, give_up, patient
        self._unwatched = 0  # frames of which the server has not told the end
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
        self._run = asyncio.create_task(self._keep_talking())
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
        picture = encoded(image, encoding)
        while self._patient and self._acknowledged and self._unwatched * 2 > self._most_waiting() and not self._over:
            self._room.clear()
            await self._room.wait()
        seq, self._seq = self._seq, self._seq + 1
        self._unwatched += 1
        await self._put(pack(seq, round(time * 1e6), picture))
        return seq

    async def ask(self, text: str, time: float | None = None) -> None:
        """A query, to be read before the next frame; ``time`` is when it was said, and only told back."""
        await self._turn("user", text, keep=True, time=time)

    async def tell(self, text: str, time: float | None = None, *, keep: bool = False) -> None:
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

    def _most_waiting(self) -> int:
        limits = self.created.duet.limits if self.created is not None else None
        return limits.max_waiting_frames if limits is not None else 2

    async def _turn(self, role: str, text: str, *, keep: bool, time: float | None) -> None:
        extras = {"keep": keep, **({"pts": round(time * 1e6)} if time is not None else {})}
        item = {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}], "duet": extras}
        await self.send("conversation.item.create", item=item)

    async def _put(self, message: str | bytes) -> None:
        """Queue a message; waits while the server has not consumed what was sent before."""
        self._refuse_oversize(message)
        while len(self._outbox) >= MOST_UNCONSUMED and not self._over:
            self._room.clear()
            await self._room.wait()
        if self._over:
            raise self._error or SessionClosedError("the session has ended; open another")
        self._outbox.append(message)
        if self._outbox.appended % HEARTBEAT_EVERY == 0:
            self._outbox.append(json.dumps({"type": "session.heartbeat"}))
        self._to_send.set()

    def _refuse_oversize(self, message: str | bytes) -> None:
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

    async def _keep_talking(self) -> None:
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
        lost = loop.time()
        try:
            while not self._over:
                try:
                    await self._talk()
                    break
                except (ConnectionClosed, OSError, TimeoutError, InvalidHandshake, InvalidURI) as error:
                    if self._open.is_set():
                        self._open.clear()
                        lost, pause = loop.time(), FIRST_PAUSE
                    refuse_what_stays(self.url, error, resuming=self.created is not None)
                    if loop.time() + pause - lost > self._patience:
                        raise ConnectionLostError(f"{self.url} cannot be reached ({error}); start anew") from error
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
    def _patience(self) -> float:
        if self._give_up is not None:
            return self._give_up
        limits = self.created.duet.limits if self.created is not None else None
        return max(LEAST_PATIENCE, limits.time_to_live_s if limits is not None else 0.0)

    async def _talk(self) -> None:
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
                    await self._hear(message)
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

    def _resume(self, session: told.SessionTold) -> str:
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

    async def _hear(self, message: str | bytes) -> None:
        try:
            event = told.parse_server_event(message)
        except ValidationError as error:
            raise ServerError(
                f"{self.url} sent what is no event of the protocol ({error.error_count()} faults)"
            ) from error
        number = event_number(event.event_id) or 0
        if number and number <= self._last:
            return
        self._last = max(self._last, number)
        self._keep_books(event)
        match event:
            case told.HeartbeatAck():
                return
            case told.SessionExpired():
                raise ConnectionLostError(f"session {event.session_id} is no longer kept by {self.url}; start anew")
            case told.SessionReplaced():
                raise ConnectionLostError(f"session {event.session_id} goes on at another socket")
            case told.ErrorEvent(error=fault) if fault.event_id in self._updates:
                self._updated(fault.event_id or "", fault.message)
                return
            case told.SessionUpdated() if self._updates:
                self._updated(next(iter(self._updates)), None)
        self._events.put_nowait(event)

    def _keep_books(self, event: Any) -> None:
        """What the event says of the session, of messages that were consumed, of frames that were watched."""
        match event:
            case told.SessionCreated():
                self.created = event.session
                self._open.set()
            case told.SessionUpdated(session=session):
                self._acknowledged = session.duet.ack
            case told.SessionResumed() | told.ResyncRequired():
                if isinstance(event, told.ResyncRequired):
                    self._forget_answers()
                self._outbox.rewind(event.last_consumed_client_message_index)
                self._open.set()
            case told.HeartbeatAck():
                self._outbox.consumed(event.last_consumed_client_message_index)
                self._room.set()
            case told.FrameScored() | told.FrameDropped():
                self._unwatched -= 1
                self._room.set()
            case told.SessionClosed():
                self._over = True

    def _forget_answers(self) -> None:
        """Some events were lost: what they would have said is not waited for."""
        self._unwatched = 0
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
        raise OptionError(f"server {url!r} is no address; use ws://HOST:PORT, or wss:// over TLS")
    path = parts.path if parts.path not in ("", "/") else PATH
    return urlunsplit((scheme, parts.netloc, path, "", ""))


def refuse_what_stays(url: str, error: Exception, *, resuming: bool) -> None:
    """Raise where connecting again would not help: a wrong key, a wrong model; a full or absent server at the first try."""
    if isinstance(error, ConnectionClosed) and error.rcvd is not None and error.rcvd.code in (1007, 1009):
        raise ServerError(f"{url} will not take what was sent: {error.rcvd.reason}") from error
    if isinstance(error, InvalidURI):
        raise OptionError(f"server {url!r} is no address: {error}") from error
    if isinstance(error, InvalidStatus):
        status, words = error.response.status_code, _words(error)
        if status in (401, 403):
            raise AuthError(f"{url} refuses: {words} (here: key, --key or MMDUET_KEY)") from error
        if status == 503 and not resuming:
            raise CapacityError(f"{url} has no room: {words}") from error
        if status not in (502, 503, 504):
            raise ServerError(f"{url} answers {status}: {words}") from error
    if not resuming:
        raise ServerError(f"{url} cannot be reached ({error}); is a server running there?") from error


def _words(error: InvalidStatus) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(error.response.body or b"")["error"]["message"])
    return error.response.reason_phrase
