"""A server that dies: with a journal its sessions go on with the next one, as if nothing had happened."""

from __future__ import annotations

import errno
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from duet_rig import picture
from served import Served, Talk, serving, wait_for

from mmduet.client import RemoteStream
from mmduet.errors import ConnectionLostError, OptionError
from mmduet.events import Frame, Query, QueryRead, Reply, Scores
from mmduet.model import load_model


def resumed(served: Served, created: dict[str, Any], last: str) -> tuple[Talk, dict[str, Any]]:
    talk = served.talk(resume=True)
    session = created["session"]
    token = session["duet"]["resume_token"]
    talk.send("session.resume", session_id=session["id"], resume_token=token, last_event_id=last)
    return talk, session


def told_until_resumed(talk: Talk) -> list[dict[str, Any]]:
    return talk.until("session.resumed")


def steady(events: list[dict[str, Any]]) -> list[Any]:
    """What a client is told, without what depends on clocks and sockets."""
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
def test_it_goes_on_as_if_nothing_had_happened(tmp_path: Path, keep_replies: bool) -> None:
    """A copy of the journal at some moment is what a server that is killed at that moment leaves behind."""
    nano = load_model("nano")  # its words can be read again: a random model's bytes are no text
    settings = {"fps": None, "window": 8, "speak": {"policy": "never"}, "keep_replies": keep_replies}

    def begin(talk: Talk) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        created, told = talk.next(), []
        talk.update(settings, max_output_tokens=6)
        talk.ask("What do you see?")
        talk.frames(3)
        talk.send("response.create")
        talk.frames(1)
        while sum(event["type"] == "input_frame.scored" for event in told) < 4:
            told.append(talk.next())
        return created, told

    with serving(nano) as served, served.talk() as talk:
        _, first = begin(talk)
        talk.frames(3)
        talk.send("response.create")
        whole = steady([*first, *talk.end()])
    with serving(nano, journal=tmp_path / "one") as served, served.talk() as talk:
        created, first = begin(talk)
        shutil.copytree(tmp_path / "one", tmp_path / "two")
    with serving(nano, journal=tmp_path / "two") as served:
        talk, _ = resumed(served, created, first[-1]["event_id"])
        with talk:
            missed = told_until_resumed(talk)
            assert missed[-1]["last_consumed_client_message_index"] == 6
            talk.seq = 4
            talk.frames(3)
            talk.send("response.create")
            rest = talk.end()
    numbers = [event["event_id"] for event in (*first, *missed, *rest)]
    assert numbers == sorted(set(numbers))
    assert steady([*first, *missed, *rest]) == whole
    assert rest[-1]["frames"] == {"received": 7, "scored": 7}
    assert rest[-1]["reason"] == "ended"
    assert sum(isinstance(item, str) and item != "user" for item in whole) >= 2


def test_what_waited_and_what_was_being_said_is_not_lost(tmp_path: Path) -> None:
    with serving(journal=tmp_path / "one") as served, served.talk() as talk:
        created = talk.next()
        talk.update({"fps": None, "window": 8, "speak": {"policy": "never"}}, max_output_tokens=64)
        talk.frames(2)
        talk.send("response.create")
        talk.next("response.output_text.delta")
        talk.frames(3)
        talk.ask("And now?")
        wait_for(lambda: served.house.sessions[0].conversation.consumed == 8)
        shutil.copytree(tmp_path / "one", tmp_path / "two")
    with serving(journal=tmp_path / "two") as served:
        talk, _ = resumed(served, created, created["event_id"])
        with talk:
            told = [*told_until_resumed(talk), *talk.end()]
    ends = [e["response"] for e in told if e["type"] == "response.done"]
    assert ends[0]["status"] == "cancelled"
    assert ends[0]["status_details"]["reason"] == "server_restarted"
    assert ends[1]["status"] in ("completed", "incomplete")
    cut, whole = (end["output"][0]["content"][0]["text"] for end in ends[:2])
    assert whole.startswith(cut)
    assert [e["seq"] for e in told if e["type"] == "input_frame.scored"] == [0, 1, 2, 3, 4]
    assert [e["item"]["role"] for e in told if e["type"] == "conversation.item.done"].count("user") == 1


def test_a_torn_tail_is_cut_and_its_message_sent_again(tmp_path: Path) -> None:
    with serving(journal=tmp_path / "one") as served, served.talk() as talk:
        created = talk.next()
        talk.update({"fps": None, "speak": {"policy": "never"}})
        talk.frames(3)
        for _ in range(3):
            talk.next("input_frame.scored")
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        talk.frames(1)
        talk.next("input_frame.scored")
        (journal,) = (tmp_path / "one").glob("*.journal")
        (old,) = (tmp_path / "two").glob("*.journal")
        torn = journal.read_bytes()[: old.stat().st_size + 100]
    old.write_bytes(torn)
    with serving(journal=tmp_path / "two") as served:
        talk, _ = resumed(served, created, created["event_id"])
        with talk:
            told = told_until_resumed(talk)
            assert told[-1]["last_consumed_client_message_index"] == 3
            talk.seq = 3
            talk.frames(1)
            told += talk.end()
    assert [e["seq"] for e in told if e["type"] == "input_frame.scored"] == [0, 1, 2, 3]


def test_what_a_journal_takes_is_bounded_and_goes_with_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmduet.server.journal.SMALLEST", 20_000)
    sizes = []
    with serving(journal=tmp_path, max_waiting_frames=8, log_events=64) as served:
        with served.talk() as talk:
            created = talk.next()
            talk.update({"fps": None, "window": 4, "speak": {"policy": "never"}})
            talk.ask("What?")
            for _ in range(60):
                talk.frames(8)
                for _ in range(8):
                    talk.next("input_frame.scored")
                (file,) = tmp_path.glob("*.journal")
                sizes.append(file.stat().st_size)
            shutil.copytree(tmp_path, tmp_path / "copy")
            for _ in range(600):
                talk.send("session.heartbeat")
                talk.next("session.heartbeat_ack")
                sizes.append(file.stat().st_size)
            talk.end()
        wait_for(lambda: not list(tmp_path.glob("*.journal*")))
    assert sum(after < before for before, after in pairwise(sizes)) > 3, "it is begun anew now and then"
    assert max(sizes[30:]) < 1.5 * max(sizes[:30])
    with serving(journal=tmp_path / "copy") as served:
        session = served.house.sessions[0]
        assert session.conversation.state.frames == 480
        talk, _ = resumed(served, created, session.conversation.log.entries[-1].text.split('"')[3])
        with talk:
            talk.next("session.resumed")
            talk.seq = 480
            talk.frames(2)
            assert talk.end()[-1]["frames"] == {"received": 482, "scored": 482}


def test_a_server_that_closes_in_peace_leaves_its_sessions_to_the_next(tmp_path: Path) -> None:
    with serving(journal=tmp_path) as served:
        talk = served.talk()
        created = talk.next()
        talk.frames(2)
        last = [talk.next("input_frame.scored") for _ in range(2)][-1]
    assert list(tmp_path.glob("*.journal"))
    with serving(journal=tmp_path) as served:
        talk, _ = resumed(served, created, last["event_id"])
        with talk:
            told_until_resumed(talk)
            assert talk.end()[-1]["frames"]["scored"] == 2


def test_nobody_else_may_resume_and_nobody_comes_for_ever(tmp_path: Path) -> None:
    with serving(journal=tmp_path / "one", keys="mine,yours") as served:
        mine = {"additional_headers": {"Authorization": "Bearer mine"}}
        with served.talk(**mine) as talk:
            created = talk.next()
            talk.frames(1)
            talk.next("input_frame.scored")
            shutil.copytree(tmp_path / "one", tmp_path / "two")
    with serving(journal=tmp_path / "two", keys="mine,yours", time_to_live=1.5) as served:
        session = created["session"]
        with served.talk(resume=True, additional_headers={"Authorization": "Bearer yours"}) as talk:
            token = session["duet"]["resume_token"]
            talk.send("session.resume", session_id=session["id"], resume_token=token)
            assert talk.next()["type"] == "session.expired"
        wait_for(lambda: not list((tmp_path / "two").glob("*.journal")))


def test_a_journal_that_cannot_be_read_or_written_is_no_reason_not_to_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sess_x.0.journal").write_bytes(b"nonsense")
    with serving(journal=tmp_path) as served:
        assert "cannot be read" in caplog.text
        assert [path.name for path in tmp_path.glob("sess*")] == ["sess_x.0.unreadable"]
        with served.talk() as talk:
            talk.next()
            monkeypatch.setattr("mmduet.server.journal.os.write", lambda *_: 0)
            talk.frames(2)
            assert talk.end()[-1]["frames"]["scored"] == 2
        assert "no longer journaled" in caplog.text
        assert not list(tmp_path.glob("*.journal"))
    monkeypatch.undo()


def test_a_disk_that_refuses_ends_the_journal_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mmduet.server.journal.SMALLEST", 4000)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "read-only file system")

    with serving(journal=tmp_path) as served, served.talk() as talk:
        talk.next()
        talk.update({"fps": None, "speak": {"policy": "never"}})
        talk.frames(2)
        monkeypatch.setattr("mmduet.server.journal.os.open", refuse)  # when it would be begun anew
        monkeypatch.setattr("mmduet.server.journal.Path.unlink", refuse)
        talk.frames(20)
        assert talk.end()[-1]["frames"]["scored"] == 22
        assert "no longer journaled" in caplog.text
        assert "cannot be removed" in caplog.text
        wait_for(lambda: not served.house.sessions)
        with served.talk() as another:  # the others go on, and the sweep with them
            another.next()
            another.frames(2)
            assert another.end()[-1]["frames"]["scored"] == 2


def test_last_words_can_be_heard_after_a_crash(tmp_path: Path) -> None:
    with serving(journal=tmp_path / "one") as served, served.talk() as talk:
        created = talk.next()
        talk.frames(2)
        for _ in range(2):
            last = talk.next("input_frame.scored")
        talk.send("input_frame.end")
        wait_for(lambda: not served.house.sessions)
        shutil.copytree(tmp_path / "one", tmp_path / "two")
    with serving(journal=tmp_path / "two") as served:
        wait_for(lambda: not served.house.sessions)
        talk, _ = resumed(served, created, last["event_id"])
        with talk:
            told = talk.until("session.closed")
        assert (told[-1]["reason"], told[-1]["frames"]) == ("ended", {"received": 2, "scored": 2})
        wait_for(lambda: not list((tmp_path / "two").glob("*.journal")))


def test_a_session_that_there_is_no_room_for_is_left_for_another_start(tmp_path: Path) -> None:
    with serving(journal=tmp_path) as served:
        talks = [served.talk() for _ in range(2)]
        for talk in talks:
            talk.next()
            talk.frames(1)
            talk.next("input_frame.scored")
    for _ in range(2):
        with serving(journal=tmp_path, max_sessions=1) as served:
            assert served.house.running == 1
        assert len(list(tmp_path.glob("*.journal"))) == 2
    with serving(journal=tmp_path) as served:
        assert served.house.running == 2


def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    with serving(journal=tmp_path), pytest.raises(OptionError, match="in use"), serving(journal=tmp_path):
        pass


# killed for real


@contextmanager
def server(folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "mmduet", "serve", "--model", "random:tiny", "--port", str(port)]
    process = subprocess.Popen([*command, "--journal", str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "serves" in process.stdout.readline()
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def watched(port: int, killed: Any = None) -> list[Any]:
    """What a client of ours gets that sends twelve frames and two questions, while ``killed`` happens in the middle."""
    with RemoteStream(f"127.0.0.1:{port}", encoding="png", patient=True, give_up=60) as stream:
        stream.update(
            duet={"fps": None, "window": 16, "speak": {"policy": "threshold", "value": 0.4}}, max_output_tokens=6
        )
        stream.push(Query("What?"))
        for index in range(12):
            stream.push(Frame(index, index / 2, picture(index)))
            if index == 6:
                time.sleep(0.5)
                if killed is not None:
                    killed()
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


def test_killed_and_started_anew_it_loses_no_turn_and_tells_none_twice(tmp_path: Path) -> None:
    port = free_port()
    running: list[Any] = []

    def start() -> None:
        running.append(server(tmp_path / "journal", port))
        running.append(running[-1].__enter__())

    def kill() -> None:
        running[-1].send_signal(signal.SIGKILL)
        running[-1].wait()
        threading.Thread(target=start).start()

    start()
    try:
        uninterrupted = watched(port)
        interrupted = watched(port, kill)
    finally:
        for process in running[1::2]:
            process.kill()
            process.wait()
    assert interrupted == uninterrupted
    assert any(isinstance(item, str) and item not in ("What?", "And?") for item in interrupted), "it spoke"


def test_without_a_journal_the_client_is_told_that_it_is_over(tmp_path: Path) -> None:
    with serving() as served, RemoteStream(f"127.0.0.1:{served.port}", give_up=2) as stream:
        stream.push(Frame(0, 0.0, picture(0)))
        served.house.sessions[0].suspend()
        served.server.should_exit = True
        with pytest.raises(ConnectionLostError):
            for _ in stream.outputs():
                pass
