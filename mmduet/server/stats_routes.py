"""HTTP endpoint with the load of the server, for pages that show it."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from mmduet.protocol.server_statistics import ServerStatistics
from mmduet.server.auth import KeyStore
from mmduet.server.endpoints import add_get_and_head
from mmduet.server.session_manager import SessionManager


def build_router(manager: SessionManager, keys: KeyStore) -> APIRouter:
    """Return the endpoint."""
    router = APIRouter()

    @add_get_and_head(router, "/v1/stats", responses={200: {"model": ServerStatistics}})
    async def stats(request: Request) -> Response:
        """Return the load over the last ten seconds: sums and percentiles over all sessions, nothing about any of them."""
        keys.owner(request.headers)
        recent = manager.metrics.recent
        figures = recent.figures()
        statistics = ServerStatistics(
            sessions=manager.active_count,
            max_sessions=manager.budget.max_sessions,
            queued=manager.queued_count,
            utilization=round(manager.utilization, 4),
            uptime_s=round(recent.uptime_seconds, 1),
            frames_per_second=figures.frames_per_second,
            step_ms_p50=figures.step_ms_p50,
            step_ms_p95=figures.step_ms_p95,
            frames_per_step=figures.frames_per_step,
            frame_age_ms_p50=figures.frame_age_ms_p50,
            frame_age_ms_p95=figures.frame_age_ms_p95,
            tokens_per_second=figures.tokens_per_second,
        )
        return JSONResponse(statistics.model_dump())

    return router
