"""``mmduet evaluate`` and ``mmduet data check``: from files to metrics, reports and exit statuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from command_line import Command, in_process, write_video


@pytest.fixture
def mmduet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(monkeypatch, capsys)


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prediction(name: str, relevance: list[float], replies: list[tuple[float, str]] = ()) -> dict[str, Any]:  # type: ignore[assignment]
    turns = [{"time": 0.0, "content": "q", "role": "user"}]
    turns += [{"time": time, "content": text, "role": "assistant"} for time, text in replies]
    debug = [{"time": i / 2, "informative_score": 0.0, "relevance_score": r} for i, r in enumerate(relevance)]
    return {
        "question_id": name,
        "video_duration": len(relevance) / 2,
        "model_response_list": turns,
        "debug_data": debug,
    }


def question(name: str, **gold: Any) -> dict[str, Any]:
    return {
        "question_id": name,
        "video": "v.mp4",
        "conversation": [{"role": "user", "content": "q", "time": 0}],
        **gold,
    }


@pytest.fixture
def grounding(tmp_path: Path) -> list[object]:
    predictions = lines(
        tmp_path / "p.jsonl", [prediction("a", [0, 0, 1, 1, 1, 0]), prediction("b", [1, 0, 0, 0, 0, 0])]
    )
    gold = [question("a", timestamps=[[1.0, 2.0]]), question("b", timestamps=[[1.0, 2.0]])]
    (tmp_path / "g.json").write_text(json.dumps(gold))
    return ["--predictions", predictions, "--annotations", tmp_path / "g.json", "--smoothing", 0]


def test_metrics_are_printed_and_written_as_json(mmduet: Command, grounding: list[object], tmp_path: Path) -> None:
    done = mmduet("evaluate", "grounding", *grounding, "--json", tmp_path / "r.json")
    assert done.status == 0
    assert "mIoU" in done.out
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["benchmark"], report["profile"]) == ("grounding", "fixed")
    assert report["metrics"]["mIoU"] == pytest.approx(50.0)  # one span is found exactly, the other not at all
    assert report["metrics"]["R1@0.7"] == pytest.approx(50.0)
    assert report["intervals"]["mIoU"][0] <= 50 <= report["intervals"]["mIoU"][1]
    assert len(report["sweep"]) == 15 * 21
    assert "items" not in report
    assert report["count"] == 2
    assert report["options"] == {"smoothing": 0}
    assert [Path(name).name for name in report["files"]] == ["p.jsonl", "g.json"]
    assert "tuned on the test set" in done.err
    mmduet("evaluate", "grounding", *grounding, "--json", tmp_path / "r.json", "--per-item")
    assert [item["id"] for item in json.loads((tmp_path / "r.json").read_text())["items"]] == ["a", "b"]


def test_an_html_page_is_written(mmduet: Command, grounding: list[object], tmp_path: Path) -> None:
    assert mmduet("evaluate", "grounding", *grounding, "--html", tmp_path / "r.html").status == 0
    page = (tmp_path / "r.html").read_text()
    assert page.startswith("<!")
    assert "mIoU" in page


def test_unusable_predictions_are_reported_and_strict_fails(mmduet: Command, tmp_path: Path) -> None:
    rows = [prediction("a", [0, 0, 1, 1, 1, 0]), prediction("unknown", [1, 1])]
    files = ["--predictions", lines(tmp_path / "p.jsonl", rows), "--annotations", tmp_path / "g.json"]
    (tmp_path / "g.json").write_text(
        json.dumps([question("a", timestamps=[[1.0, 2.0]]), question("b", timestamps=[[0, 1]])])
    )
    done = mmduet("evaluate", "grounding", *files)
    assert done.status == 0
    assert "unknown" in done.err
    assert "b:" in done.err
    done = mmduet("evaluate", "grounding", *files, "--strict")
    assert (done.status, "unknown" in done.err) == (6, True)


def test_answers_are_graded_by_a_judge_or_by_judgements(mmduet: Command, tmp_path: Path) -> None:
    gold = [question("a", answer=[{"content": "It moves.", "time": [0, 2]}, {"content": "It stops.", "time": [3, 4]}])]
    (tmp_path / "g.json").write_text(json.dumps(gold))
    replies = [(1.0, "it  moves."), (3.5, "nothing")]
    files = ["--predictions", lines(tmp_path / "p.jsonl", [prediction("a", [0] * 8, replies)])]
    files += ["--annotations", tmp_path / "g.json", "--json", tmp_path / "r.json"]
    ungraded = mmduet("evaluate", "magqa", *files)
    assert (ungraded.status, "answers need a judge; give --judge URL" in ungraded.err) == (2, True)
    assert mmduet("evaluate", "magqa", *files, "--judge", "exact").status == 0
    assert json.loads((tmp_path / "r.json").read_text())["metrics"]["in_span"] == 3.0  # 5 and 1
    grades = [
        {"question_id": "a", "gold": 0, "turn": 0, "score": 4},
        {"question_id": "a", "gold": 1, "turn": 1, "score": 2},
    ]
    done = mmduet("evaluate", "magqa", *files, "--judgements", lines(tmp_path / "j.jsonl", grades))
    assert done.status == 0
    assert json.loads((tmp_path / "r.json").read_text())["metrics"]["in_span"] == 3.0


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (["--judge", "exact"], "--judge does not apply to grounding; leave it out"),
        (["--flavour", "vid2seq"], "--flavour does not apply to grounding; leave it out"),
        (["--similarities", "x.npz"], "--similarities does not apply to grounding; leave it out"),
        (
            ["--judge-prompt", "x"],
            "--judge-prompt has no effect without --judge URL or --judgements; add that option, or leave --judge-prompt out",
        ),
        (["--annotations", "other.json"], "grounding takes one file of annotations, not 2"),
        (["--judge", "http://x"], "--judge http://x needs --judge-model: the name of the model at that endpoint"),
        (["--html", "no/where.html"], "--html no/where.html: the folder no does not exist; create it first"),
    ],
)
def test_options_that_do_not_apply_are_rejected(
    mmduet: Command, grounding: list[object], more: list[object], error: str
) -> None:
    done = mmduet("evaluate", "grounding", *grounding, *more)
    assert (done.status, done.err) == (2, f"error[bad_option]: {error}\n")


def test_missing_annotations_are_rejected(mmduet: Command, tmp_path: Path) -> None:
    done = mmduet("evaluate", "captions", "--predictions", tmp_path / "p.json")
    assert (done.status, done.err) == (
        2,
        "error[bad_option]: captions needs --annotations: the test set that was predicted\n",
    )


def test_every_benchmark_reads_its_files(mmduet: Command, tmp_path: Path) -> None:
    for name in (
        "qvhighlights",
        "grounding",
        "dense-captioning",
        "magqa",
        "proactive",
        "audio-description",
        "captions",
        "ovo",
    ):
        done = mmduet(
            "evaluate", name, "--predictions", tmp_path / "none.json", "--annotations", tmp_path / "none.json"
        )
        assert done.status == 6, f"{name}: {done.err}"
        assert "none.json" in done.err


# data sets


def test_a_local_copy_of_a_data_set_is_checked(mmduet: Command, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "v.mp4", 1.0)
    gold = [question("a", timestamps=[[0, 1]]), {**question("b", timestamps=[[0, 1]]), "video": "gone.mp4"}]
    (tmp_path / "grounding_test.json").write_text(json.dumps(gold))
    done = mmduet("data", "check", "charades", "--dir", tmp_path)
    assert (done.status, "gone.mp4" in done.err) == (1, True)
    assert "2 questions, 1 videos, 1 problems" in done.out
    (tmp_path / "videos" / "gone.mp4").write_bytes((tmp_path / "videos" / "v.mp4").read_bytes())
    assert mmduet("data", "check", "charades", "--dir", tmp_path).status == 0
    (tmp_path / "grounding_test.json").write_text(json.dumps([gold[0], question("c")]))  # without timestamps
    done = mmduet("data", "check", "charades", "--dir", tmp_path)
    assert (done.status, "cannot be evaluated" in done.err, "missing timestamps" in done.err) == (1, True, True), (
        done.err
    )
    (tmp_path / "grounding_test.json").write_text(
        json.dumps([{**row, "question_id": f"{k}", "video": f"{k}.mp4"} for k, row in enumerate(gold * 20)])
    )
    done = mmduet("data", "check", "charades", "--dir", tmp_path)
    assert all(f"{k}.mp4" in done.err for k in range(40)), "every missing video is reported"
    assert mmduet("data", "check", "charades", "--dir", tmp_path / "nowhere").status == 2
    assert mmduet("data", "check", "imagenet").status == 2


def test_the_annotation_file_of_qvhighlights_is_a_test_set(mmduet: Command, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "v.mp4", 4.0)
    row = {
        "qid": 7,
        "vid": "v",
        "query": "A thing.",
        "duration": 4,
        "relevant_clip_ids": [0],
        "saliency_scores": [[4, 4, 4]],
    }
    files = ["--annotations", lines(tmp_path / "highlights.jsonl", [row]), "--predictions", tmp_path / "p.jsonl"]
    predict = mmduet(
        "predict", *files[:2], "--videos", tmp_path / "videos", "--output", tmp_path / "p.jsonl",
        "--model", "random:tiny", "--fps", 2, "--speak", "never",
    )  # fmt: skip
    assert predict.status == 0, predict.err
    done = mmduet("evaluate", "qvhighlights", *files, "--json", tmp_path / "r.json")
    assert done.status == 0, done.err
    assert "another test set" not in done.err
    other = lines(tmp_path / "other.jsonl", [{**row, "query": "Another."}])
    done = mmduet("evaluate", "qvhighlights", "--annotations", other, *files[2:])
    assert (done.status, "p.jsonl was made for another test set" in done.err) == (0, True)
    hit_rate = json.loads((tmp_path / "r.json").read_text())["metrics"]["HL-min-VeryGood-Hit1"]
    assert hit_rate in (0.0, 100.0)
    assert not math.isnan(hit_rate)
    lines(tmp_path / "highlights.jsonl", [{"qid": 1, "vid": "v"}])
    assert mmduet("data", "check", "qvh", "--dir", tmp_path).status == 6
