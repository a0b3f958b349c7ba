"""Knows how a message is read from text and told what is wrong with it; nothing of which messages there are."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mmduet.errors import ProtocolError

MOST_SHOWN = 120
"""Characters of a client's own text that an error message repeats."""

CODES = {
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_parameter",
    "json_invalid": "invalid_json",
    "union_tag_invalid": "unknown_event",
    "union_tag_not_found": "missing_parameter",
}
REMEDIES = {
    "unknown_parameter": "leave it out; the protocol page lists what there is",
    "missing_parameter": "add it",
    "invalid_json": "send one JSON object a message",
    "unknown_event": "the protocol page lists what there is",
    "invalid_value": "the protocol page says what it may be",
}


class Received(BaseModel):
    """Base of what a client sends: what is not known is refused by name, numbers are finite, types are what they say."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, ser_json_inf_nan="null")


class Told(BaseModel):
    """Base of what a server tells: a client of an older version reads past what it does not know."""

    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="null")


def refusal(error: ValidationError, event_id: str | None = None) -> ProtocolError:
    """The first thing wrong with a message, with its code, the parameter's dotted name and the remedy."""
    first = error.errors(include_url=False, include_context=True)[0]
    code = CODES.get(first["type"], "invalid_value")
    param = dotted(first["loc"])
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        param = f"{param}.type" if param else "type"
    shown = "" if code in ("missing_parameter", "invalid_json") else f" ({brief(first['input'])})"
    reason = "" if code in ("unknown_parameter", "missing_parameter") else f": {first['msg']}"
    what = {"unknown_parameter": "is not known", "missing_parameter": "is missing"}.get(code, "cannot be used")
    subject = f"{param}{shown}" if param else "the message"
    return ProtocolError(f"{subject} {what}{reason}; {REMEDIES[code]}", code, param=param or None, event_id=event_id)


def dotted(place: tuple[int | str, ...]) -> str:
    """``session.duet.fps`` from a place in a message; the name of the event that led there is left out."""
    names = [str(part) for part in place]
    if names and "." in names[0]:
        names = names[1:]
    return ".".join(name for name in names if name not in TAGS)


TAGS = frozenset({"input_text", "input_image", "output_text"})
"""Names that stand in a place because a union was decided by them, not because a message has such a key."""


def brief(value: Any) -> str:
    """A client's value as an error may show it: one line, cut."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…"
