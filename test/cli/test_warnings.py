"""Warnings about footage that nano does not know: standard error, JSON results, pipelines and sessions at a server."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from command_line import Command, in_process, read_events
from footage import out_of_domain, scene_frames, write_clip
from live_server import RunningServer, run_test_server
from peft import LoraConfig, get_peft_model

import mmduet
from mmduet.model import LoadedModel, load_model

SCENE, FOREIGN = "scene.mp4", "foreign.mp4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one rendered scene and two other clips."""
    folder = tmp_path_factory.mktemp("footage")
    write_clip(folder / SCENE, [image for _, image in scene_frames(2, 5.0)])
    write_clip(folder / FOREIGN, out_of_domain()["photo"]()[:12])
    write_clip(folder / "other.mp4", out_of_domain()["testsrc2"]()[:12])
    return folder


@pytest.fixture(scope="module")
def nano() -> LoadedModel:
    return load_model("nano")


@pytest.fixture(scope="module")
def server(nano: LoadedModel) -> Iterator[RunningServer]:
    with run_test_server(nano) as server:
        yield server


@pytest.fixture
def mmduet_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(monkeypatch, capsys)


def test_run_warns_once_about_other_footage(mmduet_command: Command, folder: Path, tmp_path: Path) -> None:
    done = mmduet_command("run", folder / FOREIGN, "--quiet", "--output", tmp_path / "a.jsonl")
    assert (done.status, done.out) == (0, "")
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith(f"{FOREIGN}: warning[out_of_domain]: nano knows only rendered scenes of coloured shapes")
    (warning,) = [event for event in read_events(tmp_path / "a.jsonl") if event["type"] == "warning"]
    assert warning["code"] == "out_of_domain"
    assert "Bring your own weights" in warning["message"]


def test_run_does_not_warn_about_scenes(mmduet_command: Command, folder: Path) -> None:
    assert mmduet_command("run", folder / SCENE, "--quiet").err == ""


def test_task_commands_store_warnings_and_print_one_line(mmduet_command: Command, folder: Path, tmp_path: Path) -> None:
    videos = [folder / name for name in (SCENE, FOREIGN, "other.mp4")]
    done = mmduet_command("highlight", *videos, "--output", tmp_path / "a.json")
    assert done.status == 0
    assert done.err.count("warning[out_of_domain]") == len(done.err.splitlines()) == 1
    assert done.err.startswith(f"{folder / FOREIGN}: warning")
    scene, *others = json.loads((tmp_path / "a.json").read_text())["videos"]
    assert scene["warnings"] == []
    for video in others:
        assert [warning["code"] for warning in video["warnings"]] == ["out_of_domain"]


def test_predict_prints_one_warning(mmduet_command: Command, folder: Path, tmp_path: Path) -> None:
    conversation = [{"role": "user", "content": "What happens?", "time": 0.0}]
    questions = [
        {"question_id": k, "video": name, "conversation": conversation} for k, name in enumerate((FOREIGN, "other.mp4"))
    ]
    (tmp_path / "test.json").write_text(json.dumps(questions))
    files = ("--annotations", tmp_path / "test.json", "--videos", folder, "--output", tmp_path / "out.jsonl")
    done = mmduet_command("predict", *files)
    assert done.status == 0, done.err
    assert done.err.count("warning[out_of_domain]") == 1


@pytest.mark.parametrize("where", ["local", "server"])
def test_pipeline_results_have_the_warnings(where: str, nano: LoadedModel, server: RunningServer, folder: Path) -> None:
    target = {"model": nano} if where == "local" else {"server": f"ws://127.0.0.1:{server.port}"}
    scene, foreign = mmduet.pipeline("caption", **target)([folder / SCENE, folder / FOREIGN])  # type: ignore[call-overload]
    assert scene.warnings == ()
    assert [warning.code for warning in foreign.warnings] == ["out_of_domain"]


def test_stream_shows_the_servers_warning(mmduet_command: Command, server: RunningServer, folder: Path) -> None:
    done = mmduet_command("stream", folder / FOREIGN, "--server", f"ws://127.0.0.1:{server.port}", "--quiet")
    assert done.status == 0
    assert done.err.count("warning[out_of_domain]") == len(done.err.splitlines()) == 1


def test_chat_completions_have_the_warnings(server: RunningServer, folder: Path) -> None:
    for name, codes in ((SCENE, []), (FOREIGN, ["out_of_domain"])):
        url = "data:video/mp4;base64," + base64.b64encode((folder / name).read_bytes()).decode()
        content = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": "What happens?"}]
        body = {"model": "nano", "max_tokens": 4, "messages": [{"role": "user", "content": content}]}
        completion = httpx2.post(f"{server.http}/v1/chat/completions", json=body, timeout=60).json()
        assert [warning["code"] for warning in completion["warnings"]] == codes


def test_a_session_is_warned_once_also_across_a_restart(nano: LoadedModel, tmp_path: Path) -> None:
    with run_test_server(nano, journal=tmp_path / "one") as server, server.connect() as client:
        created = client.receive("session.created")["session"]
        client.update_session({"fps": None, "window": 8, "speak": {"policy": "never"}})
        client.send_frames(9)
        warning = client.receive("session.warning")
        assert warning["code"] == "out_of_domain"
        shutil.copytree(tmp_path / "one", tmp_path / "two")  # what a server that is killed now leaves behind
    with run_test_server(nano, journal=tmp_path / "two") as server, server.connect(resume=True) as client:
        client.send(
            "session.resume",
            session_id=created["id"],
            resume_token=created["duet"]["resume_token"],
            last_event_id=warning["event_id"],
        )
        client.receive("session.resumed")
        client.seq = 9
        client.send_frames(12)
        types = [event["type"] for event in client.end_stream()]
    assert types.count("input_frame.scored") >= 12
    assert "session.warning" not in types


def test_a_model_with_an_adapter_and_another_model_are_not_judged(folder: Path, tmp_path: Path) -> None:
    config = LoraConfig(r=2, target_modules=["q_proj"])
    get_peft_model(load_model("nano").network, config).save_pretrained(tmp_path)
    for model in (load_model("nano", adapter=tmp_path), load_model("random:nano")):
        (result,) = mmduet.pipeline("caption", model)(folder / FOREIGN)
        assert result.warnings == ()
