"""Pages on which the browser client is tested, and the servers and proxies that they connect to."""

from __future__ import annotations

import json
import queue
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from live_server import RunningServer, run_test_server
from playwright.sync_api import Browser, Page
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from mmduet.model import LoadedModel
from mmduet.webpage.page import STATIC

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "browser.md"
PAGE = """<!doctype html><meta charset="utf-8"><title>test</title>
<canvas id="canvas" width="160" height="120"></canvas><video id="video" muted></video>"""
SQUARE = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
HELPERS = """
import * as client from "/page/static/mmduet.js";
Object.assign(globalThis, client, {
  sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  until: async (holds) => { while (!holds()) await sleep(10); },
  eventsOf: (session) => {
    const events = [];
    session.addEventListener("event", ({ detail }) => events.push(detail));
    return events;
  },
  draw: (step, background = "#778899") => {
    const pen = document.getElementById("canvas").getContext("2d");
    pen.fillStyle = background;
    pen.fillRect(0, 0, 160, 120);
    pen.fillStyle = `hsl(${step * 37} 80% 50%)`;
    pen.fillRect(10 + (step * 9) % 100, 40, 40, 40);
  },
  picture: (step) => {
    draw(step);
    return new Promise((done) => document.getElementById("canvas").toBlob(done, "image/jpeg"));
  },
  failure: async (promise) => {
    try {
      await promise;
      return null;
    } catch ({ name, code, message, param }) {
      return { name, code, message, param };
    }
  },
});
globalThis.isLoaded = true;
"""


def add_client_page(app: FastAPI) -> None:
    """Serve the client's files where the live page has them, and an empty page at ``/page/test``.

    The page ``/page/without_workers`` does not allow workers.
    """
    app.mount("/page/static", StaticFiles(directory=STATIC))

    @app.get("/page/test")
    async def page() -> HTMLResponse:
        return HTMLResponse(PAGE)

    @app.get("/page/without_workers")
    async def page_without_workers() -> HTMLResponse:
        return HTMLResponse(PAGE, headers={"content-security-policy": "worker-src 'none'"})


@contextmanager
def run_client_server(model: LoadedModel | None = None, **settings: Any) -> Iterator[RunningServer]:
    """Run a server with an empty page instead of the live page; ``settings`` are those of ``run_test_server``."""
    with run_test_server(model, extend=add_client_page, **settings) as server:
        yield server


@contextmanager
def open_client_page(browser: Browser, base: str, **context: Any) -> Iterator[Page]:
    """Open a page of the site at ``base`` in a new context, with the client's exports and a few helpers as globals."""
    with browser.new_context(**context) as opened:
        page = opened.new_page()
        page.goto(f"{base}/page/test")
        page.add_script_tag(type="module", content=HELPERS)
        page.wait_for_function("globalThis.isLoaded")
        yield page


def read_document_page() -> str:
    """Return the complete page of the guide."""
    found = re.search(r"^```html\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@contextmanager
def serve_site(document: Callable[[], str] = str) -> Iterator[str]:
    """Serve the page and the client's files without an mmduet server, and ``document``; yield the base address."""

    class Site(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            content = {
                "/page/test": ("text/html", PAGE),
                "/page/document": ("text/html", document()),
                "/page/square.svg": ("image/svg+xml", SQUARE),
            }.get(self.path)
            if content is None:
                self.path = self.path.removeprefix("/page/static")
                super().do_GET()
                return
            self.send_response(200)
            self.send_header("content-type", content[0])
            self.end_headers()
            self.wfile.write(content[1].encode())

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    site = ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory=str(STATIC)))
    threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{site.server_port}"
    site.shutdown()


class TcpProxy:
    """Forwards connections to a port of this machine. ``upstream`` may be changed; 0 refuses connections."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def base(self) -> str:
        """Return the address of the proxy."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Cut every connection, without a closing handshake."""
        sockets, self._sockets = self._sockets, []
        for connection in sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop."""
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.upstream)) if self.upstream else None
            except OSError:
                if self._listener.fileno() < 0:
                    return
                server = None
            if server is None:
                client.close()
                continue
            self._sockets += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for connection in (source, target):
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def run_proxy(upstream: int) -> Iterator[TcpProxy]:
    """Run a proxy until the block ends."""
    proxy = TcpProxy(upstream)
    yield proxy
    proxy.close()


class ScriptedSocket:
    """A WebSocket of a client, for a server whose behaviour a test writes. Received messages are in ``received``."""

    def __init__(self, ws: ServerConnection) -> None:
        self.ws = ws
        self.received: queue.Queue[Any] = queue.Queue()
        self.ended = threading.Event()
        self.last_event = 0

    def send(self, kind: str, **fields: Any) -> None:
        """Send an event with the next event id."""
        self.last_event += 1
        self.ws.send(json.dumps({"type": kind, "event_id": f"event_{self.last_event:012}", **fields}))

    def send_created(self, **duet: Any) -> None:
        """Send ``session.created``."""
        limits = {"max_message_bytes": 1 << 20, "max_waiting_frames": 32, "time_to_live_s": 60}
        settings = {"fps": 10.0, "ack": True, "max_frame_age": None, "limits": limits, "resume_token": "t", **duet}
        self.send("session.created", session={"id": "sess_1", "model": "nano", "duet": settings})

    def receive(self, timeout: float = 10) -> Any:
        """Return the next message: an event, or the ``seq`` of a frame."""
        return self.received.get(timeout=timeout)

    def read(self) -> None:
        """Receive until the client disconnects."""
        with suppress(ConnectionClosed):
            for message in self.ws:
                is_frame = isinstance(message, bytes)
                self.received.put(int.from_bytes(message[4:8], "little") if is_frame else json.loads(message))
        self.ended.set()


@contextmanager
def run_scripted_server(script: Callable[[ScriptedSocket], None]) -> Iterator[str]:
    """Run a WebSocket server that calls ``script`` in a thread for every client; yield its address."""

    def handle(ws: ServerConnection) -> None:
        client = ScriptedSocket(ws)
        threading.Thread(target=client.read, daemon=True).start()
        with suppress(ConnectionClosed):
            script(client)

    with serve(handle, "127.0.0.1", 0, subprotocols=["realtime"], compression=None) as server:  # type: ignore[list-item]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
