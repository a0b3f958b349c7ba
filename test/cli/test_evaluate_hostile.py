"""``mmduet evaluate`` on files that are odd, broken or malicious: they are read, or refused by name, without a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Command

HUGE = 10**400  # JSON may hold it, a float may not
QUESTION = {
    "question_id": 1, "video": "v.mp4", "conversation": [{"role": "user", "content": "q", "time": 0}],
    "answer": [{"content": "g", "time": [0, 5]}],
}  # fmt: skip
QUERY = {"qid": 1, "vid": "v", "query": "x", "duration": 10, "relevant_windows": [[0, 2]]}
SUBMISSION = {"qid": 1, "pred_relevant_windows": [[0, 2, 0.5]]}
OVO = {"backward": [{"id": 1, "task": "EPM", "response": "A", "ground_truth": "A"}]}
EVENTS = {"v": {"timestamps": [[0, 2]], "sentences": ["one"], "duration": 10}}
SPANS = [{"question_id": 1, "video": "v.mp4", "timestamps": [[0, 2]]}]


def turns(time: Any = 1, question_id: Any = 1, **more: Any) -> dict[str, Any]:
    said = [{"role": "assistant", "content": "g", "time": time}]
    return {"question_id": question_id, "model_response_list": said, **more}


def written(path: Path, value: Any) -> Path:
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return path


def evaluate(mmduet: Command, folder: Path, benchmark: str, predictions: Any, annotations: Any, *more: object) -> Any:
    files = ["--predictions", written(folder / "p.json", predictions)]
    if annotations is not None:
        files += ["--annotations", written(folder / "g.json", annotations)]
    return mmduet("evaluate", benchmark, *files, *more)


@pytest.mark.parametrize(
    ("benchmark", "predictions", "annotations", "more", "words"),
    [
        ("audio-description", {"m": []}, {"m": [{"start": 0, "end": 1, "text": "a"}]}, (), "no id in common"),
        ("audio-description", {"m": [{"start": 0, "end": 1, "text": "a"}]}, {"m": []}, (), "no id in common"),
        ("ovo", {"backward": [{**OVO["backward"][0], "task": ["EPM"]}]}, None, (), "expected one of"),
        ("ovo", OVO, [{"id": 1, "task": {}}], (), "expected one of"),
        ("ovo", OVO, [{"id": 1, "task": "REC", "test_info": None}], (), "test_info is None, expected a list"),
        ("magqa", turns(HUGE), [QUESTION], ("--judge", "exact"), "expected a number of seconds"),
        ("magqa", turns(), [{**QUESTION, "answer": [{"content": "g", "time": [0, HUGE]}]}], (), "expected a finite number"),
        ("magqa", turns(), [{**QUESTION, "answer": []}], ("--judge", "exact"), "no gold answers"),
        ("dense-captioning", {"v": [{"timestamp": [0, HUGE], "caption": "a"}]}, EVENTS, (), "expected a finite number"),
        ("qvhighlights", SUBMISSION, {**QUERY, "duration": 1e15}, (), "duration is"),
        ("qvhighlights", SUBMISSION, {**QUERY, "relevant_windows": []}, (), "can be evaluated"),
        ("grounding", {"question_id": 1, "model_response_list": []}, SPANS, ("--profile", "paper"), "can be"),
        ("captions", b"[" * 100_000, {"v": "a"}, (), "nested too deeply"),
        ("qvhighlights", b"[" * 100_000, QUERY, (), "nested too deeply"),
        ("captions", b'{"v": ' + b"9" * 5000 + b"}", {"v": ["a"]}, (), "is not JSON"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_a_reason(
    mmduet: Command, tmp_path: Path, benchmark: str, predictions: Any, annotations: Any, more: tuple, words: str
) -> None:
    done = evaluate(mmduet, tmp_path, benchmark, predictions, annotations, *more)
    assert (done.status, done.out) == (6, ""), done.err
    assert words in done.err


def test_a_byte_order_mark_is_no_part_of_a_file(mmduet: Command, tmp_path: Path) -> None:
    bom = b"\xef\xbb\xbf"
    done = evaluate(mmduet, tmp_path, "qvhighlights", bom + json.dumps(SUBMISSION).encode(), QUERY)
    assert (done.status, "MR-full-mAP" in done.out) == (0, True)
    predicted = bom + json.dumps({"1": {"timestamp": [[0, 2]]}}).encode()
    assert evaluate(mmduet, tmp_path, "grounding", predicted, bom + json.dumps(SPANS).encode()).status == 0
    done = evaluate(mmduet, tmp_path, "captions", bom + b'{"v": "a dog runs"}', {"v": ["a dog runs"]})
    assert done.status == 0, done.err


def test_ids_are_joined_whether_they_are_texts_or_numbers(mmduet: Command, tmp_path: Path) -> None:
    judged = tmp_path / "j.jsonl"
    judged.write_text(json.dumps({"question_id": "1", "gold": 0, "turn": 0, "score": 5}) + "\n")
    for predicted in (1, "1"):
        for judge in (("--judge", "exact"), ("--judgements", judged)):
            done = evaluate(mmduet, tmp_path, "magqa", turns(question_id=predicted), [QUESTION], *judge, "--strict")
            assert (done.status, "5.00" in done.out) == (0, True), done.err
    twice = b"\n".join(json.dumps(turns(question_id=k)).encode() for k in (1, "1"))
    done = evaluate(mmduet, tmp_path, "magqa", twice, [QUESTION], "--judge", "exact")
    assert (done.status, "twice" in done.err) == (6, True)


def test_the_references_own_frames_tell_the_bounds_of_captions(mmduet: Command, tmp_path: Path) -> None:
    """``video_time`` and pairs of probabilities, as its files have them, come to what ours come to."""
    sure = [0.0, 0.9, 0.9, 0.0]
    ours = [{"time": k, "informative_score": s, "relevance_score": 0.0} for k, s in enumerate(sure)]
    theirs = [{"video_time": k, "informative_score": [1 - s, s], "relevance_score": [1, 0]} for k, s in enumerate(sure)]
    bare = [{"time": k, "relevance_score": 0.0} for k in range(4)]
    found = []
    for frames in (ours, theirs, bare):
        report = tmp_path / "r.json"
        row = turns(2, "v", debug_data=frames)
        done = evaluate(mmduet, tmp_path, "dense-captioning", row, EVENTS, "--json", report)
        assert done.status == 0, done.err
        found.append(json.loads(report.read_text())["metrics"]["F1"])
    assert found[0] == found[1] != found[2]
    backwards = turns(2, "v", debug_data=ours[::-1])
    done = evaluate(mmduet, tmp_path, "dense-captioning", backwards, EVENTS)
    assert (done.status, "times must increase" in done.err) == (6, True), done.err


def test_what_is_read_is_never_written_over(mmduet: Command, tmp_path: Path) -> None:
    for option in ("--json", "--html"):
        for name in ("p.json", "g.json"):
            done = evaluate(mmduet, tmp_path, "qvhighlights", SUBMISSION, QUERY, option, tmp_path / name)
            assert (done.status, "is also an input file" in done.err) == (2, True), done.err
    assert json.loads((tmp_path / "p.json").read_text()) == SUBMISSION


@pytest.mark.parametrize(
    "more",
    [
        ("--judge-model", "x"), ("--judge", "exact", "--judge-model", "x"), ("--judge-cache", "c.jsonl"), ("--videos", "."),
        ("--per-item",), ("--judge", "exact", "--judge-prompt", "p.json"),
    ],
)  # fmt: skip
def test_options_that_would_do_nothing_are_refused(mmduet: Command, tmp_path: Path, more: tuple[str, ...]) -> None:
    done = evaluate(mmduet, tmp_path, "magqa", turns(), [QUESTION], *more)
    assert (done.status, "does nothing without" in done.err) == (2, True)


def test_numbers_beyond_all_use_are_refused(mmduet: Command, tmp_path: Path) -> None:
    for option, value in (("--smoothing", 10**20), ("--seed", -1)):
        assert evaluate(mmduet, tmp_path, "qvhighlights", SUBMISSION, QUERY, option, value).status == 2
    (tmp_path / "empty.npz").write_bytes(b"")
    movie = {"m": [{"start": 0, "end": 1, "text": "a"}]}
    more = ("--similarities", tmp_path / "empty.npz")
    done = evaluate(mmduet, tmp_path, "audio-description", movie, movie, *more)
    assert (done.status, "is not a readable .npz file" in done.err) == (6, True), done.err
