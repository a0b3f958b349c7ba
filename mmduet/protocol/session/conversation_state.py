"""The saved state of a conversation and its JSON form in journals. The JSON names are a file format and never change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from mmduet.events import Scores
from mmduet.options import SessionOptions
from mmduet.protocol.server_events import ResponseDuet, SessionClosed
from mmduet.protocol.session.event_emitter import ActiveReply, EventEmitterState, FrameOutcome, RequestedReply
from mmduet.protocol.session.frame_tracker import AcceptedFrame, FrameTrackerState
from mmduet.protocol.session.settings import SessionSettings


@dataclass(frozen=True)
class ConversationState:
    """A conversation between two messages. Commands still in its queue are recorded separately.

    ``consumed`` counts the client's messages. ``items``, ``turns`` and ``frames`` are the counters behind the next item id,
    turn number and frame index. ``last`` is the frame with the highest seq, ``origin`` the pts of the first frame in
    microseconds, ``tick`` the sampler's position.
    """

    settings: SessionSettings
    emitter: EventEmitterState
    consumed: int
    started: bool
    ended: bool
    last: AcceptedFrame | None
    origin: int | None
    items: int
    turns: int
    frames: int
    tick: int
    ends_with_source: bool

    def to_json(self) -> bytes:
        """Return the state as JSON."""
        return to_json(_state_to_dict(self), inf_nan_mode="null")

    @classmethod
    def from_json(cls, text: str) -> ConversationState:
        """Build a state from its JSON. Raises ``ValueError``, ``KeyError`` or ``TypeError`` for other text."""
        return _state_from_dict(from_json(text))


def _state_to_dict(state: ConversationState) -> dict[str, Any]:
    return {
        "settings": _settings_to_dict(state.settings),
        "narrator": _emitter_to_dict(state.emitter),
        "consumed": state.consumed,
        "started": state.started,
        "ended": state.ended,
        "last": None if state.last is None else _frame_to_dict(state.last),
        "origin": state.origin,
        "items": state.items,
        "turns": state.turns,
        "frames": state.frames,
        "tick": state.tick,
        "ends_with_source": state.ends_with_source,
    }


def _state_from_dict(values: Mapping[str, Any]) -> ConversationState:
    return ConversationState(
        settings=_settings_from_dict(values["settings"]),
        emitter=_emitter_from_dict(values["narrator"]),
        consumed=values["consumed"],
        started=values["started"],
        ended=values["ended"],
        last=None if values["last"] is None else _frame_from_dict(values["last"]),
        origin=values["origin"],
        items=values["items"],
        turns=values["turns"],
        frames=values["frames"],
        tick=values["tick"],
        ends_with_source=values["ends_with_source"],
    )


# Settings


def _settings_to_dict(settings: SessionSettings) -> dict[str, Any]:
    return {
        "model": settings.model,
        "options": settings.options.to_dict(),
        "fps": settings.fps,
        "scores": settings.scores,
        "ack": settings.ack,
        **({} if settings.max_frame_age is None else {"max_frame_age": settings.max_frame_age}),
        **({"thumbnails": True} if settings.thumbnails else {}),
    }


def _settings_from_dict(values: Mapping[str, Any]) -> SessionSettings:
    fps = values["fps"]
    return SessionSettings(
        model=values["model"],
        options=SessionOptions.from_dict(values["options"]),
        fps=None if fps is None else float(fps),
        scores=values["scores"],
        ack=values["ack"],
        max_frame_age=values.get("max_frame_age"),  # absent in journals of earlier versions
        thumbnails=values.get("thumbnails", False),  # likewise
    )


# Frames and replies


def _emitter_to_dict(state: EventEmitterState) -> dict[str, Any]:
    scored = state.last_scored
    return {
        "books": _frames_to_dict(state.frames),
        "unread": state.unread_turns,
        "asked": [{"metadata": request.metadata, "when": request.requested_at} for request in state.requested],
        "closed": None if state.closed is None else state.closed.model_dump(mode="json"),
        "speaking": None if state.speaking is None else _reply_to_dict(state.speaking),
        "spoken": state.reply_count,
        "owing": state.reply_due,
        "watched": None if scored is None else [_frame_to_dict(scored[0]), _scores_to_dict(scored[1])],
        "last_item": state.last_item,
        "duration": state.duration,
        **({"warnings": state.warnings} if state.warnings else {}),
    }


def _emitter_from_dict(values: Mapping[str, Any]) -> EventEmitterState:
    scored = values["watched"]
    return EventEmitterState(
        frames=_frames_from_dict(values["books"]),
        unread_turns=tuple(values["unread"]),
        requested=tuple(RequestedReply(request["metadata"], float(request["when"])) for request in values["asked"]),
        closed=None if values["closed"] is None else SessionClosed.model_validate(values["closed"]),
        speaking=None if values["speaking"] is None else _reply_from_dict(values["speaking"]),
        reply_count=values["spoken"],
        reply_due=values["owing"],
        last_scored=None if scored is None else (_frame_from_dict(scored[0]), _scores_from_dict(scored[1])),
        last_item=values["last_item"],
        duration=float(values["duration"]),
        warnings=tuple(values.get("warnings", ())),  # absent in journals of earlier versions
    )


def _frames_to_dict(state: FrameTrackerState[FrameOutcome]) -> dict[str, Any]:
    return {
        "open": [_frame_to_dict(frame) for frame in state.open],
        "ends": {str(index): _outcome_to_json(outcome) for index, outcome in state.outcomes.items()},
        "counts": state.counts,
    }


def _frames_from_dict(values: Mapping[str, Any]) -> FrameTrackerState[FrameOutcome]:
    return FrameTrackerState(
        open=tuple(_frame_from_dict(frame) for frame in values["open"]),
        outcomes={int(index): _outcome_from_json(outcome) for index, outcome in values["ends"].items()},
        counts=dict(values["counts"]),
    )


def _frame_to_dict(frame: AcceptedFrame) -> dict[str, Any]:
    return {
        "index": frame.index,
        "seq": frame.seq,
        "pts": frame.pts,
        "time": frame.time,
        "came": frame.received_at,
    }


def _frame_from_dict(values: Mapping[str, Any]) -> AcceptedFrame:
    return AcceptedFrame(values["index"], values["seq"], values["pts"], float(values["time"]), float(values["came"]))


def _outcome_to_json(outcome: FrameOutcome) -> Any:
    return _scores_to_dict(outcome) if isinstance(outcome, Scores) else outcome


def _outcome_from_json(value: Any) -> FrameOutcome:
    return _scores_from_dict(value) if isinstance(value, Mapping) else value


def _scores_to_dict(scores: Scores) -> dict[str, Any]:
    return {
        "frame": scores.frame,
        "time": scores.time,
        "informative": scores.informative,
        "relevance": scores.relevance,
        "speak": scores.speak,
    }


def _scores_from_dict(values: Mapping[str, Any]) -> Scores:
    return Scores(
        values["frame"],
        float(values["time"]),
        float(values["informative"]),
        float(values["relevance"]),
        values["speak"],
    )


def _reply_to_dict(reply: ActiveReply) -> dict[str, Any]:
    return {
        "number": reply.number,
        "response": reply.response_id,
        "item": reply.item_id,
        "trigger": reply.trigger.model_dump(mode="json"),
        "since": reply.requested_at,
        "metadata": reply.metadata,
        "text": reply.text,
        "first_delta": reply.first_delta_at,
    }


def _reply_from_dict(values: Mapping[str, Any]) -> ActiveReply:
    return ActiveReply(
        number=values["number"],
        response_id=values["response"],
        item_id=values["item"],
        trigger=ResponseDuet.model_validate(values["trigger"]),
        requested_at=float(values["since"]),
        metadata=values["metadata"],
        text=values["text"],
        first_delta_at=values["first_delta"],
    )
