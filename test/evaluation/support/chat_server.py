"""A server on loopback that speaks chat completions, and fails as it is told."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], bytes]


def completion(words: object) -> Answer:
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": words}}]}).encode()


class ChatServer:
    """Speaks chat completions. ``faults`` are what the first requests get instead; ``fuse`` requests later it dies."""

    def __init__(self, faults: list[Answer] | None = None, fuse: int | None = None, delay: float = 0.0) -> None:
        self.faults, self.fuse, self.delay = list(faults or []), fuse, delay
        self.lock, self.answered, self.bodies = threading.Lock(), Counter[str](), list[dict[str, Any]]()
        self.path, self.keys, self.at_once, self.most_at_once = "", set[str | None](), 0, 0
        self.released = threading.Event()

    def answer(self, body: dict[str, Any], key: str | None) -> Answer | None:
        with self.lock:
            self.keys.add(key)
            self.bodies.append(body)
            if self.faults:
                return self.faults.pop(0)
            if self.fuse is not None and sum(self.answered.values()) >= self.fuse:
                return None
            words = body["messages"][-1]["content"]
            self.answered[words] += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.released.wait(self.delay)
        with self.lock:
            self.at_once -= 1
        return completion(str(1 + len(words) % 5))

    @contextmanager
    def running(self) -> Iterator[str]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                owner.path = self.path
                answer = owner.answer(body, self.headers.get("authorization"))
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, content = answer
                self.send_response(status)
                for name, value in {"content-length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:  # a client that went away
                pass

        server = Server(("127.0.0.1", 0), Handler)
        server.daemon_threads, server.block_on_close = True, False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            self.released.set()
            server.shutdown()
            server.server_close()
