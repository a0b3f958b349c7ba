"""Base models of wire messages, and the conversion of validation errors into protocol errors."""

from __future__ import annotations

from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from mmduet.errors import ProtocolError
from mmduet.text import shorten

ERROR_CODES = {
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_parameter",
    "json_invalid": "invalid_json",
    "union_tag_invalid": "unknown_event",
    "union_tag_not_found": "missing_parameter",
    "unsupported_parameter": "unsupported_parameter",
}
REMEDIES = {
    "unknown_parameter": "remove it; {guide} lists the known parameters",
    "missing_parameter": "add it",
    "invalid_json": "send {whole} as one JSON object",
    "unknown_event": "{guide} lists the known events",
    "invalid_value": "{guide} lists the valid values",
    "unsupported_parameter": "leave it out",
}
UNION_TAGS = frozenset({"input_text", "input_image", "output_text"})
"""Names that pydantic adds to an error's location for the chosen member of a union; messages have no such keys."""
DISCRIMINATORS = ("type", "role")
"""Keys whose values choose the member of a union."""


Ignored = Any
"""Type of a parameter that does not change the answer."""


def only(*accepted: Any) -> AfterValidator:
    """Return a validator that accepts null and the values ``accepted``, with which a parameter has no effect."""

    def check(value: Any) -> Any:
        if value is not None and value not in accepted:
            expected = " or ".join(map(repr, accepted)) or "null"
            raise PydanticCustomError("unsupported_parameter", "only {expected} is supported", {"expected": expected})
        return value

    return AfterValidator(check)


class ClientModel(BaseModel):
    """Base of messages from clients: unknown parameters are rejected, numbers are finite, types are not converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, ser_json_inf_nan="null")


class ServerModel(BaseModel):
    """Base of messages from servers: unknown fields are ignored, so that older clients accept newer servers."""

    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="null")


def to_protocol_error(
    error: ValidationError,
    event_id: str | None = None,
    *,
    document: object = None,
    guide: str = "docs/protocol.md",
    whole: str = "the message",
) -> ProtocolError:
    """Convert the first validation error, with its code, the dotted name of the parameter and the remedy.

    ``document`` is the parsed message, for which unions may be discriminated by any key of ``DISCRIMINATORS``. ``guide``
    is the page that remedies refer to, ``whole`` what the error is about if it names no parameter.
    """
    first = error.errors(include_url=False, include_context=True)[0]
    param = shorten(field_path(first["loc"]) if document is None else field_path_in(document, first["loc"]))
    code = ERROR_CODES.get(first["type"], "invalid_value")
    if code == "unknown_event" and param:
        code = "invalid_value"
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        key = str(first["ctx"]["discriminator"]).strip("'()<>")
        param = f"{param}.{key}" if param else key
    value = "" if code in ("missing_parameter", "invalid_json") else f" ({truncate(first['input'])})"
    reason = "" if code in ("unknown_parameter", "missing_parameter") else f": {_reason(first)}"
    problem = {"unknown_parameter": "is not known", "missing_parameter": "is missing"}.get(code, "is not valid")
    subject = f"{param}{value}" if param else whole
    remedy = REMEDIES[code].format(guide=guide, whole=whole)
    return ProtocolError(f"{subject} {problem}{reason}; {remedy}", code, param=param or None, event_id=event_id)


def _reason(error: ErrorDetails) -> str:
    """Return pydantic's message, without the client's value."""
    if error["type"] == "union_tag_invalid":
        return f"expected one of {error['ctx']['expected_tags']}"
    return error["msg"]


def field_path(location: tuple[int | str, ...]) -> str:
    """Return the dotted name for a location in a message, without the event's own name: ``session.duet.fps``."""
    names = [str(part) for part in location]
    if names and "." in names[0]:
        names = names[1:]
    return ".".join(name for name in names if name not in UNION_TAGS)


def field_path_in(document: object, location: tuple[int | str, ...]) -> str:
    """Return the dotted name for a location in ``document``, without the tags of unions: ``messages.0.content.1.text``."""
    names, node, may_be_tag = list[str](), document, True
    for number, part in enumerate(location, 1):
        if may_be_tag and isinstance(node, dict) and any(node.get(key) == part for key in DISCRIMINATORS):
            may_be_tag = False  # the tag of this object; what follows is one of its keys
            continue
        if isinstance(node, dict) and (part in node or number == len(location)):
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            continue  # a tag of pydantic's
        names.append(str(part))
        may_be_tag = True
    return ".".join(names)


def truncate(value: Any) -> str:
    """Return a value's ``repr``, shortened."""
    return shorten(repr(value))
