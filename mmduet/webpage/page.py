"""Adds the live page to the application of a server."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import FileResponse, RedirectResponse
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from mmduet.server.auth import KeyStore, check_origin
from mmduet.server.session_manager import SessionManager
from mmduet.webpage import media_routes, result_routes, visitor_routes
from mmduet.webpage.gradio_filter import GradioFilter
from mmduet.webpage.gradio_mount import mount_gradio
from mmduet.webpage.results import Results
from mmduet.webpage.sample_clips import SampleClips
from mmduet.webpage.video_library import VideoLibrary

STATIC = Path(__file__).parent / "static"
PAGE_PATH = "/page"
GRADIO_STATIC = ("gradio", "templates/frontend/static")
"""Package and folder of Gradio's own static files, which its layout requests below the same path."""
CLIPS = Path(__file__).resolve().parents[2] / "demo" / "clips"
"""The sample clips of a copy of the repository. An installed package renders its own into the user's cache."""


def add_page(app: FastAPI, clips: Path | None = None, temporary: Path | None = None) -> None:
    """Serve the live page at ``/page/`` on an application of ``mmduet.server.app.create_app``.

    ``clips`` is the folder of the sample clips, ``temporary`` the one for the files of visitors. Raises ``OptionError`` if
    Gradio is not installed.
    """
    manager, keys = app.state.manager, app.state.keys
    cache = cache_folder()
    preferred = clips or (CLIPS if CLIPS.is_dir() else cache)
    videos = VideoLibrary(manager, SampleClips(preferred, cache), temporary)
    app.include_router(_build_router(manager, keys, videos, Results(manager, videos)), prefix=PAGE_PATH)
    _add_paths_of_browsers(app)
    files = StaticFiles(directory=STATIC, packages=[GRADIO_STATIC])
    app.mount(f"{PAGE_PATH}/static", files, name="page-static")
    # the innermost middleware, so that paths have no prefix and errors are logged as those of other requests
    app.user_middleware.append(Middleware(GradioFilter, prefix=PAGE_PATH))
    mount_gradio(app, PAGE_PATH, key_required=keys.required)


def _add_paths_of_browsers(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    @app.get(PAGE_PATH, include_in_schema=False)
    async def redirect(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}{PAGE_PATH}/")

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml")


def cache_folder() -> Path:
    """Return the folder of the user's cache in which clips are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmduet" / "clips"


def _build_router(manager: SessionManager, keys: KeyStore, videos: VideoLibrary, results: Results) -> APIRouter:
    """Return the endpoints for videos and results; with the server they start, and delete every file at the end."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(videos.run()), asyncio.create_task(results.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await results.close()
            await videos.close()

    async def require_allowed_origin(request: Request) -> None:
        check_origin(request.headers, keys, manager.config.allowed_origins)

    router = APIRouter(dependencies=[Depends(require_allowed_origin)], lifespan=lifespan)
    router.include_router(visitor_routes.build_router(manager, keys))
    router.include_router(media_routes.build_router(videos, manager, keys))
    router.include_router(result_routes.build_router(results, manager, keys))
    return router
