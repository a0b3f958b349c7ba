"""``mmduet demo``: serve a model with the live page, and open the page in a browser."""

from __future__ import annotations

import os
import sys
import webbrowser
from dataclasses import dataclass
from typing import Annotated

import typer
from typer import Option

from mmduet.cli._options import takes_options
from mmduet.cli.serve import ServerOptions, load_settings, page_url, run


@dataclass(frozen=True, kw_only=True)
class DemoOptions(ServerOptions):
    """The options of ``mmduet demo``."""

    open: Annotated[bool, Option("--open/--no-open", help="Open the page in this machine's browser.")] = True


@takes_options(DemoOptions)
def demo(options: DemoOptions) -> None:
    """Serve a model with its live page: sample clips, camera, screen, uploads, streams and a playground. Ctrl-C ends it.

    The page needs no key on this machine; for others set MMDUET_KEYS, or --public with limits for every visitor.
    """
    settings = load_settings(options, page=True)

    def report(url: str, max_sessions: int) -> None:
        page = page_url(url)
        typer.echo(f"mmduet serves {settings.model} on the page {page}, up to {max_sessions} sessions; Ctrl-C ends it")
        if options.open and _has_display():
            webbrowser.open(page)

    run(settings, report)


def _has_display() -> bool:
    """Return whether a browser can show a page; without a display, Python would start a browser in the terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
