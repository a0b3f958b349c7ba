"""The Python clients and ``mmduet stream`` wait for a session at a full server, and report their position."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import in_process, write_video
from live_server import RunningServer, SocketClient, run_test_server, wait_for

from mmduet.cli._connection import QueueReporter
from mmduet.client import ConnectionStatus, QueueStatus, RemoteSession, RemoteStream
from mmduet.client.admission_wait import AdmissionWait
from mmduet.errors import CapacityError, OptionError, ServerError
from mmduet.events import StreamEnded
from mmduet.model import load_model


@contextmanager
def full_server(**settings: object) -> Iterator[tuple[RunningServer, SocketClient]]:
    """Run a server whose only session is in use; yield it with the session's client."""
    with run_test_server(load_model("random:tiny"), max_sessions=1, **settings) as served, served.connect() as holder:
        holder.receive("session.created")
        yield served, holder


def address(served: RunningServer) -> str:
    return f"127.0.0.1:{served.port}"


def end_when_queued(served: RunningServer, holder: SocketClient) -> None:
    wait_for(lambda: served.manager.queued_count > 0)
    holder.end_stream()


def test_the_wait_begins_in_the_queue_and_has_one_end() -> None:
    now, places = 100.0, list[QueueStatus]()
    wait = AdmissionWait("ws://host", 30.0, places.append, clock=lambda: now)
    now = 110.0
    assert (wait.is_active, wait.url_parameters()) == (False, {"wait": "30.000"})
    wait.on_queued(3, None)
    now = 130.0
    wait.on_queued(2, 0.2)
    assert (wait.is_active, wait.url_parameters()) == (True, {"wait": "10.000"}), "what is left for a new connection"
    now = 140.0
    assert (wait.is_active, wait.remaining, wait.url_parameters()) == (False, 0.0, {})
    assert [place.describe() for place in places] == [
        "waiting for a session, position 3 in the queue: ws://host",
        "waiting for a session, position 2 in the queue, about 1 s: ws://host",
    ]
    assert AdmissionWait("ws://host", None, places.append).url_parameters() == {}


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 3601.0])
def test_an_invalid_wait_is_an_option_error(seconds: float) -> None:
    with pytest.raises(OptionError, match="wait_seconds must be from 0 to 3600, got"):
        RemoteSession("host", wait_seconds=seconds)


def test_the_asyncio_client_waits_for_its_session() -> None:
    places: list[QueueStatus] = []

    async def run(served: RunningServer, holder: SocketClient) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.to_thread(end_when_queued, served, holder))
            async with RemoteSession(address(served), wait_seconds=60, on_queued=places.append) as session:
                await session.ask("What?")
                await session.end()
                kinds = [event.type async for event in session]
        assert kinds[0] == "session.created", "positions are not events of the session"
        assert kinds[-1] == "session.closed"

    with full_server() as (served, holder):
        asyncio.run(asyncio.wait_for(run(served, holder), 60))
        assert places[0] == QueueStatus(1, None, f"ws://{address(served)}/v1/realtime")


def test_the_blocking_client_logs_its_position_and_gives_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="mmduet.client")
    with full_server() as (served, _):
        expired = pytest.raises(
            CapacityError, match=r"ws://\S+ has opened no session: no session has become free within 0\.3 s; try again"
        )
        with expired, RemoteStream(address(served), wait_seconds=0.3):
            pass
        with pytest.raises(CapacityError, match="is full"), RemoteStream(address(served), wait_seconds=0):
            pass
    assert [record.getMessage() for record in caplog.records] == [
        f"waiting for a session, position 1 in the queue: ws://{address(served)}/v1/realtime"
    ]


def test_a_client_queues_again_after_an_upgrade(tmp_path: Path) -> None:
    places, changes = list[QueueStatus](), list[ConnectionStatus]()
    with full_server(journal=tmp_path) as (served, _):

        def hand_over_and_fail() -> None:
            wait_for(lambda: len(places) == 1)
            session = served.manager.sessions[0]
            for coroutine in (served.manager.hand_over(1.0), served.manager.take_back()):
                asyncio.run_coroutine_threadsafe(coroutine, served.uvicorn.loop).result(30)
            wait_for(lambda: len(places) > 1)
            with served.connect(resume=True) as again:
                again.send("session.resume", session_id=session.id, resume_token=session.token)
                again.end_stream()

        with ThreadPoolExecutor(1) as background:
            upgrade = background.submit(hand_over_and_fail)
            with RemoteStream(
                address(served), wait_seconds=60, on_queued=places.append, on_connection_change=changes.append
            ) as stream:
                stream.end()
                assert isinstance(list(stream.outputs())[-1], StreamEnded)
            upgrade.result()
    assert "1012" in changes[0].reason
    assert [change.state for change in (changes[0], changes[-1])] == ["retrying", "resumed"]


def test_a_client_does_not_wait_for_a_server_that_is_gone() -> None:
    with full_server() as (served, _), ThreadPoolExecutor(1) as background:
        stream = RemoteStream(address(served), wait_seconds=1.0)
        waiting = background.submit(stream.__enter__)
        wait_for(lambda: served.manager.queued_count == 1)
        served.uvicorn.should_exit = True
        with pytest.raises(ServerError, match=r"ws://\S+ (lost|cannot be reached)"):
            waiting.result(30)


# the command


def test_a_position_is_printed_when_it_changes(capsys: pytest.CaptureFixture[str]) -> None:
    report = QueueReporter("clip.mp4")
    for position, estimate in ((3, None), (3, 20.0), (2, 12.4), (2, 10.0), (1, 5.0)):
        report(QueueStatus(position, estimate, "ws://host"))
    assert capsys.readouterr().err.splitlines() == [
        "clip.mp4: warning[queued]: waiting for a session, position 3 in the queue: ws://host",
        "clip.mp4: warning[queued]: waiting for a session, position 2 in the queue, about 12 s: ws://host",
        "clip.mp4: warning[queued]: waiting for a session, position 1 in the queue, about 5 s: ws://host",
    ]


def test_stream_waits_for_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    video, mmduet = write_video(tmp_path / "clip.mp4", 1.0), in_process(monkeypatch, capsys)
    with full_server() as (served, holder), ThreadPoolExecutor(1) as background:
        options = ("stream", video, "--server", address(served), "--fast", "--quiet", "--no-query")
        done = mmduet(*options, "--wait", "0.2")
        assert done.status == CapacityError.exit_status
        assert "error[no_capacity]: ws://" in done.err
        ending = background.submit(end_when_queued, served, holder)
        done = mmduet(*options, "--wait", "60")
        ending.result()
        assert done.status == 0
        assert done.err.splitlines() == [
            f"{video}: warning[queued]: waiting for a session, position 1 in the queue: "
            f"ws://{address(served)}/v1/realtime"
        ]
        assert "--wait must be a number of seconds from 0 to 3600, got -1.0" in mmduet(*options, "--wait", "-1").err
