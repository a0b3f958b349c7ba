"""``mmduet predict``: complete lines in MMDuet's format, resumable runs, and reports of every failure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import MODEL, Command, CommandResult, in_process, write_video

from mmduet.annotations.prediction_files import PredictionFile
from mmduet.annotations.test_sets import read_test_set
from mmduet.engine import Engine
from mmduet.errors import OptionError
from mmduet.evaluation.runs.predict import Prediction, PredictionConfig, predict_examples
from mmduet.model import load_model
from mmduet.options import SessionOptions, SpeakOptions


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a.mp4", 3.0)
    (folder / "broken.mp4").write_bytes(b"not a video")
    return folder


def question(question_id: str | int, video: str, *turns: tuple[float, str]) -> dict[str, Any]:
    conversation = [{"role": "user", "content": text, "time": time} for time, text in turns]
    return {"question_id": question_id, "video": video, "conversation": conversation, "answer": []}


def questions_in(folder: Path, *entries: dict[str, Any]) -> Path:
    (folder / "test.json").write_text(json.dumps(entries))
    return folder / "test.json"


@pytest.fixture
def predict(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    command = in_process(monkeypatch, capsys, "predict")

    def run(annotations: Path, *arguments: object) -> CommandResult:
        files = ("--annotations", annotations, "--videos", videos, "--output", tmp_path / "pred.jsonl")
        return command(*files, *MODEL, "--fps", "2", *arguments)

    return run


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "pred.jsonl").read_text().splitlines()]


TALKING = ("--speak", "threshold:0", "--max-new-tokens", "3")


def test_a_prediction_has_the_form_of_mmduet(predict: Command, tmp_path: Path) -> None:
    questions = questions_in(tmp_path, question("q1", "a.mp4", (0.0, "What happens?"), (1.0, "And now?")))
    status, out, _ = predict(questions, *TALKING)
    (line,) = lines(tmp_path)
    assert (status, "1 of 1 questions answered, 0 failed" in out) == (0, True)
    assert line.keys() == {"question_id", "video_duration", "model_response_list", "debug_data", "damage"}
    assert line["damage"] == {"skipped": 0, "spans": [], "truncated_at": None}
    assert line["question_id"] == "q1"
    assert line["video_duration"] == pytest.approx(3.0)
    assert [row["time"] for row in line["debug_data"]] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, 2.5])
    assert all(row.keys() == {"time", "informative_score", "relevance_score"} for row in line["debug_data"])
    turns = line["model_response_list"]
    assert [turn["time"] for turn in turns] == sorted(turn["time"] for turn in turns)
    assert [turn["role"] for turn in turns[:2]] == ["user", "assistant"]
    at_one = [turn["role"] for turn in turns if turn["time"] == 1.0]
    assert at_one == ["user", "assistant"]


def test_a_question_without_queries_gets_replies(predict: Command, tmp_path: Path) -> None:
    assert predict(questions_in(tmp_path, question("q1", "a.mp4")), *TALKING)[0] == 0
    assert {turn["role"] for turn in lines(tmp_path)[0]["model_response_list"]} == {"assistant"}


def test_scores_are_written_if_the_model_never_speaks(predict: Command, tmp_path: Path) -> None:
    assert predict(questions_in(tmp_path, question("q1", "a.mp4", (0.0, "x"))), "--speak", "never")[0] == 0
    assert [turn["role"] for turn in lines(tmp_path)[0]["model_response_list"]] == ["user"]
    assert len(lines(tmp_path)[0]["debug_data"]) == 6


def test_profile_paper_writes_a_query_after_the_last_frame(predict: Command, tmp_path: Path) -> None:
    questions = questions_in(tmp_path, question("q1", "a.mp4", (0.0, "x"), (99.0, "too late")))
    assert predict(questions, "--profile", "paper", "--speak", "never")[0] == 0
    assert [(t["time"], t["content"]) for t in lines(tmp_path)[0]["model_response_list"]] == [
        (0.0, "x"),
        (99.0, "too late"),
    ]


def test_only_profile_paper_rounds_scores(predict: Command, tmp_path: Path) -> None:
    questions = questions_in(tmp_path, question("q1", "a.mp4", (0.0, "x")))
    assert predict(questions, "--speak", "never")[0] == 0
    exact = [row["informative_score"] for row in lines(tmp_path)[0]["debug_data"]]
    assert all(score != round(score, 3) for score in exact)
    for file in tmp_path.glob("pred*"):
        file.unlink()
    assert predict(questions, "--speak", "never", "--profile", "paper")[0] == 0
    rounded = [row["relevance_score"] for row in lines(tmp_path)[0]["debug_data"]]
    assert all(score == round(score, 3) for score in rounded)


def test_a_reply_never_precedes_its_query(predict: Command, tmp_path: Path) -> None:
    questions = questions_in(tmp_path, question("q1", "a.mp4", (0.0, "x"), (2.8, "And at the end?")))
    assert predict(questions, "--speak", "threshold:1", "--max-new-tokens", "3")[0] == 0
    turns = lines(tmp_path)[0]["model_response_list"]
    assert [(t["role"], t["time"]) for t in turns] == [("user", 0.0), ("user", 2.8), ("assistant", 2.8)]


def test_a_numeric_question_id_stays_a_number(predict: Command, tmp_path: Path) -> None:
    questions = questions_in(tmp_path, question(7, "a.mp4", (0.0, "x")))
    assert predict(questions, "--speak", "never")[0] == 0
    assert lines(tmp_path)[0]["question_id"] == 7
    assert "1 of 1" in predict(questions, "--speak", "never")[1]


@pytest.mark.parametrize("content", ['[{"precious": 1}]', '{"question_id": "q1"}\n{"half'])
def test_an_existing_file_of_another_kind_is_not_changed(predict: Command, tmp_path: Path, content: str) -> None:
    (tmp_path / "pred.jsonl").write_text(content)
    status, _, err = predict(questions_in(tmp_path, question("q1", "a.mp4", (0.0, "x"))), "--speak", "never")
    assert status == 2
    assert "was not written by this command" in err
    assert (tmp_path / "pred.jsonl").read_text() == content


def test_the_number_of_frames_can_be_limited(predict: Command, tmp_path: Path) -> None:
    assert (
        predict(questions_in(tmp_path, question("q1", "a.mp4", (0.0, "x"))), "--max-frames", "2", "--speak", "never")[0]
        == 0
    )
    assert len(lines(tmp_path)[0]["debug_data"]) == 2


def test_a_window_in_seconds_equals_one_in_frames(predict: Command, tmp_path: Path) -> None:
    questions, found = questions_in(tmp_path, question("q1", "a.mp4", (0.0, "x"))), []
    for window in ("3", "1.5s", "none"):
        assert predict(questions, "--speak", "never", "--window", window)[0] == 0
        found.append(lines(tmp_path)[0]["debug_data"])
        for file in tmp_path.glob("pred*"):
            file.unlink()
    assert found[0] == found[1]
    assert found[0][:3] == found[2][:3]
    assert found[0][3:] != found[2][3:]


def test_failed_questions_are_reported_and_counted(predict: Command, tmp_path: Path) -> None:
    entries = [
        question("q1", "broken.mp4", (0.0, "x")),
        question("q2", "none.mp4", (0.0, "x")),
        question("q3", "a.mp4", (0.0, "x")),
    ]
    status, out, err = predict(questions_in(tmp_path, *entries), "--speak", "never")
    assert status == 1
    assert "1 of 3 questions answered, 2 failed" in out
    assert "q1: error[" in err
    assert "q2: error[video_not_found]" in err
    assert [line["question_id"] for line in lines(tmp_path)] == ["q3"]


def test_an_interrupted_run_is_resumed(predict: Command, tmp_path: Path) -> None:
    first, second = question("q1", "a.mp4", (0.0, "x")), question("q2", "a.mp4", (0.0, "y"))
    assert predict(questions_in(tmp_path, first, second), "--speak", "never")[0] == 0
    whole = (tmp_path / "pred.jsonl").read_text()
    done, rest = whole.splitlines(keepends=True)
    (tmp_path / "pred.jsonl").write_text(done.replace("0.0", "0.00") + rest[:40])  # killed while writing
    assert predict(questions_in(tmp_path, first, second), "--speak", "never")[0] == 0
    kept, again = (tmp_path / "pred.jsonl").read_text().splitlines(keepends=True)
    assert kept == done.replace("0.0", "0.00")  # the first was not predicted again
    assert_equal_up_to_rounding(json.loads(again), json.loads(rest))  # it was batched with other videos


def assert_equal_up_to_rounding(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert {**one, "debug_data": None} == {**other, "debug_data": None}
    for a, b in zip(one["debug_data"], other["debug_data"], strict=True):
        assert a == pytest.approx(b, abs=1e-6)


def test_predictions_with_other_settings_are_rejected(predict: Command, tmp_path: Path) -> None:
    questions = questions_in(tmp_path, question("q1", "a.mp4", (0.0, "x")))
    assert predict(questions, "--speak", "never")[0] == 0
    status, _, err = predict(questions, *TALKING)
    assert status == 2
    assert "made with other settings" in err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "test.json holds an object, expected a list; check that it has the expected format"),
        ("[", "test.json is not JSON"),
        ('[{"question_id": 1}]', "test.json, entry 0: missing video in {'question_id': 1}"),
        (
            json.dumps([question("q", "a.mp4"), question("q", "a.mp4")]),
            "test.json: id 'q' is listed twice; keep one entry per id",
        ),
    ],
)
def test_invalid_test_sets_are_rejected(predict: Command, tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "test.json").write_text(content)
    status, _, err = predict(tmp_path / "test.json")
    assert status == 6
    assert words in err


def test_predictions_finish_out_of_order_and_are_sorted_at_the_end(
    predict: Command, videos: Path, tmp_path: Path
) -> None:
    write_video(videos / "long.mp4", 9.0)
    questions = questions_in(tmp_path, question("slow", "long.mp4", (0.0, "x")), question("quick", "a.mp4", (0.0, "x")))
    config = PredictionConfig(videos, 2.0, None, SessionOptions(speak=SpeakOptions.parse("never")))
    finished = predict_examples(Engine(load_model("random:tiny")), read_test_set(questions), config)
    assert [each.line["question_id"] for each in finished if isinstance(each, Prediction)] == ["quick", "slow"]
    assert predict(questions, "--speak", "never")[0] == 0
    assert [line["question_id"] for line in lines(tmp_path)] == ["slow", "quick"]


def test_two_runs_cannot_write_to_one_file(predict: Command, tmp_path: Path) -> None:
    questions = questions_in(tmp_path, question("q1", "a.mp4", (0.0, "x")))
    assert predict(questions, "--speak", "never")[0] == 0
    settings = json.loads((tmp_path / "pred.jsonl.settings.json").read_text())
    with PredictionFile(tmp_path / "pred.jsonl", settings):
        done = predict(questions, "--speak", "never")
        assert (done.status, "another run" in done.err) == (2, True)
    assert predict(questions, "--speak", "never")[0] == 0
    with pytest.raises(OptionError, match="other settings"):
        PredictionFile(tmp_path / "pred.jsonl", {**settings, "fps": 9})
    assert predict(questions, "--speak", "never")[0] == 0, "a rejected run releases the file"


def test_damaged_settings_are_reported(predict: Command, tmp_path: Path) -> None:
    questions = questions_in(tmp_path, question("q1", "a.mp4", (0.0, "x")))
    assert predict(questions, "--speak", "never")[0] == 0
    for damaged in ("", "[1]", "3"):
        (tmp_path / "pred.jsonl.settings.json").write_text(damaged)
        status, _, err = predict(questions, "--speak", "never")
        assert (status, "damaged" in err) == (2, True)
