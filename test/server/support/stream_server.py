"""A real HTTP server on loopback whose answers are functions: streams, byte ranges, passwords; it records its requests."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class StreamServer:
    """The server; ``answers`` are by path without the query, ``requests`` are (path, Range) in order."""

    port: int
    answers: dict[str, Answer]
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def count(self, text: str) -> int:
        """Return how many requests were for a path that contains ``text``."""
        return sum(text in path for path, _ in self.requests)


def body(data: bytes, content_type: str = "application/octet-stream", *, ranges: bool = True) -> Answer:
    """Answer with a file, in parts if ``ranges``."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range") or "") if ranges else None
        start = int(part[1]) if part else 0
        stop = min(int(part[2]) + 1, len(data)) if part and part[2] else len(data)
        handler.send_response(206 if part else 200)
        if part:
            handler.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(stop - start))
        handler.end_headers()
        handler.wfile.write(data[start:stop])

    return answer


def endless(chunks: Callable[[], Iterator[bytes]], content_type: str = "application/octet-stream") -> Answer:
    """Answer without a length, as long as there are chunks."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", content_type)
        handler.end_headers()
        for chunk in chunks():
            handler.wfile.write(chunk)
            handler.wfile.flush()

    return answer


def chunked(chunks: Callable[[], Iterator[bytes]], content_type: str = "application/octet-stream") -> Answer:
    """Answer in HTTP chunks, with an end mark."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for chunk in chunks():
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            handler.wfile.flush()
        handler.wfile.write(b"0\r\n\r\n")

    return answer


def folder(root: Path, *, ranges: bool = True) -> dict[str, Answer]:
    """Return answers with the files of a folder."""
    return {
        f"/{path.relative_to(root).as_posix()}": body(path.read_bytes(), ranges=ranges)
        for path in root.rglob("*")
        if path.is_file()
    }


@contextmanager
def run_stream_server(answers: dict[str, Answer]) -> Iterator[StreamServer]:
    """Run the server until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            running.requests.append((self.path, self.headers.get("Range")))
            answer = running.answers.get(self.path.partition("?")[0])
            with suppress(ConnectionError):
                if answer is None:
                    self.send_error(404)
                else:
                    answer(self)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running = StreamServer(server.server_port, answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
