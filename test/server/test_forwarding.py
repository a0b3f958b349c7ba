"""Requests through proxies: whose headers count, the path prefix, and servers without keys."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import httpx2
import pytest
from captured_logs import log_lines, unredacted
from live_server import RunningServer, run_test_server
from websockets.exceptions import InvalidStatus

from mmduet.client.connecting import permanent_error
from mmduet.errors import OptionError

KEY = {"Authorization": "Bearer k"}


@pytest.fixture(scope="module")
def prefixed() -> Iterator[RunningServer]:
    with run_test_server(
        keys="k", root_path="/mmduet/", pull_hosts="127.0.0.1", pull_networks="127.0.0.1/32"
    ) as running:
        yield running


def client_addresses(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the client addresses of the logged requests."""
    return [line["client"] for line in log_lines(caplog, "request")]


@pytest.mark.parametrize(
    "header", ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP"]
)
def test_a_server_without_keys_rejects_proxied_requests(server: RunningServer, header: str) -> None:
    headers = {header: "127.0.0.1"}
    for path in ("/health", "/v1/models", "/openapi.json", "/nowhere"):
        response = httpx2.get(server.http + path, headers=headers)
        assert response.status_code == 401
        assert "set MMDUET_KEYS" in response.json()["error"]["message"]
        assert response.headers["x-request-id"].startswith("req_")
    with pytest.raises(InvalidStatus) as rejected:
        server.connect(additional_headers=headers)
    assert rejected.value.response.status_code == 401
    assert json.loads(rejected.value.response.body)["error"]["code"] == "proxied_request"
    problem = permanent_error("ws://h", rejected.value, has_key=False, resuming=False)
    assert "set MMDUET_KEYS on the server" in str(problem)
    assert "--key" not in str(problem), "a client's key would not help"
    assert httpx2.get(f"{server.http}/health").status_code == 200


def test_a_server_with_keys_accepts_proxied_requests(prefixed: RunningServer) -> None:
    headers = {"Via": "1.1 proxy", "X-Forwarded-For": "203.0.113.5", **KEY}
    assert httpx2.get(f"{prefixed.http}/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("trusted", "forwarded", "expected"),
    [
        ("127.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("127.0.0.0/8", "198.51.100.1, 203.0.113.5", "203.0.113.5"),  # what the client itself sent comes first
        ("127.0.0.0/8, 203.0.113.5", "198.51.100.1, 203.0.113.5", "198.51.100.1"),
        ("10.0.0.0/8", "203.0.113.5", "127.0.0.1"),
        ("", "203.0.113.5", "127.0.0.1"),
    ],
)
def test_the_client_address_comes_from_trusted_proxies_only(
    trusted: str, forwarded: str, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="mmduet.server.request_log")
    with run_test_server(keys="k", trusted_proxies=trusted) as server:
        headers = {"X-Forwarded-For": forwarded, **KEY}
        httpx2.get(f"{server.http}/v1/models", headers=headers)
        server.connect(additional_headers=headers).ws.close()
    assert client_addresses(caplog) == [expected, expected]


def test_logged_requests_have_no_query_and_no_line_breaks(
    prefixed: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="mmduet.server.request_log")
    httpx2.get(f"{prefixed.http}/a%0Afake%20line?key=secret", headers=KEY)
    (line,) = log_lines(caplog, "request")
    assert (line["path"], line["status"]) == ("/a fake line", 404)
    assert "secret" not in unredacted(caplog)


@pytest.mark.parametrize("prefix", ["", "/mmduet"])  # a proxy may remove the prefix or keep it
def test_the_path_prefix_is_part_of_every_address(prefixed: RunningServer, prefix: str) -> None:
    base = prefixed.http + prefix
    assert httpx2.get(f"{base}/health").status_code == 200
    assert httpx2.get(f"{base}/openapi.json").json()["servers"] == [{"url": "/mmduet"}]
    body = {"source": "http://127.0.0.1/none.mp4"}
    created = httpx2.post(f"{base}/v1/sessions", json=body, headers=KEY)
    assert created.headers["location"] == f"/mmduet/v1/sessions/{created.json()['id']}"
    redirect = httpx2.get(f"{base}/health/", headers={"Host": "video.example.org"})
    assert (redirect.status_code, redirect.headers["location"]) == (307, "http://video.example.org/mmduet/health")
    assert httpx2.get(f"{base}/nowhere").status_code == 404


def test_a_prefix_that_is_part_of_an_endpoint_is_rejected() -> None:
    with (
        pytest.raises(OptionError, match="root_path /v1 is the beginning of the endpoint /v1"),
        run_test_server(root_path="/v1"),
    ):
        pass
