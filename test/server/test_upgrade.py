"""Upgrade without interruption: a second server on the same journal and port takes over, or leaves the first one as it was."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from certificates import write_certificate
from duet_rig import picture
from live_server import RunningServer, run_test_server, wait_for

from mmduet.bench.scene_frames import encoded_scene_frames
from mmduet.bench.upgrade import UpgradeConfig, measure_upgrade
from mmduet.client import RemoteStream
from mmduet.errors import OptionError
from mmduet.events import Frame, Scores
from mmduet.model import load_model
from mmduet.server import control_socket, hand_over
from mmduet.server.app import create_app
from mmduet.server.config_loading import load_config
from mmduet.server.journal import JournalFolder
from mmduet.server.take_over import open_journal, take_over

SERVE = """
import os, runpy, sys
print(os.getpid(), flush=True)
sys.argv = ["mmduet", "serve", *{arguments!r}]
runpy.run_module("mmduet", run_name="__main__", alter_sys=True)
"""
FAIL = """
import os, time
from mmduet.model import load_model
from mmduet.server.app import create_app
from mmduet.server.config_loading import load_config
from mmduet.server.journal import JournalFolder
from mmduet.server.take_over import open_journal, take_over
config = load_config(port={port}, journal={journal!r})
journals = open_journal(config)
app = create_app(load_model("random:tiny"), config, journals=journals)
taken_over = take_over(journals, config, app.state.manager)
assert taken_over is not None
{then}
"""


def can_connect(journal: Path) -> bool:
    connection = control_socket.connect(journal, 10)
    if connection is not None:
        connection.close()
    return connection is not None


@contextmanager
def upgradable(journal: Path, **settings: Any) -> Iterator[RunningServer]:
    with run_test_server(load_model("random:tiny"), journal=journal, upgradable=True, **settings) as server:
        wait_for(lambda: can_connect(journal))
        yield server


def take_over_and(then: str, binaries: Path, server: RunningServer, journal: Path) -> subprocess.Popen[bytes]:
    """Start a process that takes over from ``server`` and then runs ``then`` instead of serving."""
    program = FAIL.format(port=server.port, journal=str(journal), then=then)
    return subprocess.Popen([str(binaries / "mmduet"), "-c", program])


def ask(port: int, journal: Path, model: str = "random:tiny", **settings: Any) -> None:
    """Ask the server on ``journal`` to hand over to one with these settings."""
    config = load_config(port=port, journal=journal, **settings)
    journals = open_journal(config)
    assert journals is not None
    take_over(journals, config, create_app(load_model(model), config, journals=journals).state.manager)


def scored_frames(stream: RemoteStream) -> list[int]:
    return [output.frame for output in stream.outputs() if isinstance(output, Scores)]


# The old server continues


@pytest.mark.parametrize("then", ["os._exit(3)", "time.sleep(600)"])
def test_server_continues_if_the_new_one_fails(
    then: str, binaries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand_over, "SERVING_SECONDS", 1.0)
    with upgradable(tmp_path) as server:
        with RemoteStream(f"127.0.0.1:{server.port}", block_when_behind=True) as stream:
            stream.update(duet={"fps": None})
            for index in range(4):
                stream.push(Frame(index, index / 2, picture(index)))
            with take_over_and(then, binaries, server, tmp_path) as failing:
                for index in range(4, 8):
                    stream.push(Frame(index, index / 2, picture(index)))
                assert failing.wait(60) != 0
            for index in range(8, 12):
                stream.push(Frame(index, index / 2, picture(index)))
            stream.end()
            assert scored_frames(stream) == list(range(12))
        with pytest.raises(OptionError, match="give each server its own folder"), run_test_server(journal=tmp_path):
            pass  # the folder is still locked
        with server.connect() as client:
            assert client.receive()["type"] == "session.created"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "missing"], "missing"),
        (["--port", "1"], "use the same host and port to take over"),
    ],
)
def test_new_server_that_cannot_start_interrupts_nobody(
    arguments: list[str], message: str, binaries: Path, tmp_path: Path
) -> None:
    with upgradable(tmp_path) as server, server.connect() as client:
        command = [
            str(binaries / "mmduet"),
            "serve",
            "--port",
            str(server.port),
            "--journal",
            str(tmp_path),
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
        assert done.returncode not in (0, 1)
        assert message in done.stderr
        client.send_frames(1)
        kinds = [event["type"] for event in client.end_stream()]
        assert "session.go_away" not in kinds
        assert kinds[-1] == "session.closed"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"port": 1}, r"listens on 127\.0\.0\.1:\d+; use the same host and port"),
        ({"host": "localhost"}, r"listens on 127\.0\.0\.1:\d+; use the same host and port"),
        ({"model": "nano"}, "need the model 'random:tiny', not 'nano'"),
        ({"max_sessions": 1}, r"2 sessions use \d+ MiB of KV memory, and this one allows 1 and"),
    ],
)
def test_refused_hand_over_changes_nothing(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with upgradable(tmp_path) as server, server.connect() as first, server.connect() as second:
        for client in (first, second):
            client.receive()
        with pytest.raises(OptionError, match=message):
            ask(**{"port": server.port, "journal": tmp_path, **settings})
        for client in (first, second):
            client.send_frames(1)
            kinds = [event["type"] for event in client.end_stream()]
            assert "session.go_away" not in kinds
            assert kinds[-1] == "session.closed"


@pytest.mark.parametrize("message", [b"", b"nonsense", b"{}\n", b'{"type": "probe", "version": 99}\n'])
def test_invalid_requests_do_not_end_the_control_socket(message: bytes, tmp_path: Path) -> None:
    with upgradable(tmp_path) as server:
        connection = control_socket.connect(tmp_path, 10)
        assert connection is not None
        with connection:
            connection.sendall(message)
            connection.shutdown(socket.SHUT_WR)
            answer = control_socket.receive(connection)
            assert answer is None or answer[0]["type"] == "refused"
        with pytest.raises(OptionError, match="same host and port"):
            ask(1, tmp_path)
        assert server.manager.active_count == 0


def test_server_that_is_shutting_down_does_not_hand_over(tmp_path: Path) -> None:
    with upgradable(tmp_path) as server:
        server.manager.draining = True
        with pytest.raises(OptionError, match="shutting down"):
            ask(server.port, tmp_path)


def test_old_server_that_ends_during_the_hand_over_is_replaced(tmp_path: Path) -> None:
    dying = JournalFolder(tmp_path)
    dying.lock()
    listener = control_socket.listen(tmp_path)
    listener.setblocking(True)

    def die_when_asked() -> None:
        probe, _ = listener.accept()
        with probe:
            control_socket.receive(probe)
            probe.sendall(control_socket.encode({"type": "accepted"}))
        request, _ = listener.accept()
        with request, listener:
            control_socket.receive(request)
        time.sleep(0.2)  # it closes its connection first
        dying.close()

    thread = threading.Thread(target=die_when_asked)
    thread.start()
    config = load_config(port=1, journal=tmp_path)
    journals = open_journal(config)
    assert journals is not None
    app = create_app(load_model("random:tiny"), config, journals=journals)
    assert take_over(journals, config, app.state.manager) is None
    assert journals.locked
    thread.join(10)


# The socket


def test_socket_is_private_replaces_a_stale_one_and_ends_with_the_server(tmp_path: Path) -> None:
    journal = tmp_path / ("long" * 40)  # longer than the address of a Unix socket may be
    journal.mkdir()
    path = journal / control_socket.SOCKET_NAME
    control_socket.listen(journal).close()  # as a killed server leaves it
    assert control_socket.connect(journal, 10) is None
    with run_test_server(journal=journal, upgradable=True):
        wait_for(lambda: can_connect(journal))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


def test_server_runs_without_a_socket(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / control_socket.SOCKET_NAME).mkdir()  # cannot be replaced
    with run_test_server(journal=tmp_path, upgradable=True) as server, server.connect() as client:
        client.send_frames(1)
        assert client.end_stream()[-1]["frames"]["received"] == 1
        wait_for(lambda: "cannot have a control socket" in caplog.text)
        with pytest.raises(OptionError, match="give each server its own folder"):
            ask(server.port, tmp_path)


# Servers in processes of their own


@contextmanager
def serving(binaries: Path, journal: Path, port: int, *arguments: str) -> Iterator[tuple[int, Callable[[], int]]]:
    """Run ``mmduet serve`` until the block ends; yield its port and a function that returns its exit status."""
    options = ("--max-utilization", "inf", *arguments)  # all clients connect at once, also to a machine under load
    program = SERVE.format(arguments=("--port", str(port), "--journal", str(journal), *options))
    process = subprocess.Popen([str(binaries / "mmduet"), "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    try:
        address = re.search(r":(\d+)/", process.stdout.readline())
        assert address is not None
        yield int(address[1]), lambda: process.wait(60)
    finally:
        if process.poll() is None:
            os.kill(pid, signal.SIGKILL)
            process.wait(60)


def upgrade_under_load(binaries: Path, journal: Path, config: UpgradeConfig, *arguments: str) -> None:
    """Replace a server while clients stream; check that nothing is lost and nothing comes twice."""
    with ExitStack() as servers:
        port, exit_status = servers.enter_context(serving(binaries, journal, 0, *arguments))

        def upgrade() -> int:
            servers.enter_context(serving(binaries, journal, port, *arguments))
            return exit_status()

        scheme = "wss" if "--tls-certificate" in arguments else "ws"
        url = f"{scheme}://127.0.0.1:{port}"
        report = asyncio.run(measure_upgrade(url, config, lambda: asyncio.to_thread(upgrade)))
    values = report.to_dict()
    assert report.exit_status == 0
    assert [tally.loss for tally in report.tallies if tally.loss is not None] == []
    assert all(tally.go_away_at is not None and tally.resumed_at is not None for tally in report.tallies)
    assert (values["unaccounted"], values["replies_twice"], values["received"]) == (0, 0, values["frames"])
    assert values["scored"] + values["dropped"] == values["frames"]
    assert values["replies"] > 0


def test_streams_continue_on_the_new_server(binaries: Path, tmp_path: Path) -> None:
    images = encoded_scene_frames(5.0, 2.0, 0)
    upgrade_under_load(binaries, tmp_path, UpgradeConfig(3, 4.0, 1.0, images, "What do you see?"))


@pytest.mark.slow
def test_twenty_streams_over_tls_continue_on_the_new_server(
    binaries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = write_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    images = encoded_scene_frames(20.0, 2.0, 0)
    tls = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    upgrade_under_load(binaries, tmp_path / "journal", UpgradeConfig(20, 2.0, 5.0, images, "Narrate."), *tls)


@pytest.mark.slow
def test_server_is_upgraded_many_times_under_load(binaries: Path, tmp_path: Path) -> None:
    """Replies that are being generated, queued frames and unread queries meet every moment of a hand-over."""
    images = encoded_scene_frames(20.0, 2.0, 0)
    for seed in range(5):
        config = UpgradeConfig(4, 8.0, 1.0 + 0.13 * seed, images[seed:], "Narrate.")
        upgrade_under_load(binaries, tmp_path / str(seed), config)


@pytest.mark.slow
def test_requests_in_progress_are_answered_by_the_old_server(binaries: Path, tmp_path: Path) -> None:
    body = {"model": "random:tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1500}
    with serving(binaries, tmp_path, 0, "--model", "random:tiny") as (port, exit_status), ThreadPoolExecutor(1) as pool:
        address = f"http://127.0.0.1:{port}"
        answer = pool.submit(httpx2.post, f"{address}/v1/chat/completions", json=body, timeout=120)
        wait_for(lambda: "mmduet:kv_bytes_reserved 0.0" not in httpx2.get(f"{address}/metrics").text)
        with serving(binaries, tmp_path, port, "--model", "random:tiny"):
            assert answer.result(120).json()["usage"]["completion_tokens"] > 0
            assert exit_status() == 0
