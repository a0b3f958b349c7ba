"""The client of OpenAI-compatible endpoints; its retries and errors are tested with the judge in ``test_chat_judge``."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from chat_server import ChatServer

from mmduet.client.openai_endpoint import InvalidResponseError, OpenAIEndpoint, base_url
from mmduet.errors import OptionError, ServerError

SECRET = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def endpoint(url: str, **options: Any) -> OpenAIEndpoint:
    return OpenAIEndpoint(url, service="judge", key_variable="TEST_KEY", **{"backoff_seconds": 0.001, **options})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host:8000", "http://host:8000/v1"),
        ("http://host:8000/", "http://host:8000/v1"),
        ("https://host/v1", "https://host/v1"),
        ("https://host/api/v3/", "https://host/api/v3"),
        ("https://host/v1/chat/completions", "https://host/v1"),
        ("https://host/chat/completions", "https://host"),
    ],
)
def test_base_url_is_completed(url: str, expected: str) -> None:
    assert base_url(url, "judge", "TEST_KEY") == expected


INVALID_ADDRESSES = ("host:8000", "ftp://host", "", "http://", "http://[::1")


@pytest.mark.parametrize("url", [*INVALID_ADDRESSES, f"http://me:{SECRET}@host", f"http://h/v1?key={SECRET}"])
def test_invalid_addresses_raise_without_secrets(url: str) -> None:
    with pytest.raises(OptionError, match="the judge's address") as caught:
        endpoint(url)
    assert "secret" not in str(caught.value)


def test_invalid_options_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="attempts must be at least 1, got 0"):
        endpoint("http://host", attempts=0)
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(OptionError, match=r"needs httpx2; run: pip install 'mmduet\[server\]'"):
        endpoint("http://host")


def test_post_sends_to_the_path_and_parses_the_response() -> None:
    server = ChatServer()
    body = {"model": "m", "messages": [{"role": "user", "content": "xx"}]}
    with server.serve() as url, endpoint(url) as client:
        assert client.post("embeddings", body, lambda response: response["choices"][0]["message"]["content"]) == "3"
    assert server.path == "/v1/embeddings"
    assert server.bodies == [body]


def test_rejected_responses_are_retried() -> None:
    def reject(_: Any) -> str:
        raise InvalidResponseError("a response without embeddings")

    server = ChatServer()
    body = {"messages": [{"role": "user", "content": "x"}]}
    with (
        server.serve() as url,
        endpoint(url, attempts=3) as client,
        pytest.raises(ServerError, match=r"failed 3 times \(last: a response without embeddings\)"),
    ):
        client.post("embeddings", body, reject)
    assert len(server.bodies) == 3


def test_a_redirect_is_reported_with_its_address() -> None:
    class Redirecting(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(308)
            self.send_header("Location", "https://user:secret@other.example/v1")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with endpoint(f"http://127.0.0.1:{server.server_port}") as client, pytest.raises(ServerError) as caught:
            client.chat("any", [("user", "Hello?")], {})
        thread.join()
    assert "redirects to https://other.example/v1; use that address" in str(caught.value)
