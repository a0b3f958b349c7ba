"""What the HTTP API does with a session in place of a socket: describe it, and execute the client's requests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from mmduet.errors import ConflictError, ProtocolError
from mmduet.protocol.client_events import (
    CreateItem,
    CreateResponse,
    InputText,
    ItemInput,
    ResponseOptions,
    UpdateSession,
)
from mmduet.protocol.server_events import Item, SourceUpdated
from mmduet.protocol.session.items import to_server_item
from mmduet.protocol.session_status import FrameStatus, SessionStatus, SourceStatus
from mmduet.protocol.session_update import SessionUpdate
from mmduet.protocol.source_events import OpenSourceState
from mmduet.server.live_session import LiveSession

NOT_DROPPED = frozenset({"received", "scored"})


def describe(session: LiveSession, *, with_token: bool = False) -> SessionStatus:
    """Return the session's state; ``with_token`` includes the resume token."""
    conversation, activity = session.conversation, session.activity
    counts, newest_at = conversation.frame_counts, conversation.last_frame_at
    frames = FrameStatus(
        received=counts.get("received", 0),
        scored=counts.get("scored", 0),
        waiting=conversation.unfinished_frames,
        dropped={reason: count for reason, count in counts.items() if reason not in NOT_DROPPED},
        newest_age_s=None if newest_at is None else round(max(monotonic() - newest_at, 0.0), 3),
    )
    return SessionStatus(
        id=session.id,
        state="ended" if session.closed else "open",
        created_at=activity.created_at,
        connected=session.subscriber is not None,
        source=describe_source(session),
        frames=frames,
        last_reply=activity.last_reply,
        last_error=activity.last_error,
        session=conversation.to_session(**({"resume_token": session.token} if with_token else {})),
    )


def describe_source(session: LiveSession) -> SourceStatus | None:
    """Return the state of the open source, or of the last one; None if there was none."""
    if session.source.reader is not None:
        return session.source.reader.status
    source = session.activity.source
    is_paused = source is not None and source.state == "connecting" and session.source.pace.paused
    return source.model_copy(update={"state": "paused"}) if source is not None and is_paused else source


def append_query(session: LiveSession, text: str) -> Item:
    """Append a query and return its item. Raises ``ConflictError``, or ``ProtocolError`` about ``query``."""
    check_open(session)
    with _parameter("query"):
        content = InputText(type="input_text", text=text)
        item = ItemInput(type="message", role="user", content=(content,), id=f"item_{secrets.token_hex(8)}")
        session.execute(CreateItem(type="conversation.item.create", item=item))
    return to_server_item(item, item.id or "")


def request_reply(session: LiveSession, options: ResponseOptions) -> None:
    """Request a reply regardless of the speak policy. Raises ``ConflictError`` or ``ProtocolError``."""
    check_open(session)
    session.execute(CreateResponse(type="response.create", response=options))


def update_settings(session: LiveSession, update: SessionUpdate) -> None:
    """Change settings. Raises ``ConflictError``, or ``ProtocolError`` naming the field of ``update``."""
    check_open(session)
    _check_rate(session, update)
    with _parameter("session"):
        session.execute(UpdateSession(type="session.update", session=update))


def pause_source(session: LiveSession) -> None:
    """Stop taking frames from the source; do nothing if it is paused. Raises ``ConflictError`` if none is open."""
    _set_paused(session, paused=True)


def resume_source(session: LiveSession) -> None:
    """Continue with the source; do nothing if it is not paused. Raises ``ConflictError`` if none is open."""
    _set_paused(session, paused=False)


def check_open(session: LiveSession) -> None:
    """Raise ``ConflictError`` if the session has ended."""
    if session.closed:
        raise ConflictError(f"session {session.id} has ended and accepts no input; open another")


def _set_paused(session: LiveSession, *, paused: bool) -> None:
    check_open(session)
    source = describe_source(session)
    if source is None or source.state in ("ended", "failed"):
        action, state = (
            "pause" if paused else "resume",
            "no source" if source is None else f"a source that has {source.state}",
        )
        raise ConflictError(f"session {session.id} has {state}, so there is nothing to {action}; open another session")
    if session.source.pace.paused is paused:
        return
    session.source.set_paused(paused)
    if session.source.reader is None:  # it is about to be opened
        new_state: OpenSourceState = "paused" if paused else "connecting"
        session.conversation.emit(SourceUpdated(url=source.url, state=new_state, speed=source.speed))
        session.wake()


def _check_rate(session: LiveSession, update: SessionUpdate) -> None:
    """Raise ``ConflictError`` for a rate above the one at which the source is read."""
    if session.source.reader is None or "fps" not in update.duet.model_fields_set:
        return
    current, requested = session.source.reader.fps, update.duet.fps
    if current is not None and (requested is None or requested > current):
        raise ConflictError(
            f"the source is read at {current:g} frames per second, which can only be lowered; "
            "open another session for a higher rate"
        )


@contextmanager
def _parameter(name: str) -> Iterator[None]:
    """Rename the parameter of errors: what is ``session.duet.fps`` on a socket is ``duet.fps`` in a body."""
    try:
        yield
    except ProtocolError as error:
        param = name if name == "query" else (error.param or "").removeprefix(f"{name}.") or None
        raise ProtocolError(str(error), error.code, param=param) from None
