"""Malformed inputs have their expected outcomes at the command line and at a server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from command_line import Command, in_process
from live_server import RunningServer, run_test_server
from make_corpus import CASES, FILES, Case, write

from mmduet.model import load_model
from mmduet.model.checkpoint import save_checkpoint

MAX_BYTES = 300 * 1024


def of_kind(kind: str) -> list[Any]:
    return [pytest.param(case, id=case.name) for case in CASES if case.kind == kind]


def path_of(case: Case) -> Path:
    return FILES / case.kind / case.name


@pytest.fixture
def mmduet_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(monkeypatch, capsys)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with run_test_server() as server:
        yield server


def test_the_script_writes_the_corpus(tmp_path: Path) -> None:
    write(tmp_path)
    written = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.*")}
    stored = {path.relative_to(FILES): path.read_bytes() for path in FILES.rglob("*.*")}
    assert written.keys() == stored.keys()
    assert [str(name) for name in written if written[name] != stored[name]] == []
    assert sum(map(len, stored.values())) < MAX_BYTES


def check_outcome(outcome: str, status: int, err: str) -> None:
    assert "Traceback" not in err
    if outcome == "plays":
        assert status == 0, err
    else:
        assert status != 0
        assert f"error[{outcome}]: " in err


@pytest.mark.parametrize("case", of_kind("video"))
def test_videos(case: Case, mmduet_command: Command) -> None:
    done = mmduet_command("highlight", path_of(case), "--model", "random:tiny")
    check_outcome(case.outcome, done.status, done.err)


@pytest.mark.parametrize("case", of_kind("body"))
def test_bodies(case: Case, server: RunningServer) -> None:
    content, headers = path_of(case).read_bytes(), {"Content-Type": "application/json"}
    with httpx2.Client(trust_env=False, timeout=20) as client:
        answer = client.post(f"{server.http}/v1/chat/completions", content=content, headers=headers)
    error = answer.json()["error"]
    assert 400 <= answer.status_code < 500
    assert (error["code"], bool(error["message"])) == (case.outcome, True)


@pytest.mark.parametrize("case", of_kind("message"))
def test_messages(case: Case, server: RunningServer) -> None:
    content = path_of(case).read_bytes()
    with server.connect() as client:
        client.receive("session.created")
        client.ws.send(content if case.name.endswith(".bin") else content.decode())
        assert client.receive("error")["error"]["code"] == case.outcome
        client.send_frames(1)
        assert client.receive("input_frame.scored")["seq"] == 0  # the session continues


@pytest.mark.parametrize("case", of_kind("checkpoint"))
def test_checkpoints(case: Case, mmduet_command: Command, tmp_path: Path) -> None:
    tiny = load_model("random:tiny")
    folder = save_checkpoint(tmp_path / "model", tiny.network, tiny.tokenizer)
    shutil.copyfile(path_of(case), folder / "mmduet.json")
    done = mmduet_command("run", FILES / "video/intact.mp4", "--model", folder)
    check_outcome(case.outcome, done.status, done.err)


@pytest.mark.parametrize("case", of_kind("settings"))
def test_settings(case: Case, mmduet_command: Command) -> None:
    done = mmduet_command("serve", "--config", path_of(case))
    check_outcome(case.outcome, done.status, done.err)
