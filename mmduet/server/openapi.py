"""The description that `/openapi.json` gives: FastAPI's own, with the bodies that we read ourselves put in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from mmduet.protocol.wire import Received

REF = "#/components/schemas/{model}"


def describe(app: FastAPI, bodies: Mapping[str, type[Received]]) -> None:
    """Have ``app`` describe the bodies of its POST requests, by path; FastAPI sees none where a request is read in pieces."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(get_openapi(title=app.title, version=app.version, routes=app.routes))
            refs, defined = models_json_schema([(kind, "validation") for kind in bodies.values()], ref_template=REF)
            made.setdefault("components", {}).setdefault("schemas", {}).update(defined["$defs"])
            for path, kind in bodies.items():
                content = {"application/json": {"schema": refs[kind, "validation"]}}
                made["paths"][path]["post"]["requestBody"] = {"required": True, "content": content}
        return made

    app.openapi = openapi  # type: ignore[method-assign]
