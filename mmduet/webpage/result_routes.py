"""HTTP endpoints of the live page for finished results: captions, grounding, highlights and question answering."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from mmduet.errors import NotFoundError
from mmduet.server.auth import KeyStore
from mmduet.server.endpoints import add_get_and_head
from mmduet.server.request_body import parse_body
from mmduet.server.session_manager import SessionManager
from mmduet.text import shorten
from mmduet.webpage.media_routes import PRIVATE_HEADERS
from mmduet.webpage.result import Result
from mmduet.webpage.result_files import MEDIA_TYPES
from mmduet.webpage.result_schema import CreateResult
from mmduet.webpage.results import Results
from mmduet.webpage.visitors import address_of, authenticate_visitor

MAX_BODY_BYTES = 1 << 20


def build_router(results: Results, manager: SessionManager, keys: KeyStore) -> APIRouter:
    """Return the endpoints, below the path of the page."""
    router = APIRouter(prefix="/results", include_in_schema=False)

    def describe(result: Result) -> dict[str, Any]:
        return result.to_dict(results.position(result))

    @router.post("", status_code=202)
    async def create(request: Request) -> Response:
        """Run a task on a video of this visitor."""
        owner = authenticate_visitor(manager, keys, request)
        reading_delay = manager.limiters.of(owner).reading_delay
        body = await parse_body(request, CreateResult, MAX_BODY_BYTES, reading_delay)
        result = await results.create(owner, body, address_of(request))
        return JSONResponse(describe(result), 202, {"Location": f"results/{result.id}"})

    @add_get_and_head(router, "")
    async def list_results(request: Request) -> list[dict[str, Any]]:
        """List the results of this visitor, without what was found."""
        own = results.by_owner(authenticate_visitor(manager, keys, request))
        return [{**describe(result), "result": None} for result in own]

    @add_get_and_head(router, "/{result_id}")
    async def status(result_id: str, request: Request) -> dict[str, Any]:
        """Describe a result of this visitor: its state and progress, and at the end what was found."""
        return describe(results.find(result_id, authenticate_visitor(manager, keys, request)))

    @router.delete("/{result_id}", status_code=204)
    async def delete(result_id: str, request: Request) -> Response:
        """Delete a result of this visitor; a task that has not ended is cancelled."""
        results.delete(results.find(result_id, authenticate_visitor(manager, keys, request)))
        return Response(status_code=204)

    @add_get_and_head(router, "/{result_id}/{file_name}")
    async def file(result_id: str, file_name: str, request: Request, token: str | None = None) -> Response:
        """Return a file of a result; ranges are supported."""
        if token is not None:
            result = results.find_by_token(result_id, token)
        else:
            result = results.find(result_id, authenticate_visitor(manager, keys, request))
        path = result.files.get(file_name)
        if path is None:
            raise NotFoundError(f"the result has no file {shorten(file_name)!r}; its `files` lists them")
        download = f"{result.video.name.rpartition('.')[0] or result.video.name}-{file_name}"
        return FileResponse(
            path,
            headers=PRIVATE_HEADERS,
            media_type=MEDIA_TYPES[path.suffix],
            filename=download,
            content_disposition_type="inline",
        )

    return router
