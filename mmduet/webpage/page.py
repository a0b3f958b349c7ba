"""Adds the live page to the application of a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

import mmduet
from mmduet.errors import OptionError
from mmduet.server.config import ServerConfig
from mmduet.server.session_manager import SessionManager
from mmduet.webpage.gradio_filter import GradioFilter
from mmduet.webpage.presets import PRESETS
from mmduet.webpage.visitor_routes import build_router

STATIC = Path(__file__).parent / "static"
PAGE_PATH = "/page"
HEAD = """
<script id="mmduet-config" type="application/json">{config}</script>
<link rel="stylesheet" href="static/page.css">
<script type="module" src="static/page.js"></script>
"""


def add_page(app: FastAPI) -> None:
    """Serve the live page at ``/page/`` on an application of ``mmduet.server.app.create_app``.

    Raises ``OptionError`` if Gradio is not installed.
    """
    manager: SessionManager = app.state.manager
    app.mount(f"{PAGE_PATH}/static", StaticFiles(directory=STATIC), name="page-static")
    app.include_router(build_router(manager, app.state.keys), prefix=PAGE_PATH)
    _add_redirects(app)
    # the innermost middleware, so that paths have no prefix and errors are logged as those of other requests
    app.user_middleware.append(Middleware(GradioFilter, prefix=PAGE_PATH))
    _mount_gradio(app, manager, key_required=app.state.keys.required)


def _add_redirects(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    @app.get(PAGE_PATH, include_in_schema=False)
    async def redirect(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}{PAGE_PATH}/")


def _mount_gradio(app: FastAPI, manager: SessionManager, *, key_required: bool) -> None:
    try:
        import gradio as gr

        from mmduet.webpage.layout import PageDefaults, build_layout
    except ImportError as error:
        raise OptionError(f"the live page needs Gradio ({error}); install mmduet[demo]") from None
    query = manager.engine.model_config.recommended.query or PRESETS[0].query
    defaults = PageDefaults(manager.default_settings().to_wire(), query, tuple(sorted(manager.config.adapters)))
    config = page_config(manager, key_required=key_required)
    gr.mount_gradio_app(
        app,
        build_layout(defaults),
        PAGE_PATH,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        head=HEAD.format(config=_json_for_html(config)),
    )


def page_config(manager: SessionManager, *, key_required: bool) -> dict[str, Any]:
    """Return what the page's scripts know from the beginning. It is public."""
    config: ServerConfig = manager.config
    return {
        "version": mmduet.__version__,
        "model": manager.model_name,
        "settings": manager.default_settings().to_wire(),
        "presets": [preset.to_dict() for preset in PRESETS],
        "access": "open" if not key_required else "public" if config.public else "key",
        "allows_addresses": bool(config.pull_hosts),
        "max_upload_bytes": config.max_upload_bytes,
        "max_upload_seconds": config.max_upload_seconds,
        "upload_lifetime_s": config.upload_lifetime,
    }


def _json_for_html(value: Any) -> str:
    """Return JSON that may stand in a ``script`` element."""
    return json.dumps(value).replace("<", "\\u003c")
