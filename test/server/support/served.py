"""A real server on loopback for the tests, and a client of few words on the `websockets` library."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from duet_rig import endless_model, lively_model, picture
from PIL import Image
from websockets.sync.client import ClientConnection, connect

from mmduet.model import LoadedModel
from mmduet.protocol.frames import Kind, Picture, pack
from mmduet.server.app import create_app
from mmduet.server.config import load_config
from mmduet.server.house import House
from mmduet.server.serve import Server


@dataclass
class Served:
    """A server that runs."""

    port: int
    house: House
    server: Server

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, **query: str) -> str:
        text = "&".join(f"{name}={value}" for name, value in query.items())
        return f"ws://127.0.0.1:{self.port}/v1/realtime" + (f"?{text}" if text else "")

    def talk(self, *, resume: bool = False, **options: Any) -> Talk:
        return Talk(
            connect(
                self.url(**({"resume": "1"} if resume else {})), compression=None, max_size=None, legacy=True, **options
            )
        )


@dataclass
class Talk:
    """One socket."""

    ws: ClientConnection
    seq: int = 0

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.ws.close()

    def send(self, kind: str, **fields: Any) -> None:
        self.ws.send(json.dumps({"type": kind, **fields}))

    def frames(self, count: int, step_us: int = 500_000, seed: int = 0) -> None:
        for _ in range(count):
            self.ws.send(pack(self.seq, self.seq * step_us, Picture(Kind.JPEG, jpeg(seed * 1000 + self.seq))))
            self.seq += 1

    def ask(self, text: str, role: str = "user", **fields: Any) -> None:
        item = {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}
        self.send("conversation.item.create", item=item, **fields)

    def update(self, duet: dict[str, Any] | None = None, **fields: Any) -> None:
        self.send("session.update", session={"type": "realtime", **({"duet": duet} if duet else {}), **fields})

    def next(self, kind: str | None = None, timeout: float = 20) -> dict[str, Any]:
        """The next event, or the next of a kind."""
        while True:
            event = json.loads(self.ws.recv(timeout))
            if kind is None or event["type"] == kind:
                return event

    def until(self, kind: str, timeout: float = 20) -> list[dict[str, Any]]:
        """Every event up to the first of a kind."""
        found = [self.next(timeout=timeout)]
        while found[-1]["type"] != kind:
            found.append(self.next(timeout=timeout))
        return found

    def end(self) -> list[dict[str, Any]]:
        """Say that no more frames come, and hear the rest."""
        self.send("input_frame.end")
        return self.until("session.closed")


@cache
def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(seed)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def encoded(image: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


@contextmanager
def serving(model: LoadedModel | None = None, **settings: Any) -> Iterator[Served]:
    """A server on a free port, in a thread of this process, until the block ends."""
    config = load_config(port=0, **settings)
    app = create_app(model or lively_model(), config)
    ports: list[int] = []
    listening = threading.Event()

    def started(port: int) -> None:
        ports.append(port)
        listening.set()

    server = Server(app, config, started)
    server.capture_signals = no_signals  # type: ignore[method-assign,assignment]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert listening.wait(30)
    try:
        yield Served(ports[0], app.state.house, server)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@contextmanager
def no_signals() -> Iterator[None]:
    """Only the main thread may have signals."""
    yield


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Until it holds; fails if it does not come to that."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


__all__ = ["Served", "Talk", "encoded", "endless_model", "jpeg", "lively_model", "serving", "wait_for"]
