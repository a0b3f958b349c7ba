"""Assembles the FastAPI application of a server: one engine, one session manager and the routes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

import mmduet
from mmduet.engine import Engine, recommended_options
from mmduet.engine.batching_wait import BatchingWait
from mmduet.engine.config import EngineConfig
from mmduet.engine.thread import EngineThread, StepStats
from mmduet.errors import MmduetError, NotFoundError, OptionError, ProtocolError
from mmduet.model import LoadedModel
from mmduet.protocol.client_events import ResponseOptions
from mmduet.protocol.session_update import SessionUpdate
from mmduet.protocol.wire import ClientModel
from mmduet.server import (
    chat_completions,
    model_routes,
    session_control_routes,
    session_routes,
    source_routes,
    stats_routes,
    status_routes,
)
from mmduet.server.admission import AdmissionControl
from mmduet.server.allocator import return_memory_periodically
from mmduet.server.async_engine import AsyncEngine
from mmduet.server.auth import KeyStore, check_origin
from mmduet.server.chat_schema import ChatRequest
from mmduet.server.config import ServerConfig
from mmduet.server.cors import CORSMiddleware
from mmduet.server.docs_page import DOCS_PATH, docs_page
from mmduet.server.error_middleware import ErrorMiddleware
from mmduet.server.error_response import error_response, http_exception_response, validation_response
from mmduet.server.error_schema import describe_errors
from mmduet.server.file_descriptors import session_capacity
from mmduet.server.journal import JournalFolder
from mmduet.server.kv_budget import KVBudget
from mmduet.server.limited_warning import report_suppressed_warnings
from mmduet.server.log_events import WARM_UP_FAILED
from mmduet.server.media import MediaLoader
from mmduet.server.metrics import Metrics
from mmduet.server.openapi import complete_openapi
from mmduet.server.proxy_middleware import LocalOnlyMiddleware, PublicPathMiddleware
from mmduet.server.rate_limit_middleware import RateLimitMiddleware
from mmduet.server.realtime import handle_socket
from mmduet.server.request_log import RequestLogMiddleware
from mmduet.server.session_admission import SessionAdmission
from mmduet.server.session_control_routes import CreateQuery
from mmduet.server.session_manager import SessionManager
from mmduet.server.session_routes import CreateSession
from mmduet.server.slow_steps import SlowStepWarning
from mmduet.server.source_routes import ProbeSource
from mmduet.server.step_faults import StepFaultWarning
from mmduet.text import shorten

log = logging.getLogger(__name__)


def create_app(
    model: LoadedModel,
    config: ServerConfig,
    *,
    media: MediaLoader | None = None,
    journals: JournalFolder | None = None,
) -> FastAPI:
    """Return the application that serves ``model``.

    ``app.state`` has its ``SessionManager`` as ``manager``, its ``KeyStore`` as ``keys`` and its ``JournalFolder``, or None,
    as ``journals``.

    ``media`` and ``journals`` replace the objects built from ``config``. The folder must be locked when the application starts.

    Raises ``CapacityError`` if there is too little memory, or too few file descriptors, for a single session, and
    ``OptionError`` if ``root_path`` is part of an endpoint's path.
    """
    metrics, slow_steps, step_faults = Metrics(), SlowStepWarning(config.slow_step_seconds), StepFaultWarning()
    load = AdmissionControl(config.max_utilization)

    def on_step(step: StepStats) -> None:
        metrics.on_step(step)
        slow_steps.on_step(step)
        step_faults.on_step(step)
        load.step_cost.on_step(step.seconds, step.frames)

    wait = BatchingWait() if config.batching_wait else None
    thread = EngineThread(Engine(model, _engine_config(config)), on_step, wait)
    engine = AsyncEngine(thread, config.max_picture_pixels)
    media = media or _media_loader(model, config)
    if journals is None and config.journal is not None:
        journals = JournalFolder(config.journal)
        journals.lock()
    signing_key = journals.signing_key() if journals is not None else None
    keys = KeyStore([key.get_secret_value() for key in config.keys], config.client_secret_seconds, signing_key)
    admission = SessionAdmission(engine, _session_budget(engine, config), load, metrics, config.max_frame_age)
    manager = SessionManager(config, engine, admission, media, metrics, journals)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        _warm_up(admission)
        with thread:
            manager.restore_sessions()
            expiry = asyncio.create_task(manager.expire_idle())
            limited = [keys.failures, slow_steps.warning, step_faults.warning]
            warnings = asyncio.create_task(report_suppressed_warnings(limited))
            returning = asyncio.create_task(return_memory_periodically(lambda: manager.kv_used_bytes))
            yield
            expiry.cancel()
            warnings.cancel()
            returning.cancel()
            await manager.close()
            engine.close()

    app = FastAPI(title="mmduet", version=mmduet.__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.manager, app.state.keys, app.state.journals = manager, keys, journals
    _add_routes(app, manager, keys)
    return app


def _warm_up(admission: SessionAdmission) -> None:
    """Warm the engine up. A failure is logged; the server then fails its first session, which reports it."""
    try:
        admission.warm_up()
    except Exception as error:  # noqa: BLE001 - logged with its traceback
        WARM_UP_FAILED.emit(log, error=error)


def _add_routes(app: FastAPI, manager: SessionManager, keys: KeyStore) -> None:
    async def require_allowed_origin(request: Request) -> None:
        check_origin(request.headers, keys, manager.config.allowed_origins)

    dependencies = [Depends(require_allowed_origin)]
    for routes in (
        status_routes,
        stats_routes,
        model_routes,
        session_routes,
        session_control_routes,
        source_routes,
        chat_completions,
    ):
        app.include_router(
            routes.build_router(manager, keys),
            dependencies=dependencies,
            responses=describe_errors(401, 403, "default"),
        )
    app.add_route(DOCS_PATH, docs_page(app), include_in_schema=False)

    @app.websocket("/v1/realtime")
    async def realtime(ws: WebSocket) -> None:
        await handle_socket(ws, manager, keys)

    @app.get("/v1/realtime", include_in_schema=False)
    async def realtime_without_upgrade() -> Response:
        raise ProtocolError("/v1/realtime is a WebSocket endpoint; connect with a WebSocket client", "upgrade_required")

    @app.websocket("/{path:path}")
    async def unknown_path(ws: WebSocket, path: str) -> None:
        error = NotFoundError(f"there is no WebSocket endpoint at /{shorten(path)}; connect to /v1/realtime")
        await ws.send_denial_response(error_response(error))

    _check_root_path(app, manager.config.root_path)
    _add_error_handlers(app)
    _add_middleware(app, manager.config, keys, limited=manager.limiters.limits.has_limits)
    bodies: dict[str, type[ClientModel]] = {
        "POST /v1/chat/completions": ChatRequest,
        "POST /v1/sessions": CreateSession,
        "PATCH /v1/sessions/{name}": SessionUpdate,
        "POST /v1/sessions/{name}/queries": CreateQuery,
        "POST /v1/sessions/{name}/responses": ResponseOptions,
        "POST /v1/sources/test": ProbeSource,
    }
    choices = {"SessionUpdate.model": [manager.model_name], "DuetUpdate.adapter": sorted(manager.config.adapters)}
    complete_openapi(app, bodies, choices, keys_required=keys.required)


def _check_root_path(app: FastAPI, root_path: str) -> None:
    """Raise ``OptionError`` for a prefix that could not be distinguished from the paths of endpoints."""
    for route in app.routes:
        path = getattr(route, "path", "")
        if root_path and (path == root_path or path.startswith(f"{root_path}/")):
            raise OptionError(f"root_path {root_path} is the beginning of the endpoint {path}; choose another prefix")


def _add_middleware(app: FastAPI, config: ServerConfig, keys: KeyStore, *, limited: bool) -> None:
    """Add what every request and WebSocket passes through, from the innermost to the outermost.

    ``limited`` is whether keys have limits.
    """
    app.add_middleware(PublicPathMiddleware, root_path=config.root_path)
    if not keys.required:
        app.add_middleware(LocalOnlyMiddleware)
    app.add_middleware(ErrorMiddleware)
    if limited:
        app.add_middleware(RateLimitMiddleware)
    app.add_middleware(CORSMiddleware, allowed_origins=config.allowed_origins)  # also for errors
    app.add_middleware(RequestLogMiddleware)
    if config.trusted_proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(config.trusted_proxies))


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(MmduetError)
    async def on_error(_: Request, error: MmduetError) -> Response:
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def on_http_exception(request: Request, error: HTTPException) -> Response:
        return http_exception_response(request, error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid_parameter(_: Request, error: RequestValidationError) -> Response:
        return validation_response(error)


def _media_loader(model: LoadedModel, config: ServerConfig) -> MediaLoader:
    return MediaLoader(
        config.url_policy,
        config.max_download_bytes,
        config.max_picture_pixels,
        config.max_chat_frames,
        model.config.vision.image_size,
    )


def _engine_config(config: ServerConfig) -> EngineConfig:
    kv_bytes = None if config.kv_memory_mb is None else config.kv_memory_mb << 20
    return EngineConfig(attention=config.attention, kv_dtype=config.kv_dtype, kv_bytes=kv_bytes)


def _session_budget(engine: AsyncEngine, config: ServerConfig) -> KVBudget:
    options = recommended_options(engine.model_config.recommended)
    descriptor_limit = session_capacity(journaled=config.journal is not None, with_sources=config.allows_sources)
    limits = (config.max_sessions, descriptor_limit)
    session_limit = min((limit for limit in limits if limit is not None), default=None)
    budget = KVBudget(
        engine.kv_bytes,
        engine.slot_bytes(options),
        session_limit,
        config.max_sessions_per_key,
        config.max_sessions_per_client_secret,
    )
    if budget.key_limit is None and config.keys:
        budget.key_limit = max(budget.max_sessions // 2, 1)
    return budget
