"""The deployment guide: nginx and Caddy with its configurations, the systemd unit, the Dockerfile."""

from __future__ import annotations

import json
import logging
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any

import openai
import pytest
from captured_logs import log_lines
from certificates import write_certificate
from live_server import RunningServer, SocketClient, run_test_server
from proxies import documented, run_caddy, run_nginx
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mmduet.client import RemoteStream
from mmduet.server.config import ServerConfig
from mmduet.server.config_loading import load_config

ROOT = Path(__file__).resolve().parents[2]
KEY = {"Authorization": "Bearer k"}
CLIENT_ADDRESS = "127.0.0.2"  # also this machine, but another address than the proxy's
PROXIES = {"nginx": run_nginx, "caddy": run_caddy}


@dataclass(frozen=True)
class Proxied:
    """A server behind a proxy, and how its clients reach it."""

    server: RunningServer
    port: int
    certificate: Path

    @property
    def tls(self) -> ssl.SSLContext:
        """Return a TLS context that trusts the proxy's certificate."""
        return ssl.create_default_context(cafile=str(self.certificate))

    @contextmanager
    def request(
        self, path: str, method: str = "GET", body: Any = None, headers: dict[str, str] = KEY
    ) -> Iterator[HTTPResponse]:
        """Send a request from ``CLIENT_ADDRESS``."""
        source = (CLIENT_ADDRESS, 0)
        connection = HTTPSConnection("localhost", self.port, context=self.tls, timeout=10, source_address=source)
        with closing(connection):
            text = json.dumps(body) if body is not None else None
            content_type = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, text, {**headers, **content_type})
            yield connection.getresponse()

    def connect(self, **options: Any) -> SocketClient:
        """Open a WebSocket from ``CLIENT_ADDRESS``."""
        url = f"wss://localhost:{self.port}/mmduet/v1/realtime"
        source = (CLIENT_ADDRESS, 0)
        return SocketClient(connect(url, ssl=self.tls, source_address=source, compression=None, legacy=True, **options))


@contextmanager
def proxied(name: str, folder: Path, **settings: Any) -> Iterator[Proxied]:
    """Run a server behind nginx or Caddy with the documented configuration."""
    certificate, key = write_certificate(folder)
    with (
        run_test_server(root_path="/mmduet", **settings) as server,
        PROXIES[name](folder, server.port, certificate, key) as port,
    ):
        yield Proxied(server, port, certificate)


@pytest.fixture(scope="module", params=sorted(PROXIES))
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    settings = tomllib.loads(documented("toml"))
    assert settings.pop("root_path") == "/mmduet"
    pulls = {"pull_hosts": ("127.0.0.1",), "pull_networks": ("127.0.0.0/8",)}
    with proxied(request.param, tmp_path_factory.mktemp(request.param), keys="k", **settings, **pulls) as running:
        yield running


def test_requests_and_large_bodies_pass(proxy: Proxied) -> None:
    with proxy.request("/mmduet/v1/models") as response:
        assert json.load(response)["object"] == "list"
    with proxy.request("/mmduet/v1/models", headers={}) as response:
        assert response.status == 401
    body = {"model": "none", "messages": [{"role": "user", "content": "x" * (4 << 20)}]}
    with proxy.request("/mmduet/v1/chat/completions", "POST", body) as response:
        assert json.load(response)["error"]["code"] == "model_not_found"


def test_websockets_pass(proxy: Proxied) -> None:
    with proxy.connect(additional_headers=KEY) as client:
        client.send_frames(3)
        events = client.end_stream()
    assert sum(event["type"] == "input_frame.scored" for event in events) == 3
    with pytest.raises(InvalidStatus) as rejected:
        proxy.connect()
    assert rejected.value.response.status_code == 401


def test_our_client_and_the_openai_sdk_pass(proxy: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(proxy.certificate))
    with RemoteStream(f"wss://localhost:{proxy.port}/mmduet", key="k") as stream:
        assert stream.session.model == "random:tiny"
    with openai.OpenAI(base_url=f"https://localhost:{proxy.port}/mmduet/v1", api_key="k") as client:
        message = {"role": "user", "content": "What?"}
        chunks = client.chat.completions.create(model="random:tiny", max_tokens=4, messages=[message], stream=True)  # type: ignore[call-overload]
        assert [chunk.choices[0].finish_reason for chunk in chunks][-1] is not None


def test_server_sent_events_arrive_while_the_stream_is_open(proxy: Proxied) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a source that is never finished
        body = {"source": f"http://127.0.0.1:{silent.getsockname()[1]}/film.mp4"}
        with proxy.request("/mmduet/v1/sessions", "POST", body) as response:
            assert response.status == 201
            location = response.headers["location"]
        assert location.startswith("/mmduet/v1/sessions/sess_")
        with proxy.request(f"{location}/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = [response.readline() for _ in range(2)]
            assert lines[1] == b"event: session.created\n"
        with proxy.request(location, "DELETE") as response:
            assert response.status == 204


def test_redirects_lead_back_through_the_proxy(proxy: Proxied) -> None:
    with proxy.request("/mmduet/health/") as response:
        assert response.headers["location"] == f"https://localhost:{proxy.port}/mmduet/health"


def test_the_client_address_is_that_of_the_proxys_client(proxy: Proxied, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="mmduet.server.request_log")
    forged = {"X-Forwarded-For": "203.0.113.5", **KEY}
    with proxy.request("/mmduet/v1/models", headers=forged) as response:
        assert response.status == 200
    with proxy.connect(additional_headers=forged) as client:
        client.receive()
    assert logged_addresses(caplog) == [CLIENT_ADDRESS] * 2


def logged_addresses(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the client addresses of the logged requests."""
    return [line["client"] for line in log_lines(caplog, "request")]


@pytest.mark.parametrize("name", sorted(PROXIES))
def test_a_proxy_that_is_not_trusted_counts_as_the_client(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="mmduet.server.request_log")
    with proxied(name, tmp_path, keys="k", trusted_proxies="10.0.0.0/8") as proxy, proxy.request("/mmduet/version"):
        pass
    assert logged_addresses(caplog) == ["127.0.0.1"]


@pytest.mark.parametrize("name", sorted(PROXIES))
def test_a_server_without_keys_is_not_reachable_through_a_proxy(name: str, tmp_path: Path) -> None:
    with proxied(name, tmp_path) as proxy:
        with proxy.request("/mmduet/v1/models", headers={"Host": "localhost"}) as response:
            assert response.status == 401
            assert "set MMDUET_KEYS" in json.load(response)["error"]["message"]
        with pytest.raises(InvalidStatus) as rejected:
            proxy.connect()
        assert rejected.value.response.status_code == 401


# The files in deploy/


def assignments(text: str) -> dict[str, str]:
    """Return the variables that a Dockerfile or a systemd unit sets."""
    return dict(re.findall(r"\b(MMDUET_\w+)=(\S+)", text))


@pytest.mark.parametrize("file", ["deploy/Dockerfile", "deploy/mmduet.service", "docs/deploy.md"])
def test_every_variable_is_a_setting(file: str) -> None:
    names = {name.removeprefix("MMDUET_").lower() for name in assignments((ROOT / file).read_text(encoding="utf-8"))}
    assert names
    assert names <= set(ServerConfig.model_fields)


def test_settings_of_the_image_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in assignments((ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")).items():
        monkeypatch.setenv(name, value.rstrip("."))
    config = load_config(keys="k")
    assert (config.host, config.port, config.journal) == ("0.0.0.0", 8765, Path("/var/lib/mmduet/journal"))


def test_the_unit_may_write_its_journal_and_outlives_the_drain() -> None:
    unit = (ROOT / "deploy" / "mmduet.service").read_text(encoding="utf-8")
    state = re.findall(r"^StateDirectory=(\S+)$", unit, re.MULTILINE)
    assert assignments(unit)["MMDUET_JOURNAL"] == f"%S/{state[0]}/journal"
    assert int(re.findall(r"^LimitNOFILE=(\d+)$", unit, re.MULTILINE)[0]) >= 65536
    timeout = float(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0])
    assert timeout > load_config(ROOT / "deploy" / "mmduet.toml").drain_seconds


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this system does not use systemd")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = (ROOT / "deploy" / "mmduet.service").read_text(encoding="utf-8")
    path = tmp_path / "mmduet.service"
    path.write_text(unit.replace("/opt/mmduet/.venv/bin/mmduet", str(Path(sys.executable).with_name("mmduet"))))
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
