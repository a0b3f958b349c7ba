"""A chat-completions server on loopback whose failures are scripted."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Response = tuple[int, dict[str, str], bytes]


def chat_completion(text: object) -> Response:
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


class ChatServer:
    """Serves chat completions.

    The first requests get ``first_responses`` instead; after ``max_answers`` completions it drops every connection.
    """

    def __init__(
        self, first_responses: list[Response] | None = None, max_answers: int | None = None, delay_seconds: float = 0.0
    ) -> None:
        self.first_responses, self.max_answers, self.delay_seconds = (
            list(first_responses or []),
            max_answers,
            delay_seconds,
        )
        self.lock, self.answered, self.bodies = threading.Lock(), Counter[str](), list[dict[str, Any]]()
        self.path, self.keys, self.active, self.max_active = "", set[str | None](), 0, 0
        self.stopped = threading.Event()

    def answer(self, body: dict[str, Any], key: str | None) -> Response | None:
        with self.lock:
            self.keys.add(key)
            self.bodies.append(body)
            if self.first_responses:
                return self.first_responses.pop(0)
            if self.max_answers is not None and sum(self.answered.values()) >= self.max_answers:
                return None
            text = body["messages"][-1]["content"]
            self.answered[text] += 1
            self.active += 1
            self.max_active = max(self.max_active, self.active)
        self.stopped.wait(self.delay_seconds)
        with self.lock:
            self.active -= 1
        return chat_completion(str(1 + len(text) % 5))

    @contextmanager
    def serve(self) -> Iterator[str]:
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
            def handle_error(self, *_: object) -> None:  # the client has closed its connection
                pass

        server = Server(("127.0.0.1", 0), Handler)
        server.daemon_threads, server.block_on_close = True, False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            self.stopped.set()
            server.shutdown()
            server.server_close()
