"""HTTP endpoint that tests whether the server can read a source."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from mmduet.errors import ProtocolError, VideoError
from mmduet.protocol.source_probe import SourceProbe
from mmduet.protocol.wire import ClientModel, NullMeans
from mmduet.server.auth import KeyStore
from mmduet.server.error_schema import describe_errors
from mmduet.server.request_body import parse_body
from mmduet.server.session_manager import SessionManager
from mmduet.server.session_routes import MAX_BODY_BYTES, authenticate
from mmduet.server.source_prober import SourceProber

PROBE_EXAMPLE: JsonDict = {"url": "rtsp://camera.example/stream"}


class ProbeSource(ClientModel):
    """Body of ``POST /v1/sources/test``: a source as in ``input_source.open``."""

    model_config = ConfigDict(json_schema_extra={"examples": [PROBE_EXAMPLE]})

    url: Annotated[str, Field(min_length=1, max_length=4096)]
    transport: Annotated[Literal["tcp", "udp"], NullMeans("tcp")] = "tcp"


def build_router(manager: SessionManager, keys: KeyStore) -> APIRouter:
    """Return the endpoint."""
    router, prober = APIRouter(), SourceProber(manager.media)

    @router.post(
        "/v1/sources/test",
        responses={200: {"model": SourceProbe}, **describe_errors(400, 413, 415, 429, 503, 507)},
    )
    async def probe(request: Request) -> Response:
        """Open a source, read one frame and close it, within 10 seconds. It counts as a source of the key meanwhile."""
        owner = authenticate(manager, keys, request)
        limiter = manager.limiters.of(owner)
        body = await parse_body(request, ProbeSource, MAX_BODY_BYTES, limiter.reading_delay)
        try:
            result = await prober.probe(body.url, body.transport, owner, limiter)
        except VideoError as error:
            raise ProtocolError(str(error), error.code, param="url") from None
        return JSONResponse(result.model_dump())

    return router
