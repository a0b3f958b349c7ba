"""``mmduet evaluate`` on unusual, damaged or malicious files: they are read or rejected, never with a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Command

HUGE = 10**400  # valid in JSON, too large for a float
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
    replies = [{"role": "assistant", "content": "g", "time": time}]
    return {"question_id": question_id, "model_response_list": replies, **more}


def written(path: Path, value: Any) -> Path:
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return path


def evaluate(mmduet: Command, folder: Path, benchmark: str, predictions: Any, annotations: Any, *more: object) -> Any:
    files = ["--predictions", written(folder / "p.json", predictions)]
    if annotations is not None:
        files += ["--annotations", written(folder / "g.json", annotations)]
    return mmduet("evaluate", benchmark, *files, *more)


NO_COMMON_ID = (
    "p.json and g.json have no id in common (for example {} and {}); give predictions and annotations of the same split"
)
OVO_TASKS = "EPM, ASI, HLD, OCR, ACR, ATR, STU, FPD, OJR, REC, SSR, CRR"
CUT = "1" + 76 * "0" + "..."  # HUGE in a message


@pytest.mark.parametrize(
    ("benchmark", "predictions", "annotations", "more", "error"),
    [
        (
            "audio-description", {"m": []}, {"m": [{"start": 0, "end": 1, "text": "a"}]}, (),
            NO_COMMON_ID.format(None, "'m'"),
        ),
        (
            "audio-description", {"m": [{"start": 0, "end": 1, "text": "a"}]}, {"m": []}, (),
            NO_COMMON_ID.format("'m'", None),
        ),
        (
            "ovo", {"backward": [{**OVO["backward"][0], "task": ["EPM"]}]}, None, (),
            f"p.json, backward: entry 0: id '1': task is ['EPM'], expected one of {OVO_TASKS}",
        ),
        ("ovo", OVO, [{"id": 1, "task": {}}], (), f"g.json, entry 0: id '1': task is {{}}, expected one of {OVO_TASKS}"),
        (
            "ovo", OVO, [{"id": 1, "task": "REC", "test_info": None}], (),
            "g.json, entry 0: test_info is None, expected a list",
        ),
        (
            "magqa", turns(HUGE), [QUESTION], ("--judge", "exact"),
            f"p.json, question_id '1': turn 0: time is {CUT}, expected a number of seconds",
        ),
        (
            "magqa", turns(), [{**QUESTION, "answer": [{"content": "g", "time": [0, HUGE]}]}], (),
            f"g.json, question_id '1': gold answer 0: the end of the time span is {CUT}, expected a finite number",
        ),
        (
            "magqa", turns(), [{**QUESTION, "answer": []}], ("--judge", "exact"),
            "g.json has no gold answers; give annotations with answers and their time spans",
        ),
        (
            "dense-captioning", {"v": [{"timestamp": [0, HUGE], "caption": "a"}]}, EVENTS, (),
            f"p.json, 'v': segment 0: the end of the time span is {CUT}, expected a finite number",
        ),
        (
            "qvhighlights", SUBMISSION, {**QUERY, "duration": 1e15}, (),
            "g.json, query 1: duration is 1000000000000000.0, expected 2 (one clip) to 1000000 s",
        ),
        (
            "qvhighlights", SUBMISSION, {**QUERY, "relevant_windows": []}, (),
            "p.json: nothing in it can be evaluated; give other predictions or annotations",
        ),
        (
            "grounding", {"question_id": 1, "model_response_list": []}, SPANS, ("--profile", "paper"),
            "p.json: nothing in it can be evaluated (item 1: the answer '' does not contain exactly two numbers); "
            "give other predictions or annotations",
        ),
        ("captions", b"[" * 100_000, {"v": "a"}, (), "p.json is nested too deeply to be parsed"),
        ("qvhighlights", b"[" * 100_000, QUERY, (), "p.json is nested too deeply to be parsed"),
        (
            "captions", b'{"v": ' + b"9" * 5000 + b"}", {"v": ["a"]}, (),
            "p.json is not JSON: Exceeds the limit (4300 digits) for integer string conversion",
        ),
    ],
)  # fmt: skip
def test_unusable_files_are_rejected_with_a_reason(
    mmduet: Command, tmp_path: Path, benchmark: str, predictions: Any, annotations: Any, more: tuple, error: str
) -> None:
    done = evaluate(mmduet, tmp_path, benchmark, predictions, annotations, *more)
    assert (done.status, done.out) == (6, ""), done.err
    for name in ("p.json", "g.json"):
        error = error.replace(name, str(tmp_path / name))
    assert f"error[bad_annotation]: {error}" in done.err


def test_a_byte_order_mark_is_skipped(mmduet: Command, tmp_path: Path) -> None:
    bom = b"\xef\xbb\xbf"
    done = evaluate(mmduet, tmp_path, "qvhighlights", bom + json.dumps(SUBMISSION).encode(), QUERY)
    assert (done.status, "MR-full-mAP" in done.out) == (0, True)
    predicted = bom + json.dumps({"1": {"timestamp": [[0, 2]]}}).encode()
    assert evaluate(mmduet, tmp_path, "grounding", predicted, bom + json.dumps(SPANS).encode()).status == 0


def test_ids_are_joined_whether_they_are_texts_or_numbers(mmduet: Command, tmp_path: Path) -> None:
    judged = tmp_path / "j.jsonl"
    judged.write_text(json.dumps({"question_id": "1", "gold": 0, "turn": 0, "score": 5}) + "\n")
    for predicted in (1, "1"):
        for judge in (("--judge", "exact"), ("--judgements", judged)):
            done = evaluate(mmduet, tmp_path, "magqa", turns(question_id=predicted), [QUESTION], *judge, "--strict")
            assert (done.status, "5.00" in done.out) == (0, True), done.err
    twice = b"\n".join(json.dumps(turns(question_id=k)).encode() for k in (1, "1"))
    done = evaluate(mmduet, tmp_path, "magqa", twice, [QUESTION], "--judge", "exact")
    assert (done.status, "p.json: id '1' is listed twice; keep one entry per id" in done.err) == (6, True)


def test_frame_scores_must_be_in_the_order_of_time(mmduet: Command, tmp_path: Path) -> None:
    frames = [{"time": k, "informative_score": 0.5, "relevance_score": 0.0} for k in (3, 2)]
    done = evaluate(mmduet, tmp_path, "dense-captioning", turns(2, "v", debug_data=frames), EVENTS)
    message = "p.json, 'v': a frame at 2.0 s follows one at 3.0 s; times must increase"
    assert (done.status, message in done.err) == (6, True), done.err


def test_input_files_are_never_overwritten(mmduet: Command, tmp_path: Path) -> None:
    for option in ("--json", "--html"):
        for name in ("p.json", "g.json"):
            done = evaluate(mmduet, tmp_path, "qvhighlights", SUBMISSION, QUERY, option, tmp_path / name)
            assert (
                done.status,
                f"{option} {tmp_path / name} is also an input file; give each its own file" in done.err,
            ) == (2, True)
    assert json.loads((tmp_path / "p.json").read_text()) == SUBMISSION


@pytest.mark.parametrize(
    ("more", "option", "required"),
    [
        (("--judge-model", "x"), "--judge-model", "--judge URL"),
        (("--judge", "exact", "--judge-model", "x"), "--judge-model", "--judge URL"),
        (("--judge-cache", "c.jsonl"), "--judge-cache", "--judge URL"),
        (("--videos", "."), "--videos", "--html"),
        (("--per-item",), "--per-item", "--json"),
        (("--judge", "exact", "--judge-prompt", "p.json"), "--judge-prompt", "--judge URL or --judgements"),
    ],
)
def test_options_without_effect_are_rejected(
    mmduet: Command, tmp_path: Path, more: tuple[str, ...], option: str, required: str
) -> None:
    done = evaluate(mmduet, tmp_path, "magqa", turns(), [QUESTION], *more)
    message = f"{option} has no effect without {required}; add that option, or leave {option} out"
    assert (done.status, done.err) == (2, f"error[bad_option]: {message}\n")


def test_out_of_range_options_and_damaged_similarities_are_rejected(mmduet: Command, tmp_path: Path) -> None:
    for option, value in (("--smoothing", 10**20), ("--seed", -1)):
        assert evaluate(mmduet, tmp_path, "qvhighlights", SUBMISSION, QUERY, option, value).status == 2
    (tmp_path / "empty.npz").write_bytes(b"")
    movie = {"m": [{"start": 0, "end": 1, "text": "a"}]}
    more = ("--similarities", tmp_path / "empty.npz")
    done = evaluate(mmduet, tmp_path, "audio-description", movie, movie, *more)
    assert (done.status, f"{tmp_path / 'empty.npz'} is not a readable .npz file" in done.err) == (6, True), done.err
