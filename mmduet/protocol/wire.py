"""Base models of wire messages, and the conversion of validation errors into protocol errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function, nullable_schema

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

_EXPECTED = re.compile("Input should be (?=(less|greater)?)")

T = TypeVar("T")

Ignored = Any
"""Type of a parameter that does not change the answer."""


def _to_integer(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


INTEGRAL = BeforeValidator(_to_integer)
"""Annotation of an integer that may be written with a decimal point (``3.0``), which is the same number in JSON.

It stands after the field's bounds, which are missing in the JSON schema otherwise.
"""


def only(*accepted: Any) -> NeutralValues:
    """Return the annotation of a parameter that accepts null and the values ``accepted``, with which it has no effect."""
    return NeutralValues(accepted)


@dataclass(frozen=True, eq=False)  # typing caches equal annotations, and False equals 0
class NeutralValues:
    """Validator and JSON schema of a parameter that accepts null and the values ``accepted``."""

    accepted: tuple[Any, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of the parameter with the check after it."""
        return no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the accepted values as JSON schema."""
        return {"enum": [None, *self.accepted]}

    def _check(self, value: Any) -> Any:
        if value is not None and not any(_is_same_json(value, accepted) for accepted in self.accepted):
            expected = " or ".join(map(repr, self.accepted)) or "null"
            raise PydanticCustomError("unsupported_parameter", "only {expected} is supported", {"expected": expected})
        return value


@dataclass(frozen=True)
class NullMeans:
    """Annotation of a parameter that accepts null, which means ``default``."""

    default: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of the parameter or null, which is replaced afterwards.

        A validator before it would pass on Python's values, where strict validation does not accept a list as a tuple.
        """
        return no_info_after_validator_function(self._replace_null, nullable_schema(handler(source)))

    def _replace_null(self, value: Any) -> Any:
        return self.default if value is None else value


def _is_same_json(value: Any, other: Any) -> bool:
    """Return whether two values are equal in JSON, where a boolean is not a number."""
    return value == other and isinstance(value, bool) is isinstance(other, bool)


class ClientModel(BaseModel):
    """Base of messages from clients: unknown parameters are rejected, numbers are finite, types are not converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, ser_json_inf_nan="null")


class ServerModel(BaseModel):
    """Base of messages from servers: unknown fields are ignored, so that older clients accept newer servers."""

    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="null")


class ServerEvent(ServerModel):
    """Base of all server events. ``event_id`` increases within a session, as text and as a number."""

    event_id: str = ""


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
    is the page that remedies refer to; it lists all parameters with their values. ``whole`` is what the error is about if it
    names no parameter.
    """
    first = error.errors(include_url=False, include_context=True)[0]
    param = shorten(field_path(first["loc"]) if document is None else field_path_in(document, first["loc"]))
    code = ERROR_CODES.get(first["type"], "invalid_value")
    if code == "unknown_event" and param:
        code = "invalid_value"
    wrong_value = first["input"]
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        key = str(first["ctx"]["discriminator"]).strip("'()<>")
        param = f"{param}.{key}" if param else key
        wrong_value = wrong_value.get(key)
    value = "" if code in ("missing_parameter", "invalid_json") else f" ({truncate(wrong_value)})"
    reason = "" if code in ("unknown_parameter", "missing_parameter") else f": {_reason(first)}"
    problem = {"unknown_parameter": "is not known", "missing_parameter": "is missing"}.get(code, "is not valid")
    subject = f"{param}{value}" if param else whole
    remedy = REMEDIES[code].format(guide=guide, whole=whole)
    return ProtocolError(f"{subject} {problem}{reason}; {remedy}", code, param=param or None, event_id=event_id)


def _reason(error: ErrorDetails) -> str:
    """Return what was expected, from pydantic's message, which has the client's value in some errors."""
    if error["type"] == "union_tag_invalid":
        return f"expected one of {error['ctx']['expected_tags']}"
    if error["type"] == "too_short":
        return f"expected at least {error['ctx']['min_length']}, got {error['ctx']['actual_length']}"
    if error["type"] == "too_long":
        return f"expected at most {error['ctx']['max_length']}"
    return _EXPECTED.sub(lambda found: "expected a number " if found[1] else "expected ", error["msg"])


def field_path(location: tuple[int | str, ...]) -> str:
    """Return the dotted name for a location in a message, without the event's own name: ``session.duet.fps``."""
    names = [str(part) for part in location]
    if names and "." in names[0]:
        names = names[1:]
    return ".".join(name for name in names if name not in UNION_TAGS)


def field_path_in(document: object, location: tuple[int | str, ...]) -> str:
    """Return the dotted name for a location in ``document``, without the tags of unions: ``messages.0.content.1.text``."""
    return ".".join(str(key) for _, key in _walk(document, location))


def _walk(document: object, location: tuple[int | str, ...]) -> Iterator[tuple[object, int | str]]:
    """Yield the objects and lists on the way to a location in ``document``, each with the key of the next one."""
    node, may_be_tag = document, True
    for number, part in enumerate(location, 1):
        if may_be_tag and isinstance(node, dict) and any(node.get(key) == part for key in DISCRIMINATORS):
            may_be_tag = False  # the tag of this object; what follows is one of its keys
            continue
        parent = node
        if isinstance(node, dict) and (part in node or number == len(location)):
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            continue  # a tag of pydantic's
        yield parent, part
        may_be_tag = True


def validate_json(validate: Callable[[str | bytes], T], text: str | bytes) -> T:
    """Return ``validate(text)``; unknown parameters that are null have no effect and are left out.

    Raises ``pydantic.ValidationError``.
    """
    try:
        return validate(text)
    except ValidationError as error:
        unknown = [one["loc"] for one in error.errors(include_url=False) if _is_unknown_null(one)]
        if not unknown:
            raise
    document = json.loads(text)
    for location in unknown:
        for parent, key in list(_walk(document, location))[-1:]:
            if isinstance(parent, dict) and parent.get(key, ...) is None:
                del parent[key]
    return validate(json.dumps(document))


def _is_unknown_null(error: ErrorDetails) -> bool:
    return error["type"] == "extra_forbidden" and error["input"] is None


def truncate(value: Any) -> str:
    """Return a value's ``repr``, shortened."""
    return shorten(repr(value))
