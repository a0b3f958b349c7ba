"""Collects from a session's events what its status reports and the conversation does not keep."""

from __future__ import annotations

from time import time

from mmduet.protocol import server_events
from mmduet.protocol.session_status import LastReply, SourceState, SourceStatus


class SessionActivity:
    """The source, newest reply and newest error of one session.

    ``source`` is the state of a source that is not open: about to be opened, or closed.
    """

    def __init__(self) -> None:
        self.created_at = int(time())
        self.source: SourceStatus | None = None
        self.last_reply: LastReply | None = None
        self.last_error: server_events.Error | None = None

    def on_event(self, event: server_events.ServerEvent) -> None:
        """Take over what an event reports."""
        match event:
            case server_events.SourceClosed():
                state: SourceState = "failed" if event.reason == "failed" else "ended"
                self.source = SourceStatus(url=event.url, state=state, message=event.message)
            case server_events.SessionClosed() if self.source is not None and self.source.state == "connecting":
                self.source = self.source.model_copy(update={"state": "ended"})
            case server_events.ErrorEvent():
                self.last_error = event.error
            case server_events.ResponseDone(response=response):
                number = 1 if self.last_reply is None else self.last_reply.number + 1
                self.last_reply = LastReply(
                    number=number, text=_text_of(response), trigger_pts=response.duet.trigger_pts
                )


def _text_of(response: server_events.Response) -> str:
    return "".join(part.get("text", "") for item in response.output for part in item.content)
