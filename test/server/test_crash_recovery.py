"""Crash recovery: with a journal, sessions continue on the next server as if the first had not been killed."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from captured_logs import unredacted
from command_line import write_video
from duet_rig import picture
from killed_server import free_port, kill_server_process, start_server_process
from live_server import RunningServer, SocketClient, jpeg, run_test_server, wait_for

from mmduet.client import RemoteStream
from mmduet.errors import ConnectionLostError, OptionError
from mmduet.events import Frame, Query, QueryRead, Reply, Scores
from mmduet.model import load_model
from mmduet.protocol.frames import EncodedImage, ImageFormat, pack_frame
from mmduet.protocol.session.journal import read_records
from mmduet.protocol.session.recovery import recover


def resume(server: RunningServer, created: dict[str, Any], last_event_id: str) -> SocketClient:
    """Return a client that has asked to resume the session."""
    client = server.connect(resume=True)
    session = created["session"]
    token = session["duet"]["resume_token"]
    client.send("session.resume", session_id=session["id"], resume_token=token, last_event_id=last_event_id)
    return client


def deterministic_parts(events: list[dict[str, Any]]) -> list[Any]:
    """Return scores, texts and turns, without anything that depends on clocks or sockets."""
    kept = []
    for event in events:
        if event["type"] == "input_frame.scored":
            kept.append((event["seq"], round(event["informative"], 4), event["decision"]))
        elif event["type"] == "response.output_text.done":
            kept.append(event["text"])
        elif event["type"] == "conversation.item.done":
            kept.append(event["item"]["role"])
    return kept


@pytest.mark.parametrize("keep_replies", [False, True])
def test_resumed_session_equals_uninterrupted_session(tmp_path: Path, keep_replies: bool) -> None:
    """A copy of the journal at some moment equals what a server that is killed at that moment leaves behind."""
    nano = load_model("nano")  # its replies can be tokenized again, unlike a random model's bytes
    settings = {"fps": None, "window": 8, "speak": {"policy": "never"}, "keep_replies": keep_replies}

    def begin(client: SocketClient) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        created, events = client.receive(), []
        assert created["type"] == "session.created"
        client.update_session(settings, max_output_tokens=6)
        client.send_text("What do you see?")
        client.send_frames(3)
        client.send("response.create")
        client.send_frames(1)
        while sum(event["type"] == "input_frame.scored" for event in events) < 4:
            events.append(client.receive())
        return created, events

    with run_test_server(nano) as server, server.connect() as client:
        _, first = begin(client)
        client.send_frames(3)
        client.send("response.create")
        uninterrupted = deterministic_parts([*first, *client.end_stream()])
    with run_test_server(nano, journal=tmp_path / "one") as server, server.connect() as client:
        created, first = begin(client)
        shutil.copytree(tmp_path / "one", tmp_path / "two")
    with run_test_server(nano, journal=tmp_path / "two") as server:
        client = resume(server, created, first[-1]["event_id"])
        with client:
            missed = client.receive_until("session.resumed")
            assert missed[-1]["last_consumed_client_message_index"] == 6
            client.seq = 4
            client.send_frames(3)
            client.send("response.create")
            rest = client.end_stream()
    numbers = [event["event_id"] for event in (*first, *missed, *rest)]
    assert numbers == sorted(set(numbers))
    assert deterministic_parts([*first, *missed, *rest]) == uninterrupted
    assert rest[-1]["frames"] == {"received": 7, "scored": 7}
    assert rest[-1]["reason"] == "ended"
    assert sum(isinstance(item, str) and item != "user" for item in uninterrupted) >= 2


def test_queued_input_and_interrupted_reply_survive_a_crash(tmp_path: Path) -> None:
    with run_test_server(journal=tmp_path / "one") as server, server.connect() as client:
        created = client.receive()
        client.update_session({"fps": None, "window": 8, "speak": {"policy": "never"}}, max_output_tokens=64)
        client.send_frames(2)
        client.send("response.create")
        client.receive("response.output_text.delta")
        client.send_frames(3)
        client.send_text("And now?")
        client.receive("conversation.item.added")  # sent once the journal has everything before it
        shutil.copytree(tmp_path / "one", tmp_path / "two")
    with run_test_server(journal=tmp_path / "two") as server:
        client = resume(server, created, created["event_id"])
        with client:
            events = [*client.receive_until("session.resumed"), *client.end_stream()]
    ends = [e["response"] for e in events if e["type"] == "response.done"]
    assert ends[0]["status"] == "cancelled"
    assert ends[0]["status_details"]["reason"] == "server_restarted"
    assert ends[1]["status"] in ("completed", "incomplete")
    cut, whole = (end["output"][0]["content"][0]["text"] for end in ends[:2])
    assert whole.startswith(cut)
    assert [e["seq"] for e in events if e["type"] == "input_frame.scored"] == [0, 1, 2, 3, 4]
    assert [e["item"]["role"] for e in events if e["type"] == "conversation.item.done"].count("user") == 1


def test_incomplete_last_record_is_cut_and_its_message_resent(tmp_path: Path) -> None:
    with run_test_server(journal=tmp_path / "one") as server, server.connect() as client:
        created = client.receive()
        client.update_session({"fps": None, "speak": {"policy": "never"}})
        client.send_frames(3)
        for _ in range(3):
            client.receive("input_frame.scored")
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        client.send_frames(1)
        client.receive("input_frame.scored")
        (journal,) = (tmp_path / "one").glob("*.journal")
        (old,) = (tmp_path / "two").glob("*.journal")
        torn = journal.read_bytes()[: old.stat().st_size + 100]
    old.write_bytes(torn)
    with run_test_server(journal=tmp_path / "two") as server:
        client = resume(server, created, created["event_id"])
        with client:
            events = client.receive_until("session.resumed")
            assert events[-1]["last_consumed_client_message_index"] == 3
            client.seq = 3
            client.send_frames(1)
            events += client.end_stream()
    assert [e["seq"] for e in events if e["type"] == "input_frame.scored"] == [0, 1, 2, 3]


def test_journal_size_is_bounded_and_file_is_deleted_with_its_session(tmp_path: Path) -> None:
    sizes = []
    with run_test_server(journal=tmp_path, min_compaction_bytes=20_000, max_waiting_frames=8, log_events=64) as server:
        with server.connect() as client:
            created = client.receive()
            client.update_session({"fps": None, "window": 4, "speak": {"policy": "never"}})
            client.send_text("What?")
            for _ in range(40):
                client.send_frames(8)
                for _ in range(8):
                    client.receive("input_frame.scored")
                (file,) = tmp_path.glob("*.journal")
                sizes.append(file.stat().st_size)
            shutil.copytree(tmp_path, tmp_path / "copy")
            for _ in range(400):
                client.send("session.heartbeat")
                client.receive("session.heartbeat_ack")
                sizes.append(file.stat().st_size)
            client.end_stream()
        wait_for(lambda: not list(tmp_path.glob("*.journal*")))
    assert sum(after < before for before, after in pairwise(sizes)) > 3, "the file is compacted several times"
    assert max(sizes[25:]) < 1.5 * max(sizes[:25])
    with run_test_server(journal=tmp_path / "copy") as server:
        session = server.manager.sessions[0]
        assert session.conversation.state.frames == 320
        client = resume(server, created, session.conversation.log.entries[-1].text.split('"')[3])
        with client:
            client.receive("session.resumed")
            client.seq = 320
            client.send_frames(2)
            assert client.end_stream()[-1]["frames"] == {"received": 322, "scored": 322}


def test_clean_shutdown_leaves_sessions_to_the_next_server(tmp_path: Path) -> None:
    with run_test_server(journal=tmp_path) as server:
        client = server.connect()
        created = client.receive()
        client.send_frames(2)
        last = [client.receive("input_frame.scored") for _ in range(2)][-1]
    assert list(tmp_path.glob("*.journal"))
    with run_test_server(journal=tmp_path) as server:
        client = resume(server, created, last["event_id"])
        with client:
            client.receive_until("session.resumed")
            assert client.end_stream()[-1]["frames"]["scored"] == 2


def send_same_frame(client: SocketClient, count: int) -> list[dict[str, Any]]:
    """Send one image ``count`` times; return every event until the last one is scored."""
    events = []
    for _ in range(count):
        client.ws.send(pack_frame(client.seq, client.seq * 500_000, EncodedImage(ImageFormat.JPEG, jpeg(0))))
        client.seq += 1
        events += client.receive_until("input_frame.scored")
    return events


@pytest.mark.parametrize(
    "speak",
    [
        {"policy": "threshold", "value": 0.0, "min_interval": 0.0, "repeat_window": 1000.0},
        {"policy": "threshold", "value": 0.0, "min_interval": 1000.0, "repeat_window": 0.0},
    ],
)
def test_policy_remembers_replies_after_a_restart(speak: dict[str, Any], tmp_path: Path) -> None:
    nano = load_model("nano")
    with run_test_server(nano, journal=tmp_path) as server:
        client = server.connect()
        created = client.receive()
        client.update_session({"fps": None, "window": 8, "speak": speak}, max_output_tokens=1)
        client.send_text("What do you see?")
        events = send_same_frame(client, 6)
    with run_test_server(nano, journal=tmp_path) as server:
        resumed = resume(server, created, events[-1]["event_id"])
        with resumed:
            resumed.receive_until("session.resumed")
            resumed.seq = client.seq
            later = [*send_same_frame(resumed, 3), *resumed.end_stream()]
    before = [event["text"] for event in events if event["type"] == "response.output_text.done"]
    after = [event["text"] for event in later if event["type"] == "response.output_text.done"]
    assert 1 <= len(before) < 6
    assert after == [], f"the policy allows no reply after {before}"
    assert later[-1]["frames"] == {"received": 9, "scored": 9}


def test_restored_session_needs_its_key_and_expires(tmp_path: Path) -> None:
    with run_test_server(journal=tmp_path / "one", keys="mine,yours") as server:
        mine = {"additional_headers": {"Authorization": "Bearer mine"}}
        with server.connect(**mine) as client:
            created = client.receive()
            client.send_frames(1)
            client.receive("input_frame.scored")
            shutil.copytree(tmp_path / "one", tmp_path / "two")
    with run_test_server(journal=tmp_path / "two", keys="mine,yours", time_to_live=0.6) as server:
        session = created["session"]
        with server.connect(resume=True, additional_headers={"Authorization": "Bearer yours"}) as client:
            token = session["duet"]["resume_token"]
            client.send("session.resume", session_id=session["id"], resume_token=token)
            assert client.receive()["type"] == "session.expired"
        wait_for(lambda: not list((tmp_path / "two").glob("*.journal")))


def test_unreadable_or_unwritable_journal_does_not_stop_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sess_x.0.journal").write_bytes(b"nonsense")
    hidden = tmp_path / "._sess_x.0.journal"
    hidden.write_bytes(b"written by macOS")
    with run_test_server(journal=tmp_path) as server:
        assert "cannot be read" in caplog.text
        assert [path.name for path in tmp_path.glob("sess*")] == ["sess_x.0.unreadable"]
        assert str(hidden) not in unredacted(caplog)
        hidden.unlink()
        with server.connect() as client:
            client.receive()
            monkeypatch.setattr(os, "write", lambda *_: 0)
            client.send_frames(2)
            assert client.end_stream()[-1]["frames"]["scored"] == 2
        assert "No space left on device" in [getattr(line, "detail", None) for line in caplog.records]
        assert not list(tmp_path.glob("*.journal"))
    monkeypatch.undo()


def test_a_journal_that_cannot_be_compacted_stays_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "read-only file system")

    with run_test_server(journal=tmp_path, min_compaction_bytes=4000) as server, server.connect() as client:
        client.receive()
        client.update_session({"fps": None, "speak": {"policy": "never"}})
        client.send_frames(2)
        monkeypatch.setattr(os, "open", fail)  # fails when the file is compacted
        monkeypatch.setattr(Path, "unlink", fail)
        client.send_frames(20)
        for _ in range(22):
            client.receive("input_frame.scored")
        assert "cannot be compacted" in caplog.text
        (file,) = tmp_path.glob("*.journal")
        known = recover(read_records(file.read_bytes()))
        assert known.state is not None
        assert known.state.frames == 22
        client.end_stream()
        wait_for(lambda: not server.manager.sessions)
        wait_for(lambda: "cannot be deleted" in caplog.text)
        with server.connect() as another:  # other sessions and the expiry task continue
            another.receive()
            another.send_frames(2)
            assert another.end_stream()[-1]["frames"]["scored"] == 2


def test_last_events_can_be_read_after_a_crash(tmp_path: Path) -> None:
    with run_test_server(journal=tmp_path / "one") as server, server.connect() as client:
        created = client.receive()
        client.send_frames(2)
        for _ in range(2):
            last = client.receive("input_frame.scored")
        client.send("input_frame.end")
        wait_for(lambda: not server.manager.sessions)
        shutil.copytree(tmp_path / "one", tmp_path / "two")
    with run_test_server(journal=tmp_path / "two") as server:
        wait_for(lambda: not server.manager.sessions)
        client = resume(server, created, last["event_id"])
        with client:
            events = client.receive_until("session.closed")
        assert (events[-1]["reason"], events[-1]["frames"]) == ("ended", {"received": 2, "scored": 2})
        wait_for(lambda: not list((tmp_path / "two").glob("*.journal")))


def test_session_without_free_memory_stays_for_another_start(tmp_path: Path) -> None:
    with run_test_server(journal=tmp_path) as server:
        talks = [server.connect() for _ in range(2)]
        for client in talks:
            client.receive()
            client.send_frames(1)
            client.receive("input_frame.scored")
    for _ in range(2):
        with run_test_server(journal=tmp_path, max_sessions=1) as server:
            assert server.manager.active_count == 1
        assert len(list(tmp_path.glob("*.journal"))) == 2
    with run_test_server(journal=tmp_path) as server:
        assert server.manager.active_count == 2


def test_two_servers_cannot_share_a_journal_folder(tmp_path: Path) -> None:
    with (
        run_test_server(journal=tmp_path),
        pytest.raises(OptionError, match="in use"),
        run_test_server(journal=tmp_path),
    ):
        pass


# Killed processes


def stream_outputs(port: int, interrupt: Callable[[], None] = lambda: None) -> list[Any]:
    """Stream twelve frames and two queries, call ``interrupt`` in the middle, and return scores, replies and turns."""
    with RemoteStream(f"127.0.0.1:{port}", encoding="png", block_when_behind=True, max_reconnect_seconds=60) as stream:
        stream.update(
            duet={"fps": None, "window": 16, "speak": {"policy": "threshold", "value": 0.4}}, max_output_tokens=6
        )
        stream.push(Query("What?"))
        for index in range(12):
            stream.push(Frame(index, index / 2, picture(index)))
            if index == 6:
                time.sleep(0.3)  # some frames are scored and some are not
                interrupt()
                stream.push(Query("And?"))
        stream.end()
        kept: list[Any] = []
        for output in stream.outputs():
            if isinstance(output, Scores):
                kept.append((output.frame, round(output.informative, 4), output.speak))
            elif isinstance(output, Reply) and output.finish != "cancelled":
                kept.append(output.text)
            elif isinstance(output, QueryRead):
                kept.append(output.query.text)
        return kept


def test_killed_server_loses_no_turn_and_repeats_none_after_restart(binaries: Path, tmp_path: Path) -> None:
    port, journal = free_port(), tmp_path / "journal"
    with run_test_server(load_model("random:tiny")) as server:
        uninterrupted = stream_outputs(server.port)
    with ThreadPoolExecutor(1) as background:
        first = start_server_process(binaries, journal, port)
        second: list[Future[int]] = []

        def kill_and_restart() -> None:
            os.kill(first, signal.SIGKILL)
            second.append(background.submit(start_server_process, binaries, journal, port))

        try:
            interrupted = stream_outputs(port, kill_and_restart)
        finally:
            os.kill(second[0].result() if second else first, signal.SIGKILL)
    assert interrupted == uninterrupted
    assert any(isinstance(item, str) and item not in ("What?", "And?") for item in interrupted), "it has replied"


@pytest.mark.parametrize("name", ["stream", pytest.param("caption", marks=pytest.mark.slow)])
def test_commands_report_a_server_that_is_killed_and_restarted(name: str, binaries: Path, tmp_path: Path) -> None:
    options = ("--fps", "4", "--no-query") if name == "stream" else ("--fps", "8")
    video = write_video(tmp_path / "clip.mp4", 3.0 if name == "stream" else 30.0)  # one is sent in real time
    port, journal = free_port(), tmp_path / "journal"
    with ExitStack() as stack:
        server = start_server_process(binaries, journal, port)
        stack.callback(lambda: kill_server_process(server))
        arguments = [name, str(video), "--server", f"127.0.0.1:{port}", "--quiet", *options]
        command = subprocess.Popen(
            [str(binaries / "mmduet"), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        stack.callback(command.kill)
        wait_for(lambda: sum(path.stat().st_size for path in journal.glob("*.journal")) > 10_000, 30)  # a few frames
        kill_server_process(server)
        server = start_server_process(binaries, journal, port)
        out, err = command.communicate(timeout=60)
    assert command.returncode == 0, err
    lines = [line for line in err.splitlines() if "connection" in line]
    shown = video if name == "caption" else video.name
    assert lines[0].startswith(
        f"{shown}: warning[connection_lost]: connection lost, trying again (0 s): ws://127.0.0.1:{port}/v1/realtime ("
    )
    assert all("warning[connection_lost]: connection lost, trying again (" in line for line in lines[:-1])
    assert "warning[connection_resumed]: connection resumed after " in lines[-1]
    assert "connection" not in out


def test_without_a_journal_the_connection_is_lost(tmp_path: Path) -> None:
    with run_test_server() as server, RemoteStream(f"127.0.0.1:{server.port}", max_reconnect_seconds=1) as stream:
        stream.push(Frame(0, 0.0, picture(0)))
        server.manager.sessions[0].suspend()
        server.uvicorn.should_exit = True
        with pytest.raises(ConnectionLostError):
            for _ in stream.outputs():
                pass
