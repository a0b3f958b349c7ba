"""Writes docs/protocol.md from the messages themselves, so that the page says what the code does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel

from mmduet.protocol import client_events as sent
from mmduet.protocol import server_events as told
from mmduet.protocol.wire import ServerModel

INTRODUCTION = """\
# The wire protocol

Written by `make docs` from the messages in `mmduet/protocol`; a test holds it to them.

One WebSocket, one session: `GET /v1/realtime?model=NAME`. The messages are JSON in text messages and bear the names of OpenAI's
Realtime API (text modality), so its clients work as they are; what Realtime lacks for video stands beside it. Frames may also
be sent as binary messages, which is how `mmduet.client` sends them:

| bytes | what |
|---|---|
| 0 | version, 1 |
| 1 | kind: 1 JPEG, 2 PNG, 3 WebP, 4 raw RGB |
| 2, 3 | reserved, 0 |
| 4 to 7 | seq, little-endian |
| 8 to 15 | pts in microseconds, little-endian |
| from 16 | the picture; of kind 4 first width and height, two bytes each, little-endian |

## Rules

1. Every frame gets exactly one outcome, as `input_frame.scored` or `input_frame.dropped`, in the order in which frames came.
   Frames of a session that is behind give way, the oldest first; the newest are kept. `seq` increases, with gaps or without; a
   `seq` or a `pts` that came before is a `duplicate`, a `pts` before the latest is `late`.
2. `event_id`s increase, as text and as numbers. A client that was away sends `session.resume` first on a new socket (with
   `?resume=1` in the URL, so that no new session is opened for it) and gets every event after `last_event_id` once, then
   `session.resumed`, which says which of its messages have been consumed. It sends the rest again.
3. An invalid message gets an `error` that names the fault, and the session continues. A frame that is not an image is dropped.
4. A turn is read after the frames that were sent before it, and before those that were sent after it. A query is pinned in the
   window; a context passes with the frames unless `keep` is set.
5. A session's memory is set aside when it opens: full is HTTP 503 with `Retry-After` at the handshake, never a failure later.
6. A client that leaves with close code 1000 is done with its session. One that is lost may resume within `time_to_live_s`.

## Who may come in

`Authorization: Bearer KEY`; or, for browsers, the subprotocol `mmduet.key.KEY` beside `realtime`; or a client secret from
`POST /v1/realtime/client_secrets`. A wrong key is HTTP 401 at the handshake, a page of a foreign origin 403.

## Close codes

| code | when |
|---|---|
| 1000 | `session.closed` was sent |
| 1007, 1009 | text that is no UTF-8; a message larger than `max_message_bytes` |
| 1008 | a flood of messages; a resume that was announced and did not come |
| 1012 | the server restarts: resume when it is back |
| 4001 | another socket took the session over |
| 4004 | the session to resume is not kept any more |
| 4008 | the client does not read fast enough; it may resume |
"""


def render() -> str:
    """The whole document."""
    client, server = union_members(sent.ClientEvent), union_members(told.ServerEvents)
    parts = [INTRODUCTION, "## Client to server\n", *map(render_section, client), *nested_sections(client)]
    parts += ["## Server to client\n", *map(render_section, server), *nested_sections(server, parts)]
    return "\n".join(parts)


def union_members(union: Any) -> list[type[BaseModel]]:
    """The models of an annotated union."""
    return list(get_args(get_args(union)[0]))


def nested_sections(events: Iterable[type[BaseModel]], before: Iterable[str] = ()) -> list[str]:
    """Sections of the models that events hold, each once, in the order in which they are met."""
    known = "\n".join(before)
    found: dict[str, type[BaseModel]] = {}
    for event in events:
        _collect(event, found)
    return [render_section(model) for name, model in found.items() if f"### {name}\n" not in known]


def _collect(model: type[BaseModel], found: dict[str, type[BaseModel]]) -> None:
    for field in model.model_fields.values():
        for inner in _nested_models(field.annotation):
            if inner.__name__ not in found:
                found[inner.__name__] = inner
                _collect(inner, found)


def _nested_models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _nested_models(argument)]


def render_section(model: type[BaseModel]) -> str:
    """A model's heading, what it is for, and its fields."""
    kind = model.model_fields.get("type")
    name = kind.default if kind is not None and isinstance(kind.default, str) and "." in kind.default else None
    if name is None and kind is not None and kind.is_required() and issubclass(model, sent.ClientEventBase):
        (name,) = get_args(kind.annotation)
    heading = f"### `{name}`" if name else f"### {model.__name__}"
    words = " ".join(line.strip() for line in (model.__doc__ or "").strip().splitlines()).replace("``", "`")
    rows = [
        render_row(model, field)
        for field in model.model_fields
        if field not in ("event_id",) and not (name and field == "type")
    ]
    table = ["", "| field | type | |", "|---|---|---|", *rows] if rows else []
    return "\n".join([heading, "", words, *table, ""])


def render_row(model: type[BaseModel], name: str) -> str:
    """One field: its name, its type, whether it must be there or what it is otherwise."""
    field = model.model_fields[name]
    properties = model.model_json_schema()["properties"][name]
    default = "required" if field.is_required() else f"default `{field.get_default(call_default_factory=True)!r}`"
    if issubclass(model, ServerModel) or (not field.is_required() and isinstance(field.default, BaseModel)):
        default = ""
    return f"| `{name}` | {describe_type(properties)} | {default} |"


def describe_type(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if options:
        return " or ".join(dict.fromkeys(describe_type(option) for option in options))
    if schema.get("type") == "array":
        inner = schema.get("items") or schema.get("prefixItems", [{}])[0]
        return f"list of {describe_type(inner)}"
    return str(schema.get("type", "any")) + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    words = {
        "minimum": "from {}",
        "exclusiveMinimum": "above {}",
        "maximum": "to {}",
        "maxLength": "at most {} characters",
    }
    found = [text.format(schema[key]) for key, text in words.items() if key in schema]
    return f", {' '.join(found)}" if found else ""
