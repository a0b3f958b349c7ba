"""A real server on loopback for tests, and a minimal client built on the `websockets` library."""

from __future__ import annotations

import io
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from duet_rig import endless_model, lively_model, picture
from fastapi import FastAPI
from PIL import Image
from websockets.sync.client import ClientConnection, connect

from mmduet.model import LoadedModel
from mmduet.protocol.frames import EncodedImage, ImageFormat, pack_frame
from mmduet.server.app import create_app
from mmduet.server.config_loading import load_config
from mmduet.server.hand_over import HandOver
from mmduet.server.journal import JournalFolder
from mmduet.server.media import MediaLoader
from mmduet.server.session_manager import SessionManager
from mmduet.server.uvicorn_server import Server


@dataclass
class RunningServer:
    """A server that is listening on ``port``."""

    port: int
    manager: SessionManager
    uvicorn: Server

    @property
    def http(self) -> str:
        """Return the base URL for HTTP requests."""
        return f"http://127.0.0.1:{self.port}"

    def url(self, **query: str) -> str:
        """Return the WebSocket URL."""
        text = "&".join(f"{name}={value}" for name, value in query.items())
        return f"ws://127.0.0.1:{self.port}/v1/realtime" + (f"?{text}" if text else "")

    def connect(self, *, resume: bool = False, query: dict[str, str] | None = None, **options: Any) -> SocketClient:
        """Open a socket; ``query`` is that of the URL, ``options`` are those of ``websockets.sync.client.connect``."""
        url = self.url(**({"resume": "1"} if resume else {}), **(query or {}))
        return SocketClient(connect(url, compression=None, max_size=None, legacy=True, **options))


@dataclass
class SocketClient:
    """A client with one socket. ``seq`` is the number of the next frame."""

    ws: ClientConnection
    seq: int = 0

    def __enter__(self) -> SocketClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.ws.close()

    def send(self, kind: str, **fields: Any) -> None:
        """Send an event."""
        self.ws.send(json.dumps({"type": kind, **fields}))

    def send_frames(self, count: int, step_us: int = 500_000, seed: int = 0) -> None:
        """Send the next ``count`` frames as binary messages, ``step_us`` apart."""
        for _ in range(count):
            image = EncodedImage(ImageFormat.JPEG, jpeg(seed * 1000 + self.seq))
            self.ws.send(pack_frame(self.seq, self.seq * step_us, image))
            self.seq += 1

    def send_text(self, text: str, role: str = "user", **fields: Any) -> None:
        """Send a turn."""
        item = {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}
        self.send("conversation.item.create", item=item, **fields)

    def update_session(self, duet: dict[str, Any] | None = None, **fields: Any) -> None:
        """Send ``session.update``."""
        self.send("session.update", session={"type": "realtime", **({"duet": duet} if duet else {}), **fields})

    def receive(self, kind: str | None = None, timeout: float = 20) -> dict[str, Any]:
        """Return the next event, or the next of one type."""
        while True:
            event = json.loads(self.ws.recv(timeout))
            if kind is None or event["type"] == kind:
                return event

    def receive_until(self, kind: str, timeout: float = 20) -> list[dict[str, Any]]:
        """Return every event up to the first of one type."""
        events = [self.receive(timeout=timeout)]
        while events[-1]["type"] != kind:
            events.append(self.receive(timeout=timeout))
        return events

    def end_stream(self) -> list[dict[str, Any]]:
        """End the stream and return every event up to ``session.closed``."""
        self.send("input_frame.end")
        return self.receive_until("session.closed")


@cache
def jpeg(seed: int) -> bytes:
    """Return a random image as JPEG."""
    return encode_image(picture(seed), "JPEG", quality=90)


def encode_image(image: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """Return an image in a file format of Pillow's."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


class ThreadServer(Server):
    """A server for a thread other than the main one, in which signal handlers cannot be installed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers."""
        yield


@cache
def shared_model() -> LoadedModel:
    """Return the model of servers that are given none. Engines do not change it, so all servers of this process share it."""
    return lively_model()


@contextmanager
def run_test_server(
    model: LoadedModel | None = None,
    *,
    media: MediaLoader | None = None,
    min_compaction_bytes: int | None = None,
    upgradable: bool = False,
    extend: Callable[[FastAPI], None] = lambda app: None,
    **settings: Any,
) -> Iterator[RunningServer]:
    """Run a server on a free port in a thread of this process until the block ends.

    ``settings`` are the server's; ``media`` replaces its media loader; journals are compacted from
    ``min_compaction_bytes`` on. With ``upgradable``, the server hands over to another one, as ``mmduet serve`` does.
    ``extend`` is called with the application before it starts.
    """
    unhurried = {
        "port": 0,
        "max_utilization": math.inf,
        "max_frame_age": 3600.0,
    }  # tests also run on machines under load
    config = load_config(**unhurried | settings)
    journals = None
    if min_compaction_bytes is not None:
        journals = JournalFolder(settings["journal"], min_compaction_bytes)
        journals.lock()
    app = create_app(model or shared_model(), config, media=media, journals=journals)
    extend(app)
    ports: list[int] = []
    listening = threading.Event()

    def on_started(port: int) -> None:
        ports.append(port)
        listening.set()

    hand_over = HandOver(app.state.manager, app.state.journals, config) if upgradable else None
    server = ThreadServer(app, config, on_started, hand_over)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert listening.wait(30)
    try:
        yield RunningServer(ports[0], app.state.manager, server)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until ``condition`` holds; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"the condition did not hold within {seconds:g} s"
        time.sleep(0.02)


__all__ = [
    "RunningServer",
    "SocketClient",
    "encode_image",
    "endless_model",
    "jpeg",
    "lively_model",
    "run_test_server",
    "wait_for",
]
