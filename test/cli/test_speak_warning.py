"""Speak policies for which the scores do not matter: one line on stderr says so."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest
from command_line import MODEL, Command
from live_server import run_test_server

from mmduet.options import SpeakOptions
from mmduet.pipelines.pipeline import pipeline

BOTH = ("informative", "relevance")


@pytest.mark.parametrize(
    ("speak", "frames", "reason"),
    [
        (SpeakOptions("threshold", 1.0), None, "never lets the model speak"),
        (SpeakOptions("threshold", 0.99), None, None),
        (SpeakOptions("threshold", 1.5, BOTH), None, None),
        (SpeakOptions("threshold", 2.0, BOTH), None, "the 2 scores of a frame cannot be above 2"),
        (SpeakOptions("threshold", float("inf")), None, "never"),
        (SpeakOptions("threshold", 0.0), None, "after every frame"),
        (SpeakOptions("sum", 0.0), None, "after every frame"),
        (SpeakOptions("sum", 0.0, min_interval=2.0), None, None),
        (SpeakOptions("sum", 12.0), 12, "the informative score of all 12 frames cannot be above 12"),
        (SpeakOptions("sum", 12.0, BOTH), 12, None),
        (SpeakOptions("sum", 12.0), None, None),
        (SpeakOptions("sum", float("inf")), None, "never"),
        (SpeakOptions("never"), None, None),
    ],
)
def test_policies_that_ignore_the_scores_are_found(speak: SpeakOptions, frames: int | None, reason: str | None) -> None:
    found = speak.find_extreme(frames)
    assert found is None if reason is None else reason in (found or "")


@pytest.mark.parametrize("policy", ["threshold:2", "sum:12"])  # of 3 s at 4 fps
def test_run_and_tasks_warn_once(policy: str, mmduet: Command, video: Path) -> None:
    arguments = (*MODEL, "--fps", "4", "--speak", policy)
    for command in (("run", video), ("caption", video), ("ask", video, "--query", "What?")):
        done = mmduet(*command, *arguments)
        assert done.status == 0
        assert done.err.count(f"warning[speak_policy]: the speak policy {policy} never lets the model speak") == 1
        assert mmduet(*command, *arguments, "--quiet").err == done.err.splitlines()[0] + "\n"


def test_results_and_sessions_of_the_api_have_the_warning(mmduet: Command, video: Path) -> None:
    speak = {"policy": "threshold", "value": 1.0}
    with run_test_server(pull_roots=str(video.parent)) as server:
        run = pipeline("caption", model="random:tiny", fps=4, speak="threshold:1")
        remote = pipeline("caption", server=f"127.0.0.1:{server.port}", fps=4, speak="threshold:1")
        for results in (run([video]), remote([video])):
            ((warning,),) = [result.warnings for result in results]
            assert warning.code == "speak_policy"
            assert "never lets the model speak" in warning.message
        with server.connect() as client:
            client.send("session.update", session={"type": "realtime", "duet": {"speak": speak}})
            client.send("session.update", session={"type": "realtime", "duet": {"speak": {"value": 2.0}}})
            client.send("input_frame.end")
            events = client.receive_until("session.closed")
        assert [event["code"] for event in events if event["type"] == "session.warning"] == ["speak_policy"]
        body = {"source": video.name, "session": {"type": "realtime", "duet": {"speak": speak}}}
        created = httpx2.post(f"{server.http}/v1/sessions", json=body)
        assert "event: session.warning" in httpx2.get(f"{server.http}{created.headers['Location']}/events").text
        done = mmduet(
            "stream", video, "--server", f"127.0.0.1:{server.port}", "--fast", "--fps", "4", "--speak", "threshold:1"
        )
        assert done.err.count("warning[speak_policy]") == 1
        done = mmduet("caption", video, "--server", f"127.0.0.1:{server.port}", "--fps", "4", "--speak", "threshold:1")
        assert done.err.count("warning[speak_policy]") == 1


def test_predict_warns(mmduet: Command, video: Path, tmp_path: Path) -> None:
    question = {"question_id": "q", "video": video.name, "answer": [], "conversation": []}
    (tmp_path / "test.json").write_text(json.dumps([question]))
    files = ("--annotations", tmp_path / "test.json", "--videos", video.parent, "--output", tmp_path / "p.jsonl")
    done = mmduet("predict", *files, *MODEL, "--fps", "2", "--speak", "threshold:1")
    assert "warning[speak_policy]: the speak policy threshold:1 never lets the model speak" in done.err
