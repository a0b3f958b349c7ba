"""A bare page with the components of the live view, without Gradio, and clips that its server decodes and previews."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from fastapi import FastAPI
from fastapi.responses import FileResponse
from live_server import RunningServer, run_test_server
from playwright.sync_api import Browser, Locator, Page
from starlette.staticfiles import StaticFiles

from mmduet.errors import SourceError
from mmduet.model import LoadedModel
from mmduet.scenes.render import make_render_style, render_frame
from mmduet.scenes.scene_generator import generate_scene
from mmduet.video import VideoWriter
from mmduet.webpage.page import STATIC

PAGE = Path(__file__).parent.parent / "pages" / "live.html"
CLIP_FPS = 12
SOCKETS = """
    window.sockets = [];
    window.offline = false;
    window.WebSocket = class extends WebSocket {
      constructor(url, protocols) {
        super(window.offline ? "ws://127.0.0.1:1/" : url, protocols);
        window.sockets.push(this);
      }
    };
"""
"""Script that lets tests close the page's sockets and prevent new ones."""


def write_scene(path: Path, seed: int, seconds: float, size: int = 160) -> Path:
    """Write a rendered scene as H.264, which browsers play."""
    rng = np.random.default_rng(seed)
    scene = generate_scene(rng, seconds)
    style = make_render_style(rng, size)
    with VideoWriter(path, size, size, CLIP_FPS, gop=CLIP_FPS) as writer:
        for step in range(round(seconds * CLIP_FPS)):
            writer.write(render_frame(scene, style, step / CLIP_FPS, size))
    return path


def write_camera_recording(path: Path, seed: int, seconds: float, size: int = 160) -> Path:
    """Write a rendered scene in the format that Chromium's fake camera plays."""
    rng = np.random.default_rng(seed)
    scene = generate_scene(rng, seconds)
    style = make_render_style(rng, size)
    with av.open(str(path), "w", format="yuv4mpegpipe") as container:
        stream = container.add_stream("wrapped_avframe", rate=CLIP_FPS, width=size, height=size, pix_fmt="yuv420p")
        for step in range(round(seconds * CLIP_FPS)):
            image = render_frame(scene, style, step / CLIP_FPS, size)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def camera_arguments(recording: Path) -> list[str]:
    """Return arguments for a Chromium whose camera plays a recording."""
    return [
        "--no-sandbox",
        "--disable-gpu",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={recording}",
    ]


@dataclass
class LivePage:
    """A browser's page with the components, and its server."""

    server: RunningServer
    page: Page

    def source(self, name: str, **fields: Any) -> dict[str, Any]:
        """Return the source of a clip."""
        return {"kind": "clip", "url": f"clip:{name}", "preview": f"clips/{name}/video", "title": name, **fields}

    def start(self, source: dict[str, Any], settings: dict[str, Any] | None = None) -> None:
        """Start the live view without waiting for it."""
        script = "([source, settings]) => { document.querySelector('mmduet-live').start(source, settings); }"
        self.page.evaluate(script, [source, settings or {}])

    def wait_for_state(self, *states: str, timeout: float = 30.0) -> str:
        """Wait for one of the states of the live view and return it."""
        script = (
            "(states) => { const s = document.querySelector('mmduet-live').state; return states.includes(s) && s; }"
        )
        return str(self.page.wait_for_function(script, arg=list(states), timeout=timeout * 1000).json_value())

    def wait_for_event(self, condition: str, timeout: float = 30.0) -> Any:
        """Wait for the first event ``e`` of the log for which a JavaScript condition holds, and return it."""
        script = f"() => document.querySelector('mmduet-live').log.events.find((e) => {condition})"
        return self.page.wait_for_function(script, timeout=timeout * 1000).json_value()

    @property
    def status(self) -> Locator:
        """Return the element with the state of the live view in words."""
        return self.page.locator("mmduet-live .bar")

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one type so far."""
        script = "(kind) => document.querySelector('mmduet-live').log.events.filter((e) => e.type === kind)"
        found: list[dict[str, Any]] = self.page.evaluate(script, kind)
        return found


@contextmanager
def run_live_server(
    clips: dict[str, Path], model: LoadedModel | None = None, **settings: Any
) -> Iterator[RunningServer]:
    """Run a server with the bare page; ``settings`` are those of ``run_test_server``."""
    with run_test_server(model, extend=lambda app: add_test_page(app, clips), **settings) as server:
        yield server


@contextmanager
def open_live_page(
    browser: Browser, server: RunningServer, *, show: str = "live", **context: Any
) -> Iterator[LivePage]:
    """Open the page with the components in ``show``; ``context`` are options of the browser's context."""
    tab = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | context)
    try:
        page = tab.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.add_init_script(SOCKETS)
        page.goto(f"{server.http}/page/test?show={show}")
        page.wait_for_selector("html[data-ready]")
        yield LivePage(server, page)
        assert not errors, errors
    finally:
        tab.close()


def add_test_page(app: FastAPI, clips: dict[str, Path]) -> None:
    """Serve the components, the bare page, the clips and their previews."""

    def find(name: str, owner: str) -> Path:
        if name not in clips:
            raise SourceError(f"clip {name!r} does not exist")
        return clips[name]

    app.mount("/page/static", StaticFiles(directory=STATIC))
    app.state.manager.media.register_videos("clip", find)

    @app.get("/page/test")
    def page() -> FileResponse:
        return FileResponse(PAGE, media_type="text/html")

    @app.get("/page/clips/{name}/video")
    def video(name: str) -> FileResponse:
        return FileResponse(clips[name], media_type="video/mp4")
