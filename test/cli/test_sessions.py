"""``mmduet sessions``: the sessions of a real server as a table and as JSON, and its errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Command
from live_server import RunningServer, run_test_server, wait_for

from mmduet.client import SessionsClient

SETTINGS = {"fps": 4, "speak": {"policy": "never"}}


@pytest.fixture(scope="module")
def served(video: Path) -> Iterator[RunningServer]:
    with run_test_server(keys="mine", pull_roots=str(video.parent), time_to_live=60) as server:
        yield server


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMDUET_KEY", "mine")


@pytest.fixture
def session(served: RunningServer, video: Path) -> Iterator[str]:
    with SessionsClient(served.http, key="mine") as client:
        created = client.create(video.name, paused=True, duet=SETTINGS, max_output_tokens=4)
        yield created.id
        client.delete(created.id)


def test_sessions_are_listed_and_shown(mmduet: Command, served: RunningServer, video: Path, session: str) -> None:
    listed = mmduet("sessions", "list", "--server", served.http)
    assert listed.status == 0
    header, row = listed.lines
    assert header.split() == ["session", "state", "source", "scored", "dropped", "newest"]
    assert row.split()[:3] == [session, "paused", video.name]
    shown = mmduet("sessions", "show", session, "--server", served.http)
    assert shown.status == 0
    assert f"source        {video.name}" in shown.lines
    assert "last error    -" in shown.lines


def test_json_has_the_whole_status(mmduet: Command, served: RunningServer, session: str) -> None:
    (listed,) = json.loads(mmduet("sessions", "list", "--server", served.http, "--json").out)
    shown = json.loads(mmduet("sessions", "show", session, "--server", served.http, "--json").out)
    assert (listed["id"], shown["id"]) == (session, session)
    assert (listed["session"]["duet"].pop("resume_token"), bool(shown["session"]["duet"].pop("resume_token"))) == (
        None,
        True,
    )
    assert listed == shown


def test_a_query_is_answered(mmduet: Command, served: RunningServer, session: str) -> None:
    asked = mmduet("sessions", "ask", session, "What is there?", "--now", "--server", served.http, "--json")
    assert asked.status == 0, asked.err
    answer = json.loads(asked.out)
    assert answer["item"]["content"][0]["text"] == "What is there?"
    assert answer["reply"]["number"] == 1
    again = mmduet("sessions", "ask", session, "And now?", "--now", "--server", served.http)
    assert again.status == 0
    shown = json.loads(mmduet("sessions", "show", session, "--server", served.http, "--json").out)
    assert shown["last_reply"]["number"] == 2


def test_a_missing_reply_is_reported(mmduet: Command, served: RunningServer, session: str) -> None:
    asked = mmduet("sessions", "ask", session, "What?", "--wait", "0.1", "--server", served.http)
    assert (asked.status, asked.out) == (1, "")
    assert "no reply within 0.1 s" in asked.err
    assert mmduet("sessions", "ask", session, "What?", "--wait", "0", "--server", served.http).status == 0


def test_a_session_is_closed_repeatedly(mmduet: Command, served: RunningServer, session: str) -> None:
    for _ in range(2):
        closed = mmduet("sessions", "close", session, "--server", served.http)
        assert (closed.status, closed.out) == (0, f"{session} is closed\n")
    wait_for(lambda: not served.manager.sessions)
    assert mmduet("sessions", "list", "--server", served.http).out == "no sessions\n"
    shown = mmduet("sessions", "show", session, "--server", served.http)
    assert shown.status == 10
    assert "error[not_found]" in shown.err


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--key", "wrong"), 10, "error[unauthorized]"),
        (("--server", "127.0.0.1:9"), 10, "is a server running there"),
        (("--server", "ftp://x"), 2, "is not a valid address"),
    ],
)
def test_errors_are_reported(
    mmduet: Command, served: RunningServer, options: tuple[str, ...], status: int, message: str
) -> None:
    done = mmduet("sessions", "list", *(("--server", served.http) if "--server" not in options else ()), *options)
    assert done.status == status
    assert message in done.err
