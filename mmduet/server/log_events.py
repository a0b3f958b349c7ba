"""Every line that the server logs: its event, level, message and fields. ``docs/logs.md`` is generated from this module."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, get_args

from mmduet.protocol.server_events import DropReason
from mmduet.server.request_context import request_fields
from mmduet.text import to_printable

DROPPED = tuple(f"dropped_{reason}" for reason in get_args(DropReason))
REQUEST_FIELDS = ("method", "path", "status", "duration_ms", "request", "client", "key", "session", "model", "adapter")

FIELDS = {
    "adapter": "Adapter that the session has selected",
    "bytes": "Size in bytes",
    "client": "Address of the client, behind a trusted proxy that of the proxy's client",
    "code": "Close code of the WebSocket",
    "complete": "Whether the client receives every event that it has missed",
    "context_tokens": "Tokens in the context at the reply",
    "detail": "Message of the error",
    **{f"dropped_{reason}": f"Frames dropped as `{reason}`; only if there are any" for reason in get_args(DropReason)},
    "duration_ms": "Time until the response started, in milliseconds",
    "duration_s": "Duration in seconds",
    "file": "Name of the file",
    "folder": "Folder of the journals, of sample clips or of visitors' files",
    "frame": "Index of the frame in its session",
    "frames": "Number of frames",
    "frames_received": "Frames received",
    "frames_scored": "Frames scored by the model",
    "key": "Digest of the API key, such as `key-1a2b3c4d`, with `.` and a visitor for a client secret; `anybody` without keys",
    "method": "HTTP method, or `WebSocket` for a handshake",
    "model": "Model that the request or session uses",
    "open_sessions": "Number of sessions that are open",
    "path": "Path without its query",
    "pid": "Process id of the other server, if the system knows it",
    "position": "Place in the queue; 1 is the next",
    "reason": "Why it ended or was rejected",
    "replies": "Replies that have ended, complete or not",
    "request": "The `x-request-id` of the response",
    "retry_s": "Pause before the next attempt, in seconds",
    "session": "Session id",
    "sessions": "Number of sessions in the step",
    "sessions_ended": "Number of sessions that failed alone and were ended",
    "signal": "The signal that was received",
    "source": "URL of the source without credentials and query",
    "status": "HTTP status; 101 for an accepted handshake",
    "suppressed": "Equal lines that were left out since the previous one; only if there are any",
    "task": "Task that was run on a video: `caption`, `ground`, `highlight` or `ask`",
    "timeout_s": "Longest wait, in seconds",
    "tokens": "Tokens generated since the session was opened, or restored from its journal",
}
"""What each field means."""


@dataclass(frozen=True)
class LogEvent:
    """One kind of line. Fields that are unknown, or do not apply, are left out of a line."""

    name: str
    level: int
    message: str
    fields: tuple[str, ...]

    def emit(self, logger: logging.Logger, *, error: BaseException | None = None, **values: Any) -> None:
        """Log a line with these fields, and the traceback of ``error``.

        Fields of the event that are not given are those of the current request, if there is one.
        """
        if not logger.isEnabledFor(self.level):
            return
        known = {**request_fields(), **values}
        extra = {field: _printable(known[field]) for field in self.fields if known.get(field) is not None}
        logger.log(self.level, self.message, extra={"event": self.name, **extra}, exc_info=error, stacklevel=2)


def _printable(value: Any) -> Any:
    return to_printable(value) if isinstance(value, str) else value


REQUEST = LogEvent("request", logging.INFO, "request", REQUEST_FIELDS)
PROBE = LogEvent("probe", logging.DEBUG, "request of a probe", REQUEST_FIELDS)
COMPLETION_CLOSED = LogEvent(
    "completion_closed",
    logging.INFO,
    "chat completion closed",
    ("request", "client", "key", "model", "reason", "duration_s", "frames", "context_tokens", "tokens"),
)
REQUEST_ABORTED = LogEvent(
    "request_aborted", logging.DEBUG, "the client disconnected before the response", ("request", "client", "key")
)
REQUEST_FAILED = LogEvent(
    "request_failed", logging.ERROR, "a request failed unexpectedly", ("request", "path", "client", "key")
)
RESPONSE_FAILED = LogEvent(
    "response_failed", logging.ERROR, "a request failed while its response was streamed", ("request", "client", "key")
)
AUTH_FAILED = LogEvent("auth_failed", logging.WARNING, "authentication failed", ("client", "reason", "suppressed"))

CLIENT_QUEUED = LogEvent(
    "client_queued", logging.INFO, "a client waits for a session", ("key", "client", "position", "timeout_s")
)
CLIENT_LEFT_QUEUE = LogEvent(
    "client_left_queue",
    logging.INFO,
    "a client does not wait for a session any more",
    ("session", "key", "client", "reason", "duration_s"),
)
SESSION_OPENED = LogEvent(
    "session_opened", logging.INFO, "session opened", ("session", "key", "client", "model", "adapter")
)
SESSION_RESUMED = LogEvent("session_resumed", logging.INFO, "session resumed", ("session", "key", "client", "complete"))
SESSION_NOT_RESUMED = LogEvent(
    "session_not_resumed",
    logging.INFO,
    "a client cannot resume a session: it has expired, or token or key are wrong",
    ("session", "key", "client"),
)
SESSION_RESTORED = LogEvent(
    "session_restored", logging.INFO, "session restored from its journal", ("session", "key", "model", "frames")
)
SESSION_NOT_RESTORED = LogEvent(
    "session_not_restored",
    logging.WARNING,
    "session not restored in this run; its journal is kept",
    ("session", "key", "detail"),
)
SESSION_UNUSABLE = LogEvent(
    "session_unusable",
    logging.WARNING,
    "session cannot be restored; its journal is deleted",
    ("session", "key", "detail"),
)
SESSION_SUSPENDED = LogEvent(
    "session_suspended", logging.INFO, "session suspended for the next server", ("session", "key")
)
SESSION_CLOSED = LogEvent(
    "session_closed",
    logging.INFO,
    "session closed",
    (
        *("session", "key", "client", "model", "adapter", "reason", "duration_s"),
        *("frames_received", "frames_scored", *DROPPED, "replies", "tokens"),
    ),
)
SESSION_FAILED = LogEvent(
    "session_failed", logging.ERROR, "session failed unexpectedly", ("session", "key", "client", "model")
)
FRAME_NOT_DECODED = LogEvent(
    "frame_not_decoded", logging.DEBUG, "a frame cannot be decoded", ("session", "frame", "detail")
)
SOCKET_DISCONNECTED = LogEvent(
    "socket_disconnected", logging.DEBUG, "socket disconnected", ("session", "client", "key", "detail")
)
PROTOCOL_ABUSE = LogEvent(
    "protocol_abuse",
    logging.WARNING,
    "socket closed for protocol abuse",
    ("session", "client", "key", "code", "reason"),
)
CLIENT_TOO_SLOW = LogEvent(
    "client_too_slow", logging.WARNING, "the client does not read; its socket is closed", ("session", "client", "key")
)

SOURCE_CONNECTING = LogEvent("source_connecting", logging.INFO, "connecting to a source", ("session", "source"))
SOURCE_LIVE = LogEvent("source_live", logging.INFO, "a source delivers frames", ("session", "source"))
SOURCE_RETRYING = LogEvent(
    "source_retrying",
    logging.INFO,
    "the connection to a source is lost, trying again",
    ("session", "source", "detail", "retry_s", "suppressed"),
)
SOURCE_ENDED = LogEvent(
    "source_ended", logging.INFO, "a source has ended", ("session", "source", "reason", "detail", "frames")
)
SOURCE_FAILED = LogEvent("source_failed", logging.ERROR, "reading a source failed unexpectedly", ("session", "source"))

UPLOAD_STORED = LogEvent(
    "upload_stored", logging.INFO, "a visitor has uploaded a video", ("request", "client", "key", "bytes", "duration_s")
)
UPLOAD_DELETED = LogEvent("upload_deleted", logging.INFO, "an uploaded video was deleted", ("key", "reason"))
PREVIEW_FAILED = LogEvent(
    "preview_failed", logging.WARNING, "the preview of an uploaded video cannot be made", ("detail",)
)
RESULT_ENDED = LogEvent(
    "result_ended",
    logging.INFO,
    "a task on a video has ended",
    ("key", "model", "task", "reason", "detail", "duration_s", "frames"),
)
RESULT_FAILED = LogEvent("result_failed", logging.ERROR, "a task on a video failed unexpectedly", ("key", "task"))
CLIPS_NOT_RENDERED = LogEvent(
    "clips_not_rendered", logging.WARNING, "sample clips of the live page cannot be rendered", ("folder", "detail")
)
LEFTOVERS_DELETED = LogEvent(
    "leftovers_deleted", logging.INFO, "files of visitors that a killed server left behind were deleted", ("folder",)
)

SLOW_STEP = LogEvent(
    "slow_step", logging.WARNING, "slow engine step", ("duration_s", "frames", "sessions", "suppressed")
)
STEP_FAILED = LogEvent(
    "step_failed",
    logging.WARNING,
    "an engine step failed and was repeated in parts",
    ("sessions", "sessions_ended", "suppressed"),
)
WARM_UP_FAILED = LogEvent("warm_up_failed", logging.ERROR, "the warm-up of the engine failed", ())
ENGINE_FAILED = LogEvent("engine_failed", logging.CRITICAL, "the engine has failed; restart the server", ())
DRAINING = LogEvent("draining", logging.INFO, "draining before the server stops", ("signal", "timeout_s"))
HAND_OVER_UNAVAILABLE = LogEvent(
    "hand_over_unavailable",
    logging.WARNING,
    "the journal's folder cannot have a control socket; upgrades interrupt sessions",
    ("folder", "detail"),
)
HAND_OVER_REQUEST_FAILED = LogEvent(
    "hand_over_request_failed", logging.WARNING, "a request on the control socket failed", ("detail",)
)
HAND_OVER_STARTED = LogEvent(
    "hand_over_started", logging.INFO, "handing the sessions over to a new server", ("pid", "open_sessions")
)
HANDED_OVER = LogEvent(
    "handed_over", logging.INFO, "handed over; this process ends after the HTTP requests in progress", ("pid",)
)
HAND_OVER_FAILED = LogEvent(
    "hand_over_failed",
    logging.WARNING,
    "the new server failed to take over; this one continues",
    ("pid", "open_sessions"),
)
NEW_SERVER_KILLED = LogEvent(
    "new_server_killed",
    logging.WARNING,
    "the new server does not answer; its process is ended",
    ("pid", "timeout_s"),
)
WAITING_FOR_HAND_OVER = LogEvent(
    "waiting_for_hand_over",
    logging.INFO,
    "another server uses the journal; it is asked to hand over once the model is loaded",
    ("folder",),
)
TAKEN_OVER = LogEvent("taken_over", logging.INFO, "took over from the previous server", ())
JOURNAL_FAILED = LogEvent(
    "journal_failed",
    logging.ERROR,
    "the disk is full, fails or is too slow: until it recovers, a session would not survive a restart",
    ("session", "detail"),
)
JOURNAL_RECOVERED = LogEvent("journal_recovered", logging.INFO, "a session is journaled again", ("session",))
JOURNAL_ENDED = LogEvent(
    "journal_ended",
    logging.ERROR,
    "a session is not journaled any more, because the disk does not answer",
    ("session",),
)
JOURNAL_NOT_COMPACTED = LogEvent(
    "journal_not_compacted", logging.WARNING, "a journal cannot be compacted and keeps growing", ("file", "detail")
)
JOURNAL_UNREADABLE = LogEvent(
    "journal_unreadable",
    logging.ERROR,
    "a journal cannot be read; it is renamed to end with .unreadable",
    ("file", "detail"),
)
JOURNAL_NOT_DELETED = LogEvent(
    "journal_not_deleted",
    logging.ERROR,
    "a journal cannot be deleted; delete it, or its session is restored at the next start",
    ("file", "detail"),
)
CLIENT_KEY_VARIABLE_SET = LogEvent(
    "client_key_variable_set",
    logging.WARNING,
    "MMDUET_KEY is the key that clients send and does not protect this server; set MMDUET_KEYS for that",
    (),
)
