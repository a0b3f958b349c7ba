"""Adds the live page to the application of a server."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"
PAGE_PATH = "/page"


def add_page(app: FastAPI) -> None:
    """Serve the live page below ``/page`` on an application of ``mmduet.server.app.create_app``."""
    app.mount(f"{PAGE_PATH}/static", StaticFiles(directory=STATIC), name="page-static")
