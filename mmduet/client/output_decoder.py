"""Convert a server's events into the outputs that an engine would emit."""

from __future__ import annotations

from collections.abc import Iterator

from mmduet.events import (
    Context,
    ContextRead,
    FinishReason,
    Output,
    Query,
    QueryRead,
    Reply,
    ReplyDelta,
    ReplyStarted,
    Scores,
    SessionFailed,
    SessionWarning,
    StreamEnded,
)
from mmduet.protocol import server_events

FINISH_REASONS: dict[str, FinishReason] = {"completed": "stop", "incomplete": "length", "cancelled": "cancelled"}


class OutputDecoder:
    """Stateful decoder of one session: it remembers the last frame's time and the last error of the server."""

    def __init__(self) -> None:
        self.time = 0.0
        self.frames = 0
        self._replies = 0
        self._error: server_events.Error | None = None

    def decode(self, event: server_events.ServerEvent) -> Iterator[Output]:
        """Yield the outputs that correspond to an event."""
        match event:
            case server_events.FrameScored():
                yield self._scores(event)
            case server_events.ItemDone(item=item) if item.role != "assistant":
                yield self._turn_read(item)
            case server_events.ResponseCreated(response=response):
                frame, time = self._frame_and_time(response.duet)
                yield ReplyStarted(self._replies, frame, time, response.duet.forced)
            case server_events.TextDelta(delta=delta):
                yield ReplyDelta(self._replies, delta)
            case server_events.ResponseDone(response=response):
                yield self._reply(response)
            case server_events.SessionWarningEvent(code=code, message=message):
                yield SessionWarning(code, message, self.time)
            case server_events.ErrorEvent(error=error) if error.type == "server_error":
                self._error = error
            case server_events.ErrorEvent(error=error):  # a message that was rejected; the session continues
                yield SessionWarning(error.code, error.message, self.time)
            case server_events.SessionClosed():
                yield self._final_output(event)

    def _scores(self, event: server_events.FrameScored) -> Scores:
        self.time, self.frames = event.pts / 1e6, self.frames + 1
        informative = event.informative if event.informative is not None else float("nan")
        relevance = event.relevance if event.relevance is not None else float("nan")
        return Scores(event.seq, self.time, informative, relevance, event.decision == "speak")

    def _turn_read(self, item: server_events.Item) -> Output:
        text = "\n".join(part["text"] for part in item.content if "text" in part)
        time = item.duet["pts"] / 1e6 if item.duet is not None else self.time
        return QueryRead(Query(text, time), time) if item.role == "user" else ContextRead(Context(text, time), time)

    def _frame_and_time(self, trigger: server_events.ResponseDuet) -> tuple[int, float]:
        if trigger.trigger_seq is None or trigger.trigger_pts is None:
            return -1, 0.0
        return trigger.trigger_seq, trigger.trigger_pts / 1e6

    def _reply(self, response: server_events.Response) -> Reply:
        frame, time = self._frame_and_time(response.duet)
        text = "".join(part.get("text", "") for item in response.output for part in item.content)
        tokens = response.usage.output_tokens if response.usage is not None else 0
        context = response.usage.input_tokens if response.usage is not None else 0
        number, self._replies = self._replies, self._replies + 1
        return Reply(number, frame, time, text, tokens, FINISH_REASONS[response.status], response.duet.forced, context)

    def _final_output(self, event: server_events.SessionClosed) -> Output:
        if event.reason == "ended":
            return StreamEnded(self.frames, self.time)
        code = self._error.code if self._error is not None else "server"
        message = self._error.message if self._error is not None else f"the server closed the session: {event.reason}"
        return SessionFailed(code, message, 10)
