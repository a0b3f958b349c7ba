"""Puts a server together: one engine, one house of sessions, the routes to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psutil
from fastapi import Depends, FastAPI, Request, Response, WebSocket

import mmduet
from mmduet.engine import Engine, recommended_options
from mmduet.engine.thread import EngineThread
from mmduet.errors import MmduetError, NowhereError
from mmduet.model import LoadedModel
from mmduet.server import chat, http, sessions
from mmduet.server.auth import Keys, refuse_strangers
from mmduet.server.budget import Budget
from mmduet.server.config import ServerConfig
from mmduet.server.engine_room import EngineRoom
from mmduet.server.house import House
from mmduet.server.journal import JournalFolder
from mmduet.server.media import Media
from mmduet.server.metrics import Metrics
from mmduet.server.openapi import describe
from mmduet.server.socket import realtime

SHARE_OF_FREE_MEMORY = 0.5


def create_app(model: LoadedModel, config: ServerConfig) -> FastAPI:
    """The application for one model. ``app.state.house`` is its house; it runs from the app's start to its end.

    Raises ``CapacityError`` where there is no memory for a single session.
    """
    metrics = Metrics()
    thread = EngineThread(Engine(model), observe=metrics.stepped)
    room = EngineRoom(thread, config.max_picture_pixels)
    size = model.config.vision.image_size
    media = Media(config.guard, config.max_download_bytes, config.max_picture_pixels, config.max_chat_frames, size)
    journals = JournalFolder(config.journal) if config.journal is not None else None
    house = House(config, room, _budget(room, config), media, metrics, journals)
    keys = Keys([key.get_secret_value() for key in config.keys], config.client_secret_seconds)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with thread:
            house.recover()
            sweeping = asyncio.create_task(house.sweep())
            yield
            sweeping.cancel()
            await house.close()
            room.close()

    async def no_strangers(request: Request) -> None:
        refuse_strangers(request.headers, keys, config.allowed_origins)

    known = [Depends(no_strangers)]
    app = FastAPI(title="mmduet", version=mmduet.__version__, lifespan=lifespan)
    app.state.house = house
    app.include_router(http.routes(house, keys), dependencies=known)
    app.include_router(sessions.routes(house, keys), dependencies=known)
    app.include_router(chat.routes(house, keys, media), dependencies=known)

    @app.exception_handler(MmduetError)
    async def told(_: Request, error: MmduetError) -> Response:
        return http.problem(error)

    @app.websocket("/v1/realtime")
    async def socket(ws: WebSocket) -> None:
        await realtime(ws, house, keys)

    @app.websocket("/{path:path}")
    async def nowhere(ws: WebSocket, path: str) -> None:
        await ws.send_denial_response(
            http.problem(NowhereError(f"there is nothing at /{path}; connect to /v1/realtime"))
        )

    describe(app, {"/v1/chat/completions": chat.ChatRequest, "/v1/sessions": sessions.NewSession})

    return app


def _budget(room: EngineRoom, config: ServerConfig) -> Budget:
    best = recommended_options(room.engine.model.config.recommended)
    free = psutil.virtual_memory().available * SHARE_OF_FREE_MEMORY
    total = config.kv_memory_mb << 20 if config.kv_memory_mb is not None else int(free)
    return Budget(total, room.engine.slot_bytes(best), config.max_sessions, config.max_sessions_per_key)
