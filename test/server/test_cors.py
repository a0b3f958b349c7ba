"""Pages of allowed origins may use the HTTP endpoints: preflight requests, responses, streams and errors."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from live_server import RunningServer, run_test_server

from mmduet.errors import OptionError
from mmduet.server.config_loading import load_config

HTTP = httpx2.Client(verify=False, timeout=30)  # one client, because each makes a TLS context
PAGE, STRANGER = "https://page.example", "https://stranger.example"
CHAT = {"model": "random:tiny", "max_tokens": 2, "messages": [{"role": "user", "content": "Hello?"}]}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with run_test_server(allowed_origins=f"{PAGE}, http://localhost:3000", keys="sesame") as server:
        yield server


def preflight(url: str, origin: str, method: str = "POST") -> httpx2.Response:
    headers = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "authorization,content-type,x-stainless-os,last-event-id",
    }
    return HTTP.options(url, headers=headers)


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/chat/completions", "POST"),
        ("/v1/models", "GET"),
        ("/v1/sessions", "POST"),
        ("/v1/sessions/sess_1/events", "GET"),
        ("/v1/sessions/sess_1", "DELETE"),
        ("/v1/sessions/sess_1", "PATCH"),
        ("/v1/realtime/client_secrets", "POST"),
    ],
)
def test_a_preflight_request_is_answered_for_allowed_origins_only(
    server: RunningServer, path: str, method: str
) -> None:
    for origin in (PAGE, "http://localhost:3000"):
        allowed = preflight(server.http + path, origin, method)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == origin
        assert method in allowed.headers["access-control-allow-methods"]
        assert "authorization" in allowed.headers["access-control-allow-headers"]
        assert "x-stainless-os" in allowed.headers["access-control-allow-headers"]
        assert "Origin" in allowed.headers["vary"]
    for origin in (STRANGER, "null", PAGE + ".evil.example", "http://page.example", "https://PAGE.example:444"):
        rejected = preflight(server.http + path, origin, method)
        assert rejected.status_code == 403
        assert not [name for name in rejected.headers if name.startswith("access-control")]
        assert "Origin" in rejected.headers["vary"]
        assert rejected.json()["error"]["code"] == "forbidden_origin"


@pytest.mark.parametrize("method", ["PUT", "CONNECT", "X" * 500])
def test_a_preflight_request_for_another_method_is_rejected_in_the_shape_of_the_api(
    server: RunningServer, method: str
) -> None:
    rejected = preflight(f"{server.http}/v1/models", PAGE, method)
    assert rejected.status_code == 405
    assert rejected.json()["error"]["code"] == "method_not_allowed"
    assert rejected.json()["error"]["message"].endswith("is not supported; use GET, HEAD, POST, PATCH, DELETE")
    assert len(rejected.text) < 400


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/health", {}, 200),
        ("GET", "/v1/models", {"headers": {"authorization": "Bearer sesame"}}, 200),
        ("GET", "/v1/models", {}, 401),
        ("GET", "/nothing", {}, 404),
        ("GET", "/v1/chat/completions", {}, 405),
        ("POST", "/v1/chat/completions", {"json": {}, "headers": {"authorization": "Bearer sesame"}}, 400),
        ("POST", "/v1/chat/completions", {"json": CHAT, "headers": {"authorization": "Bearer sesame"}}, 200),
        (
            "POST",
            "/v1/chat/completions",
            {"json": {**CHAT, "stream": True}, "headers": {"authorization": "Bearer sesame"}},
            200,
        ),
    ],
)
def test_responses_and_errors_have_cors_headers_for_allowed_origins(
    server: RunningServer, method: str, path: str, options: dict, status: int
) -> None:
    headers = options.get("headers", {})
    response = HTTP.request(method, server.http + path, **{**options, "headers": {**headers, "origin": PAGE}})
    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == PAGE
    assert "x-request-id" in response.headers["access-control-expose-headers"]
    assert response.headers["vary"] == "Origin"
    plain = HTTP.request(method, server.http + path, **options)
    assert plain.status_code == status
    assert "access-control-allow-origin" not in plain.headers
    assert plain.headers["vary"] == "Origin"  # a cache must not give it to a page
    stranger = HTTP.request(method, server.http + path, **{**options, "headers": {**headers, "origin": STRANGER}})
    assert "access-control-allow-origin" not in stranger.headers
    assert stranger.status_code == (403 if status not in (404, 405) else status)


def test_events_of_a_session_have_cors_headers() -> None:
    with run_test_server(allowed_origins=PAGE, pull_hosts="127.0.0.1", pull_networks="127.0.0.1/32") as server:
        page = {"origin": PAGE}
        created = HTTP.post(f"{server.http}/v1/sessions", json={"source": "http://127.0.0.1:1/film"}, headers=page)
        assert created.status_code == 201
        assert created.headers["access-control-allow-origin"] == PAGE
        assert "Location" in created.headers["access-control-expose-headers"]
        events = HTTP.get(server.http + created.headers["location"] + "/events", headers=page)
        assert events.headers["content-type"].startswith("text/event-stream")
        assert events.headers["access-control-allow-origin"] == PAGE
        assert "session.closed" in events.text


def test_an_unexpected_exception_has_cors_headers() -> None:
    with run_test_server(allowed_origins=PAGE) as server:

        @server.uvicorn.config.app.get("/fault")
        async def fault() -> None:
            raise ZeroDivisionError

        response = HTTP.get(f"{server.http}/fault", headers={"origin": PAGE})
    assert response.status_code == 500
    assert response.headers["access-control-allow-origin"] == PAGE
    assert response.json()["error"]["type"] == "server_error"


def test_origins_in_the_settings_are_those_that_browsers_send() -> None:
    with run_test_server(allowed_origins="https://PAGE.example/") as server:
        assert preflight(f"{server.http}/v1/models", PAGE).headers["access-control-allow-origin"] == PAGE
    for invalid in ("page.example", "https://page.example/path", "https://"):
        with pytest.raises(OptionError, match=r"allowed_origins: .* must be an origin such as https://page.example"):
            load_config(allowed_origins=invalid)


def test_any_origin_is_allowed_by_a_star_and_none_by_default() -> None:
    with run_test_server(allowed_origins="*") as server:
        assert preflight(f"{server.http}/v1/models", STRANGER).headers["access-control-allow-origin"] == "*"
        response = HTTP.get(f"{server.http}/v1/models", headers={"origin": STRANGER})
        assert response.headers["access-control-allow-origin"] == "*"
    with run_test_server() as server:
        assert preflight(f"{server.http}/v1/models", STRANGER).status_code == 403
        own = HTTP.get(f"{server.http}/v1/models", headers={"origin": server.http})
        assert own.status_code == 200
