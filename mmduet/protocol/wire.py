"""Base models of wire messages, and the conversion of validation errors into protocol errors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mmduet.errors import ProtocolError

MAX_VALUE_CHARS = 120
"""Characters of a client's value that an error message repeats."""

ERROR_CODES = {
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_parameter",
    "json_invalid": "invalid_json",
    "union_tag_invalid": "unknown_event",
    "union_tag_not_found": "missing_parameter",
}
REMEDIES = {
    "unknown_parameter": "remove it; docs/protocol.md lists the known parameters",
    "missing_parameter": "add it",
    "invalid_json": "send one JSON object per message",
    "unknown_event": "docs/protocol.md lists the known events",
    "invalid_value": "docs/protocol.md lists the valid values",
}
UNION_TAGS = frozenset({"input_text", "input_image", "output_text"})
"""Names that pydantic adds to an error's location for the chosen member of a union; messages have no such keys."""


class ClientModel(BaseModel):
    """Base of messages from clients: unknown parameters are rejected, numbers are finite, types are not converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, ser_json_inf_nan="null")


class ServerModel(BaseModel):
    """Base of messages from servers: unknown fields are ignored, so that older clients accept newer servers."""

    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="null")


def to_protocol_error(error: ValidationError, event_id: str | None = None) -> ProtocolError:
    """Convert the first validation error, with its code, the dotted name of the parameter and the remedy."""
    first = error.errors(include_url=False, include_context=True)[0]
    code = ERROR_CODES.get(first["type"], "invalid_value")
    param = field_path(first["loc"])
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        param = f"{param}.type" if param else "type"
    value = "" if code in ("missing_parameter", "invalid_json") else f" ({truncate(first['input'])})"
    reason = "" if code in ("unknown_parameter", "missing_parameter") else f": {first['msg']}"
    problem = {"unknown_parameter": "is not known", "missing_parameter": "is missing"}.get(code, "is not valid")
    subject = f"{param}{value}" if param else "the message"
    return ProtocolError(f"{subject} {problem}{reason}; {REMEDIES[code]}", code, param=param or None, event_id=event_id)


def field_path(location: tuple[int | str, ...]) -> str:
    """Return the dotted name for a location in a message, without the event's own name: ``session.duet.fps``."""
    names = [str(part) for part in location]
    if names and "." in names[0]:
        names = names[1:]
    return ".".join(name for name in names if name not in UNION_TAGS)


def truncate(value: Any) -> str:
    """Return a value's ``repr``, cut to ``MAX_VALUE_CHARS``."""
    text = repr(value)
    return text if len(text) <= MAX_VALUE_CHARS else text[:MAX_VALUE_CHARS] + "…"
