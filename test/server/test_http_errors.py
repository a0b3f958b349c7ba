"""Every HTTP error has the OpenAI API's shape, whatever goes wrong at whatever stage, and repeats little of the input."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import numpy as np
import openai
import pytest
from live_server import RunningServer, jpeg, lively_model, run_test_server, wait_for
from starlette.types import Message
from websockets.exceptions import InvalidStatus

from mmduet.server.error_middleware import ErrorMiddleware
from mmduet.server.media import MediaLoader
from mmduet.server.url_policy import UrlPolicy
from mmduet.video import VideoInfo, VideoWriter

MODEL = "random:tiny"
JSON = {"content-type": "application/json"}
SECRET = "/home/operator/secret"
HTTP = httpx2.Client(verify=False, timeout=30)  # one client, because each makes a TLS context
LONG = "a very long value, " * 300


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path: Path = tmp_path_factory.mktemp("film") / "film.mp4"
    with VideoWriter(path, 64, 48, 4.0) as writer:
        for value in range(8):
            writer.write(np.full((48, 64, 3), value * 30, np.uint8))
    return path.read_bytes()


def image_part(url: str | None = None) -> dict:
    return {
        "type": "image_url",
        "image_url": {"url": url or "data:image/jpeg;base64," + base64.b64encode(jpeg(1)).decode()},
    }


def video_part(data: bytes) -> dict:
    return {"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + base64.b64encode(data).decode()}}


def chat_body(*parts: dict, **options: object) -> dict:
    content = [*parts, {"type": "text", "text": "What?"}]
    return {"model": MODEL, "max_tokens": 4, "messages": [{"role": "user", "content": content}], **options}


def check_error(response: httpx2.Response, status: int, code: str | None = None) -> dict:
    """Check the shape of an error response and return the error."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")
    body = response.json()
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "code", "param"}
    assert body["error"]["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert code is None or body["error"]["code"] == code
    assert body["error"]["message"]
    return body["error"]


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("GET", "/nothing", {}, 404, "not_found"),
        ("GET", "/v1/models/other", {}, 404, "model_not_found"),
        ("GET", "/v1/sessions/sess_1/events", {}, 404, "not_found"),
        ("DELETE", "/v1/sessions/sess_1", {}, 404, "not_found"),
        ("POST", "/v1/models", {}, 405, "method_not_allowed"),
        ("GET", "/v1/chat/completions", {}, 405, "method_not_allowed"),
        ("PUT", "/health", {}, 405, "method_not_allowed"),
        ("GET", "/v1/realtime", {}, 426, "upgrade_required"),
        ("OPTIONS", "/v1/models", {}, 405, "method_not_allowed"),
        ("POST", "/v1/chat/completions", {"content": b"{", "headers": JSON}, 400, "invalid_json"),
        ("POST", "/v1/chat/completions", {"content": b"\xff\xfe", "headers": JSON}, 400, "invalid_json"),
        ("POST", "/v1/chat/completions", {"content": b"[" * 15_000, "headers": JSON}, 400, "invalid_json"),
        ("POST", "/v1/chat/completions", {"json": chat_body(x=LONG * 10)}, 413, "too_large"),
        ("POST", "/v1/sessions", {"json": {}}, 400, "missing_parameter"),
        ("POST", "/v1/sessions", {"data": {"source": "x"}}, 415, "unsupported_media_type"),
        ("POST", "/v1/chat/completions", {"files": {"file": b"x"}}, 415, "unsupported_media_type"),
        ("POST", "/v1/chat/completions", {"json": chat_body(model="gpt-4")}, 404, "model_not_found"),
        (
            "POST",
            "/v1/chat/completions",
            {"content": gzip.compress(b"{}"), "headers": {**JSON, "content-encoding": "gzip"}},
            415,
            "unsupported_media_type",
        ),
    ],
)
def test_errors_have_the_shape_of_the_openai_api(
    small_server: RunningServer, method: str, path: str, options: dict, status: int, code: str
) -> None:
    check_error(HTTP.request(method, small_server.http + path, **options), status, code)


def test_an_error_names_the_methods_of_a_path(server: RunningServer) -> None:
    response = HTTP.delete(f"{server.http}/v1/chat/completions")
    assert response.headers["allow"] == "POST"
    assert "use POST" in check_error(response, 405, "method_not_allowed")["message"]
    response = HTTP.put(f"{server.http}/v1/sessions/sess_1")
    assert response.headers["allow"] == "GET, PATCH, DELETE"
    assert "use GET, PATCH, DELETE" in check_error(response, 405, "method_not_allowed")["message"]


@pytest.fixture(scope="module")
def small_server() -> Iterator[RunningServer]:
    with run_test_server(max_request_bytes=20_000) as server:
        yield server


def test_an_invalid_path_parameter_has_the_shape_too() -> None:
    with run_test_server() as server:

        @server.uvicorn.config.app.get("/typed/{number}")
        async def typed(number: int) -> int:
            return number

        error = check_error(HTTP.get(f"{server.http}/typed/{LONG}"), 422, "invalid_value")
    assert error["param"] == "number"


def test_models_are_retrieved_by_the_sdk(server: RunningServer) -> None:
    client = openai.OpenAI(api_key="any", base_url=f"{server.http}/v1", max_retries=0)
    card = client.models.retrieve(MODEL)
    assert card.id == MODEL
    assert card == client.models.list().data[0]
    with pytest.raises(openai.NotFoundError, match="'other' is not served here; available: 'random:tiny'") as caught:
        client.models.retrieve("other")
    with pytest.raises(openai.NotFoundError, match=r"is not served here, did you mean random:tiny\?"):
        client.models.retrieve("Random:Tiny")
    assert caught.value.code == "model_not_found"
    assert caught.value.request_id.startswith("req_")


@pytest.mark.parametrize("path", ["/health", "/ready", "/version", "/metrics", "/v1/models", f"/v1/models/{MODEL}"])
def test_head_is_answered_like_get_without_a_body(server: RunningServer, path: str) -> None:
    head, get = HTTP.head(server.http + path), HTTP.get(server.http + path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


def repeated_chars(text: str, source: str) -> int:
    """Return the length of the longest part of ``source`` from its beginning on that ``text`` repeats."""
    return max((length for length in range(1, 400) if source[:length] in text), default=0)


BIG = base64.b64encode(np.random.default_rng(0).bytes(30_000)).decode()


@pytest.mark.parametrize(
    "change",
    [
        {"model": BIG},
        {BIG: 1},
        {"user": 1, "stop": BIG},
        {"response_format": {"type": BIG}},
        {"messages": BIG},
        {"messages": [{"role": BIG, "content": ""}]},
        {"messages": [{"role": "user", "content": [{"type": BIG}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "", BIG: 1}]}]},
        {"messages": [{"role": "user", "content": [image_part(BIG)]}]},
        {"messages": [{"role": "user", "content": [image_part("data:image/png;base64," + BIG + "?")]}]},
        {"messages": [{"role": "user", "content": [image_part(f"http://{BIG}/")]}]},
        {"messages": [{"role": "user", "content": [image_part(f"http://localhost/{BIG}")]}]},
        {"messages": [{"role": "user", "content": [image_part(f"http://localhost/{LONG}")]}]},
        {"messages": [{"role": "user", "content": [image_part(f"{BIG}://localhost/")]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": BIG}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "", "detail": BIG}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": BIG}}]}]},
        {"messages": [{"role": "user", "content": "<image>" + BIG}]},
    ],
)
def test_an_error_repeats_at_most_120_characters_of_input(server: RunningServer, change: dict) -> None:
    response = HTTP.post(f"{server.http}/v1/chat/completions", json={**chat_body(), **change})
    error = check_error(response, 404 if "model" in change else 400)
    for start in ("", "data:image/png;base64,", "http://", "http://localhost/"):
        for text in (error["message"], error["param"] or ""):
            assert repeated_chars(text.lower(), (start + BIG).lower()) <= 120
            assert repeated_chars(text.lower(), (start + LONG).lower()) <= 120
    assert len(response.content) < 1000


@pytest.mark.parametrize(
    ("path", "headers"),
    [(f"/{BIG[:9000]}", {}), ("/v1/models", {"origin": BIG[:9000]}), ("/v1/models", {"host": LONG.strip()})],
)
def test_paths_and_headers_are_not_repeated_whole(server: RunningServer, path: str, headers: dict) -> None:
    assert len(HTTP.get(server.http + path, headers=headers).content) < 600


class FailingMedia(MediaLoader):
    """A media loader of which the method ``failing`` raises ``error``."""

    failing, reached = "", False
    error: Exception = Exception()

    def _reach(self, method: str) -> None:
        if method == self.failing:
            self.reached = True
            raise self.error

    async def load_image(self, url: str) -> np.ndarray:
        self._reach("load_image")
        return await super().load_image(url)

    @asynccontextmanager
    async def open_upload(self, url: str) -> AsyncIterator[Path]:
        self._reach("open_upload")
        async with super().open_upload(url) as path:
            yield path

    def check_size(self, info: VideoInfo) -> None:
        self._reach("check_size")
        super().check_size(info)

    def letterbox(self, image: np.ndarray) -> np.ndarray:
        self._reach("letterbox")
        return super().letterbox(image)

    def fetch(self, url: str) -> bytes:
        self._reach("fetch")
        return super().fetch(url)


@pytest.fixture(scope="module")
def failing() -> Iterator[tuple[RunningServer, FailingMedia]]:
    media = FailingMedia(UrlPolicy(), 1 << 20, 1 << 20, 64, 28)
    with run_test_server(media=media) as server:
        yield server, media


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("method", ["load_image", "open_upload", "check_size", "letterbox", "fetch"])
def test_any_exception_while_loading_media_is_an_internal_error(
    failing: tuple[RunningServer, FailingMedia], mp4: bytes, method: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server, media = failing
    media.failing, media.reached = method, False
    media.error = AttributeError(f"'NoneType' object has no attribute {SECRET!r}")
    part = {"load_image": image_part(), "fetch": image_part("http://localhost/x.png")}.get(method, video_part(mp4))
    response = HTTP.post(f"{server.http}/v1/chat/completions", json=chat_body(part, stream=stream))
    error = check_error(response, 500, "internal")
    assert media.reached
    assert SECRET not in response.text
    request_id = response.headers["x-request-id"]
    assert request_id in error["message"]
    logged = [record for record in caplog.records if getattr(record, "request", "") == request_id and record.exc_info]
    assert len(logged) == 1
    assert SECRET in str(logged[0].exc_info)
    wait_for(lambda: server.manager.budget.used_bytes == 0)
    media.failing = ""
    assert HTTP.post(f"{server.http}/v1/chat/completions", json=chat_body()).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_an_exception_in_the_model_is_an_internal_error(stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(f"CUDA error in {SECRET}")

    model = lively_model()
    model.network.lm.embed_tokens.register_forward_pre_hook(fail)
    with run_test_server(model) as server:
        response = HTTP.post(f"{server.http}/v1/chat/completions", json=chat_body(image_part(), stream=stream))
        if stream:
            events = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
            error = json.loads(events[-1])["error"]
            assert error["type"] == "server_error"
        else:
            error = check_error(response, 500, "engine")
        assert "the engine has" in error["message"]
        assert SECRET not in response.text
        assert any(SECRET in str(record.exc_info or "") for record in caplog.records)
        wait_for(lambda: server.manager.budget.used_bytes == 0)
        assert HTTP.get(f"{server.http}/health").status_code == 500
        check_error(HTTP.post(f"{server.http}/v1/chat/completions", json=chat_body()), 503)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device", f"{SECRET}/mmduet-x1"), "No space left on device"),
        (PermissionError(13, "Permission denied", f"{SECRET}/mmduet-x1"), "Permission denied"),
        (OSError(30, "Read-only file system", f"{SECRET}/mmduet-x1"), "Read-only file system"),
    ],
)
def test_a_full_or_unwritable_disk_is_named_without_its_paths(
    failing: tuple[RunningServer, FailingMedia], mp4: bytes, error: OSError, reason: str
) -> None:
    server, media = failing
    media.failing, media.error = "open_upload", error
    response = HTTP.post(f"{server.http}/v1/chat/completions", json=chat_body(video_part(mp4)))
    assert reason in check_error(response, 507, "storage")["message"]
    assert SECRET not in response.text
    wait_for(lambda: server.manager.budget.used_bytes == 0)
    media.failing = ""


def test_a_session_that_cannot_be_set_up_is_not_left_behind() -> None:
    with run_test_server(
        message_burst=1, messages_per_second=0.001, pull_hosts="127.0.0.1", pull_networks="127.0.0.1/32"
    ) as server:
        source, session = "http://127.0.0.1:1/film", {"type": "realtime", "duet": {"fps": 4}}
        body = {"source": source, "query": "What?", "session": session}
        for _ in range(2):
            response = HTTP.post(f"{server.http}/v1/sessions", json=body)
            assert response.status_code == 201, response.text  # the client has sent one request
        wait_for(lambda: server.manager.active_count == 0)
        assert server.manager.budget.used_bytes == 0


def test_an_exception_before_a_socket_is_accepted_is_an_http_error(caplog: pytest.LogCaptureFixture) -> None:
    async def failing_app(*_: object) -> None:
        raise KeyError(SECRET)

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/v1/realtime", "extensions": {"websocket.http.response": {}}, "headers": []}
    with caplog.at_level(logging.ERROR):
        asyncio.run(ErrorMiddleware(failing_app)(scope, receive, send))
    assert [message["type"] for message in sent] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert sent[0]["status"] == 500
    assert SECRET not in str(sent)
    assert SECRET in caplog.text


def test_a_rejected_socket_is_not_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    with run_test_server(max_sessions=1) as server, server.connect():
        with pytest.raises(InvalidStatus) as rejected:
            server.connect()
        assert rejected.value.response.status_code == 503
        error = json.loads(rejected.value.response.body)["error"]
        assert (error["code"], error["type"]) == ("no_capacity", "server_error")
        assert rejected.value.response.headers["x-request-id"].startswith("req_")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\x01\x00", b"SSH-2.0-probe\r\n", b"HELLO\r\n"])
def test_what_is_not_http_gets_an_error_in_json(server: RunningServer, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as probe:
        probe.sendall(data + b"\r\n\r\n")
        response = b"".join(iter(lambda: probe.recv(4096), b""))
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/json" in head
    assert json.loads(body)["error"]["code"] == "invalid_http"
    with socket.create_connection(("127.0.0.1", server.port)):
        pass  # a probe that sends nothing
    assert HTTP.get(f"{server.http}/health").status_code == 200


def test_the_log_of_the_server_is_quiet_about_probes() -> None:
    script = (
        "import logging\n"
        "from mmduet.server.logging_config import configure_logging\n"
        "configure_logging('info', as_json=False)\n"
        "logging.getLogger('uvicorn.error').warning('Invalid HTTP request received.')\n"
        "logging.getLogger('uvicorn.error').warning('Something else.')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "Something else." in done.stderr
    assert "Invalid HTTP" not in done.stderr


def test_errors_of_uploads_name_no_temporary_file(server: RunningServer, mp4: bytes) -> None:
    audio = b"ID3\x04" + bytes(500)
    for data in (b"", b"no video at all" * 100, mp4[:300], mp4[: len(mp4) // 2], audio):
        response = HTTP.post(f"{server.http}/v1/chat/completions", json=chat_body(video_part(data)))
        error = check_error(response, 400)
        assert "the video" in error["message"]
        assert "mmduet-" not in error["message"]
        assert tempfile.gettempdir() not in error["message"]


def test_the_api_description_has_the_parameters_of_chat_completions(server: RunningServer) -> None:
    schemas = HTTP.get(f"{server.http}/openapi.json").json()["components"]["schemas"]
    assert {"messages", "frequency_penalty", "response_format", "user"} <= set(schemas["ChatRequest"]["properties"])
    assert schemas["ChatRequest"]["required"] == ["model", "messages"]


@pytest.mark.parametrize("method", ["check_size", "letterbox"])
def test_any_exception_while_reading_a_source_ends_its_session(mp4: bytes, tmp_path: Path, method: str) -> None:
    (tmp_path / "film.mp4").write_bytes(mp4)
    media = FailingMedia(UrlPolicy(roots=(tmp_path,)), 1 << 20, 1 << 20, 64, 28)
    media.failing, media.error = method, ZeroDivisionError(SECRET)
    with run_test_server(media=media) as server:
        created = HTTP.post(f"{server.http}/v1/sessions", json={"source": "film.mp4", "query": "What?"})
        events = HTTP.get(server.http + created.headers["location"] + "/events").text
        assert media.reached
        assert "event: error" in events
        assert "event: session.closed" in events
        assert SECRET not in events
        wait_for(lambda: server.manager.active_count == 0 and server.manager.budget.used_bytes == 0)
