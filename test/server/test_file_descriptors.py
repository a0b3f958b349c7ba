"""The limit of open files: raised at the start, part of admission, with a reserve for HTTP."""

from __future__ import annotations

import json
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest
from live_server import SocketClient, run_test_server
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mmduet.errors import CapacityError

SOFT_LIMIT, HARD_LIMIT = 64, 128


@contextmanager
def serve_with_few_descriptors(*options: str) -> Iterator[tuple[int, int, int]]:
    """Run ``mmduet serve`` under ``ulimit``; yield its process id, port and maximum number of sessions."""
    command = [sys.executable, "-m", "mmduet", "serve", "--port", "0", "--max-utilization", "inf", *options]
    shell = f'ulimit -Sn {SOFT_LIMIT} && ulimit -Hn {HARD_LIMIT} && exec "$@"'
    with subprocess.Popen(["bash", "-c", shell, "bash", *command], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)/.* up to (\d+) sessions", line)
            assert found is not None, line
            yield process.pid, int(found[1]), int(found[2])
        finally:
            process.kill()


def open_until_refused(url: str, stack: ExitStack) -> tuple[list[SocketClient], InvalidStatus]:
    """Open sessions until one is refused; return them and the refusal."""
    clients: list[SocketClient] = []
    while len(clients) < HARD_LIMIT:
        try:
            clients.append(stack.enter_context(SocketClient(connect(url, compression=None, legacy=True))))
        except InvalidStatus as refusal:
            return clients, refusal
    raise AssertionError("no session was refused")


@contextmanager
def soft_limit(count: int) -> Iterator[None]:
    """Let this process open ``count`` more files for the length of a block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (psutil.Process().num_fds() + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_descriptors_limit_the_sessions_and_leave_some_for_http(tmp_path: Path) -> None:
    with soft_limit(68), run_test_server(journal=tmp_path) as server, ExitStack() as stack:
        clients, refusal = open_until_refused(server.url(), stack)
        assert 1 <= len(clients) <= 10, "each needs a socket and a journal, and 48 descriptors are reserved"
        assert refusal.response.status_code == 503
        assert clients[0].receive("session.created")["session"]["duet"]["limits"]["max_sessions"] == len(clients)
        with closing(HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
            assert get_status(connection, "/ready") == 503


def test_a_limit_without_room_for_a_session_is_an_error(tmp_path: Path) -> None:
    expected = r"open files leaves no room for a session; raise it \(ulimit -n, LimitNOFILE=\)"
    with soft_limit(40), pytest.raises(CapacityError, match=expected), run_test_server(journal=tmp_path):
        pass


@pytest.mark.slow
def test_sessions_end_before_file_descriptors_do(tmp_path: Path) -> None:
    with serve_with_few_descriptors("--journal", str(tmp_path)) as (pid, port, max_sessions), ExitStack() as stack:
        limits = Path(f"/proc/{pid}/limits").read_text(encoding="utf-8")
        assert re.search(rf"^Max open files +{HARD_LIMIT} ", limits, re.MULTILINE)
        url = f"ws://127.0.0.1:{port}/v1/realtime"
        clients, refusal = open_until_refused(url, stack)
        assert len(clients) == max_sessions
        assert (refusal.response.status_code, refusal.response.headers["Retry-After"]) == (503, "2")
        assert json.loads(refusal.response.body or b"")["error"]["code"] == "no_capacity"
        with ExitStack() as requests:
            for _ in range(24):  # connections that stay open
                connection = requests.enter_context(closing(HTTPConnection("127.0.0.1", port, timeout=10)))
                assert get_status(connection, "/ready") == 503
                assert get_status(connection, "/health") == 200
        with ThreadPoolExecutor(100) as pool:
            assert set(pool.map(lambda _: handshake_status(url), range(100))) == {503}
        for client in clients:
            client.ws.close()
        again, _ = open_until_refused(url, stack)
        assert len(again) == max_sessions


def handshake_status(url: str) -> int:
    """Return the status with which a handshake is rejected."""
    with pytest.raises(InvalidStatus) as rejected:
        connect(url, compression=None, legacy=True, open_timeout=30)
    return rejected.value.response.status_code


def get_status(connection: HTTPConnection, path: str) -> int:
    """Send a request over a connection that stays open."""
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    return response.status


@pytest.mark.slow
def test_connections_without_a_request_are_closed() -> None:
    with run_test_server() as server, ExitStack() as stack:
        silent, partial, kept = (
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(3)
        )
        partial.sendall(b"GET /health HTTP/1.1\r\nHost:")
        kept.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n")
        with server.connect() as client:
            for connection in (silent, partial):
                connection.settimeout(30)
                assert connection.recv(1) == b""
            client.send_frames(1)
            assert client.end_stream()[-1]["frames"]["received"] == 1
        assert kept.recv(12) == b"HTTP/1.1 200"


@pytest.mark.slow
def test_sources_count_as_well(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f"pull_roots = ['{tmp_path}']\n")
    with (
        serve_with_few_descriptors() as (_, _, without),
        serve_with_few_descriptors("--config", str(tmp_path / "config.toml")) as (_, _, with_sources),
    ):
        assert 1 <= with_sources < without
