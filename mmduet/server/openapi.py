"""Completes FastAPI's ``/openapi.json`` with the request bodies that the server parses itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from mmduet.protocol.wire import ClientModel

SCHEMA_REF = "#/components/schemas/{model}"


def document_bodies(app: FastAPI, bodies: Mapping[str, type[ClientModel]]) -> None:
    """Add the bodies of POST requests, by path, to the description of ``app``.

    FastAPI does not know them because the endpoints read their request in chunks (``parse_body``).
    """
    schema: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not schema:
            schema.update(get_openapi(title=app.title, version=app.version, routes=app.routes))
            refs, definitions = models_json_schema(
                [(model, "validation") for model in bodies.values()], ref_template=SCHEMA_REF
            )
            schema.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
            for path, model in bodies.items():
                content = {"application/json": {"schema": refs[model, "validation"]}}
                schema["paths"][path]["post"]["requestBody"] = {"required": True, "content": content}
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
