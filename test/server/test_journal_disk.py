"""A journal on a full, failing or slow disk: streams go on, a warning is sent, and journaling continues afterwards."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from live_server import RunningServer, SocketClient, run_test_server, wait_for

from mmduet.protocol.session.journal import JournalWriter, SessionOpened, read_records
from mmduet.protocol.session.recovery import recover
from mmduet.server import journal, journal_file
from mmduet.server.journal_file import JournalFile


class Disk:
    """The disk of the journal's thread: writes fail with ``error``, and wait while ``answers`` is clear."""

    def __init__(self) -> None:
        self.error: int | None = None
        self.is_waiting = False
        self.answers = threading.Event()
        self.answers.set()
        self._write: Callable[[int, bytes], int] = os.write

    def write(self, file: int, data: bytes) -> int:
        """Replace ``os.write``."""
        if threading.current_thread().name.startswith("mmduet-journal"):
            self.is_waiting = not self.answers.is_set()
            assert self.answers.wait(30)
            if self.error is not None:
                raise OSError(self.error, os.strerror(self.error))
        return self._write(file, data)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    monkeypatch.setattr(os, "write", disk.write)
    monkeypatch.setattr(journal_file, "RETRY_SECONDS", 0.05)
    yield disk
    disk.answers.set()


def metric(server: RunningServer, name: str) -> float:
    """Return the value of a metric."""
    with urlopen(f"{server.http}/metrics") as page:
        (line,) = [line for line in page.read().decode().splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


def journal_failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the reasons of all lines ``journal_failed`` in the log."""
    return [getattr(line, "detail", "") for line in caplog.records if getattr(line, "event", "") == "journal_failed"]


def score_frames(client: SocketClient, count: int) -> dict[str, object]:
    """Send frames and return the event with the score of the last one."""
    client.send_frames(count)
    while (event := client.receive("input_frame.scored"))["seq"] < client.seq - 1:
        pass
    return event


def test_a_session_on_a_full_disk_continues_and_is_journaled_again(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    with run_test_server(journal=tmp_path / "one") as server, server.connect() as client:
        created = client.receive()["session"]
        client.update_session({"fps": None, "speak": {"policy": "never"}})
        score_frames(client, 2)
        assert metric(server, "mmduet:sessions_not_journaled") == 0
        disk.error = errno.ENOSPC
        client.send_frames(1)
        warning = client.receive("session.warning")
        assert (warning["code"], "No space left on device" in warning["message"]) == ("not_journaled", True)
        score_frames(client, 3)
        assert metric(server, "mmduet:sessions_not_journaled") == 1
        assert not list((tmp_path / "one").glob("*.journal")), "an old state must not be restored"

        disk.error = None
        last = score_frames(client, 3)
        wait_for(lambda: score_frames(client, 1) is not last and metric(server, "mmduet:sessions_not_journaled") == 0)
        last = score_frames(client, 1)
        frames = client.seq
        shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert journal_failures(caplog) == ["No space left on device"]
    with run_test_server(journal=tmp_path / "two") as server, server.connect(resume=True) as client:
        token = created["duet"]["resume_token"]
        client.send("session.resume", session_id=created["id"], resume_token=token, last_event_id=last["event_id"])
        assert client.receive()["type"] == "session.resumed"
        client.seq = frames
        score_frames(client, 1)
        assert client.end_stream()[-1]["frames"]["scored"] == frames + 1


def test_an_idle_session_is_journaled_again(tmp_path: Path, disk: Disk) -> None:
    with run_test_server(journal=tmp_path) as server, server.connect() as client:
        client.receive()
        client.update_session({"fps": None, "speak": {"policy": "never"}})
        disk.error = errno.ENOSPC
        score_frames(client, 2)
        assert metric(server, "mmduet:sessions_not_journaled") == 1
        disk.error = None
        wait_for(lambda: metric(server, "mmduet:sessions_not_journaled") == 0)


def test_a_write_that_fails_after_its_session_has_ended_is_not_an_error(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    with run_test_server(journal=tmp_path) as server:
        with server.connect() as client:
            client.receive()
            client.update_session({"fps": None, "speak": {"policy": "never"}})
            score_frames(client, 1)
            disk.answers.clear()
            client.send_frames(1)
            wait_for(lambda: disk.is_waiting)
        wait_for(lambda: not server.manager.registry.ended and not server.manager.active_count)
        disk.error = errno.EIO
        disk.answers.set()
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_a_blocked_disk_delays_events_only_briefly(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal, "MAX_WRITE_SECONDS", 0.2)
    with run_test_server(journal=tmp_path) as server, server.connect() as client:
        client.receive()
        client.update_session({"fps": None, "speak": {"policy": "never"}})
        score_frames(client, 1)
        disk.answers.clear()
        client.send_frames(1)
        assert client.receive("session.warning")["code"] == "not_journaled"
        score_frames(client, 4)
        assert metric(server, "mmduet:sessions_not_journaled") == 1
        assert journal_failures(caplog) == ["a write takes longer than 0.2 s"]
        disk.answers.set()
        wait_for(lambda: metric(server, "mmduet:sessions_not_journaled") == 0)
        score_frames(client, 1)
        (file,) = tmp_path.glob("*.journal")
        state = recover(read_records(file.read_bytes())).state
        assert state is not None
        assert state.frames == client.seq
        assert client.end_stream()[-1]["frames"]["scored"] == client.seq


def test_records_that_wait_for_a_blocked_disk_are_limited(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal, "MAX_WRITE_SECONDS", 0.2)
    monkeypatch.setattr(journal, "MAX_WAITING_BYTES", 1000)
    with run_test_server(journal=tmp_path) as server, server.connect() as client:
        client.receive()
        client.update_session({"fps": None, "speak": {"policy": "never"}})
        score_frames(client, 1)
        disk.answers.clear()
        score_frames(client, 4)
        wait_for(lambda: "the disk does not answer" in caplog.text)
        disk.answers.set()
        wait_for(lambda: not list(tmp_path.glob("*.journal")))
        score_frames(client, 2)
        assert metric(server, "mmduet:sessions_not_journaled") == 1
        assert client.end_stream()[-1]["frames"]["scored"] == client.seq


def test_content_is_kept_until_the_disk_accepts_it(tmp_path: Path, disk: Disk) -> None:
    now = 0.0
    path = tmp_path / "sess_1.journal"
    file = JournalFile(path, 1 << 20, lambda: now)
    writer = JournalWriter(SessionOpened("sess_1", "token", "owner", "nano"))
    writer.write_session()
    threading.current_thread().name, name = "mmduet-journal", threading.current_thread().name
    try:
        file.append(writer.take_batch(), 0)
        disk.error = errno.EIO
        for number in (1, 2):
            writer.frame_dropped(number)
            with pytest.raises(OSError, match="Input/output error"):
                file.append(writer.take_batch(), 0)
        assert not path.exists()
        disk.error = None
        writer.frame_dropped(3)
        with pytest.raises(OSError, match="Input/output error"):
            file.append(writer.take_batch(), 0)  # the next attempt is due later
        now = 10.0
        writer.frame_dropped(4)
        file.append(writer.take_batch(), 0)
    finally:
        threading.current_thread().name = name
    assert [record.number for record in read_records(path.read_bytes()) if record.kind == "D"] == [1, 2, 3, 4]
