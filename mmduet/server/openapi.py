"""Completes FastAPI's ``/openapi.json`` with the request bodies that the server parses itself, and with its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from mmduet.protocol.wire import ClientModel
from mmduet.server.event_stream import EventStream

SCHEMA_REF = "#/components/schemas/{model}"
JSON = "application/json"
PROTECTED_PREFIX = "/v1/"
KEY_SCHEME = {"type": "http", "scheme": "bearer", "description": "An API key of the server, or a client secret."}
DESCRIPTION = """\
Live video over WebSockets is at `/v1/realtime`, which OpenAPI cannot describe: see the wire protocol (docs/protocol.md).\
"""


def complete_openapi(
    app: FastAPI,
    bodies: Mapping[str, type[ClientModel]],
    choices: Mapping[str, Sequence[str]],
    *,
    keys_required: bool,
) -> None:
    """Add what FastAPI does not know to the description of ``app``.

    The endpoints read the ``bodies`` of requests, by method and path, in chunks (``parse_body``), and look for keys themselves.
    ``choices`` are the values that this server accepts for a field of a body (``SessionUpdate.model``).
    """
    schema: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not schema:
            options: dict[str, Any] = {"title": app.title, "version": app.version, "description": DESCRIPTION}
            schema.update(get_openapi(routes=app.routes, **options))
            _add_bodies(schema, bodies)
            _set_choices(schema, choices)
            _correct_media_types(schema)
            if keys_required:
                _add_keys(schema)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def _add_bodies(schema: dict[str, Any], bodies: Mapping[str, type[ClientModel]]) -> None:
    refs, definitions = models_json_schema(
        [(model, "validation") for model in bodies.values()], ref_template=SCHEMA_REF
    )
    schema["components"]["schemas"].update(definitions["$defs"])
    for endpoint, model in bodies.items():
        method, path = endpoint.lower().split(" ")
        content = {JSON: {"schema": refs[model, "validation"]}}
        schema["paths"][path][method]["requestBody"] = {"required": True, "content": content}


def _set_choices(schema: dict[str, Any], choices: Mapping[str, Sequence[str]]) -> None:
    for name, values in choices.items():
        model, _, field = name.partition(".")
        properties = schema["components"]["schemas"][model]["properties"]
        kept = {key: value for key, value in properties[field].items() if key in ("title", "description")}
        properties[field] = {**kept, "enum": [None, *values]}


def _correct_media_types(schema: dict[str, Any]) -> None:
    """Describe errors as JSON, and the body of event streams not at all; FastAPI takes both from the response class."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                if not status.startswith("2"):
                    response["content"] = {JSON: next(iter(content.values()))}
                elif EventStream.media_type in content:
                    content[EventStream.media_type] = {}


def _add_keys(schema: dict[str, Any]) -> None:
    schema["components"]["securitySchemes"] = {"key": KEY_SCHEME}
    for path, operations in schema["paths"].items():
        if path.startswith(PROTECTED_PREFIX):
            for operation in operations.values():
                operation["security"] = [{"key": []}]
