"""Lost connections are reported: by callbacks and the log of both clients, and by the commands on stderr."""

from __future__ import annotations

import asyncio
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from command_line import in_process, write_video
from duet_rig import picture
from live_server import RunningServer, run_test_server, wait_for

from mmduet import pipeline
from mmduet.cli._connection import ConnectionReporter
from mmduet.client import ConnectionStatus, RemoteSession, RemoteStream
from mmduet.client.connection_status import Reconnection
from mmduet.errors import ConnectionLostError
from mmduet.events import Frame, StreamEnded
from mmduet.model import load_model

# the pauses and reports


def test_every_attempt_is_reported_until_the_time_is_over() -> None:
    now, reports = 100.0, list[ConnectionStatus]()
    reconnection = Reconnection("ws://host", reports.append, clock=lambda: now)
    reconnection.connected()
    assert reports == [], "the first connection resumes nothing"
    while (pause := reconnection.next_pause("refused", 10.0)) is not None:
        now += pause
    assert [round(report.seconds, 1) for report in reports] == [0.0, 0.1, 0.3, 0.7, 1.5, 3.1]
    assert [report.retry_seconds for report in reports] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
    assert reports[-1].describe() == "connection lost, trying again (3 s): ws://host (refused)"
    reconnection.give_up("refused")
    reconnection.give_up("refused")
    assert [report.state for report in reports[6:]] == ["gave_up"]
    assert reports[-1].describe() == "connection lost, gave up after 6 s: ws://host (refused)"


def test_pauses_begin_again_after_a_resumption() -> None:
    now, reports = 0.0, list[ConnectionStatus]()
    reconnection = Reconnection("ws://host", reports.append, clock=lambda: now)
    for _ in range(2):
        for _ in range(3):
            now += reconnection.next_pause("reset", 60.0) or 0
        reconnection.connected()
    assert [report.state for report in reports] == [*["retrying"] * 3, "resumed"] * 2
    assert [report.retry_seconds for report in reports] == [0.1, 0.2, 0.4, None] * 2
    assert reports[-1].describe() == "connection resumed after 1 s: ws://host"
    reconnection.next_pause("reset", 60.0)
    reconnection.connected("events are missing")
    assert reports[-1].describe() == "connection resumed after 0 s: ws://host (events are missing)"


# the clients


def abort_connections(served: RunningServer) -> None:
    """Abort every socket of the server, without a closing handshake."""
    for protocol in list(served.uvicorn.server_state.connections):
        served.uvicorn.loop.call_soon_threadsafe(protocol.transport.abort)


def test_the_asyncio_client_reports_loss_and_resumption() -> None:
    reports: list[ConnectionStatus] = []

    async def run(served: RunningServer) -> None:
        async with RemoteSession(f"127.0.0.1:{served.port}", on_connection_change=reports.append) as session:
            abort_connections(served)
            while not any(report.state == "resumed" for report in reports):
                await asyncio.sleep(0.02)
            await session.end()
            assert [event.type async for event in session][-1] == "session.closed"

    with run_test_server() as served:
        asyncio.run(asyncio.wait_for(run(served), 60))
    assert {report.state for report in reports[:-1]} == {"retrying"}
    assert reports[-1].state == "resumed"
    assert reports[0].seconds == 0
    assert reports[0].reason


def test_the_blocking_client_logs_by_default(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="mmduet.client")
    with run_test_server() as served:
        with RemoteStream(f"127.0.0.1:{served.port}") as stream:
            abort_connections(served)
            wait_for(lambda: any("connection resumed" in record.getMessage() for record in caplog.records))
            stream.end()
            assert isinstance(list(stream.outputs())[-1], StreamEnded)
        lost = next(record for record in caplog.records if "connection lost" in record.getMessage())
        assert (lost.levelname, f"ws://127.0.0.1:{served.port}/v1/realtime" in lost.getMessage()) == ("WARNING", True)
        caplog.clear()
        with RemoteStream(f"127.0.0.1:{served.port}") as stream:
            stream.end()
            list(stream.outputs())
    assert not caplog.records, "a session that ends loses no connection"


def test_a_server_that_never_returns_is_given_up() -> None:
    reports: list[ConnectionStatus] = []
    with run_test_server() as served:
        address = f"127.0.0.1:{served.port}"
        stream = RemoteStream(address, max_reconnect_seconds=0.5, on_connection_change=reports.append).__enter__()
        stream.push(Frame(0, 0.0, picture(0)))
    with pytest.raises(ConnectionLostError, match=r"connection to ws://.* lost \(.*\), gave up after \d+ s"):
        list(stream.events())
    stream.close()
    assert [report.state for report in reports[-2:]] == ["retrying", "gave_up"]
    assert len({report.state for report in reports}) == 2


def test_a_pipeline_reports_with_the_video(tmp_path: Path) -> None:
    video, reports = write_video(tmp_path / "clip.mp4", 1.0), list[tuple[Path, str]]()
    with run_test_server(load_model("random:tiny")) as served:
        aborted = False

        def abort_once(_: Path, frame: Frame) -> None:
            nonlocal aborted
            if frame.index == 2 and not aborted:
                aborted = True
                abort_connections(served)
                wait_for(lambda: "resumed" in {state for _, state in reports})

        run = pipeline("caption", server=f"127.0.0.1:{served.port}", fps=8, speak="never")
        results = run(
            video,
            on_frame=abort_once,
            on_connection_change=lambda path, status: reports.append((path, status.state)),
        )
        assert [result.error for result in results] == [None]
    assert {path for path, _ in reports} == {video}
    assert reports[-1][1] == "resumed"


# the commands


def test_lines_about_a_lost_connection_become_rare(capsys: pytest.CaptureFixture[str]) -> None:
    report = ConnectionReporter("clip.mp4")
    for tenths in range(100):
        report(ConnectionStatus("retrying", "ws://host", tenths / 10, "refused", 0.1))
    report(ConnectionStatus("gave_up", "ws://host", 10.0, "refused"))
    lines = capsys.readouterr().err.splitlines()
    assert [re.findall(r"\((\d+) s\)", line) for line in lines] == [["0"], ["1"], ["2"], ["4"], ["8"]]
    assert lines[0] == "clip.mp4: warning[connection_lost]: connection lost, trying again (0 s): ws://host (refused)"
    report(ConnectionStatus("resumed", "ws://host", 10.0))
    report(ConnectionStatus("retrying", "ws://host", 0.0, "refused", 0.1))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "clip.mp4: warning[connection_resumed]: connection resumed after 10 s: ws://host"
    assert "trying again (0 s)" in lines[1]


COMMANDS = {"stream": ("--fps", "4", "--no-query"), "caption": ("--fps", "8")}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_commands_report_a_server_that_never_returns(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mmduet.client.session.MIN_RECONNECT_SECONDS", 1.5)
    video = write_video(tmp_path / "clip.mp4", 20.0 if name == "stream" else 60.0)
    with ThreadPoolExecutor(1) as background, ExitStack() as stack:
        served = stack.enter_context(
            run_test_server(load_model("random:tiny"), journal=tmp_path / "journal", time_to_live=1.0)
        )

        def stop_server() -> None:
            wait_for(lambda: any(session.conversation.frame_counts["scored"] for session in served.manager.sessions))
            stack.close()

        stopping = background.submit(stop_server)
        mmduet = in_process(monkeypatch, capsys)
        done = mmduet(name, video, "--server", f"127.0.0.1:{served.port}", "--quiet", *COMMANDS[name])
        stopping.result()
    assert done.status == 10
    *lost, error = [line for line in done.err.splitlines() if "connection" in line]
    assert lost
    assert all("warning[connection_lost]: connection lost, trying again (" in line for line in lost)
    assert error.startswith("error[connection_lost]: connection to ws://127.0.0.1:")
    assert "gave up after" in error
