"""The page ``/docs``: the HTTP API as plain HTML, which needs neither scripts nor other hosts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, Template

from mmduet.protocol.docs import describe_bounds

DOCS_PATH = "/docs"
SECURITY_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


def docs_path(request: Request) -> str:
    """Return the page's path, with the prefix under which a proxy publishes the server."""
    return f"{request.scope.get('root_path', '')}{DOCS_PATH}"


def docs_page(app: FastAPI) -> Callable[[Request], Awaitable[HTMLResponse]]:
    """Return the endpoint of the page."""

    async def page(request: Request) -> HTMLResponse:
        root_path = request.scope.get("root_path", "")
        return HTMLResponse(_template().render(api=app.openapi(), root_path=root_path), headers=SECURITY_HEADERS)

    return page


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader(__package__), autoescape=True, trim_blocks=True, finalize=lambda value: value or ""
    )
    environment.filters["bounds"] = describe_bounds
    return environment.get_template("docs.html")
