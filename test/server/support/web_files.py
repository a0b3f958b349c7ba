"""Files on a real HTTP server on loopback, some of them behind redirects."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def web_files(files: dict[str, bytes], redirects: dict[str, str] | None = None) -> Iterator[str]:
    """The address of a server that has ``files`` by path; ``redirects`` send elsewhere."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            target = (redirects or {}).get(self.path)
            body = files.get(self.path)
            self.send_response(302 if target else 200 if body is not None else 404)
            if target:
                self.send_header("Location", target)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
