"""OVO-Bench: accuracies by hand, published results, reported problems, and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from originals import SHARED, needs

from mmduet.errors import AnnotationError
from mmduet.evaluation.benchmarks import ovo

REFERENCE = SHARED / "ovo_bench"
needs_reference = needs(REFERENCE)

MODELS = ("Gemini", "FlashVStream", "LongVU", "GPT")


def choice(task: str, response: object, gold: object = "B", id_: object = 1) -> dict[str, Any]:
    return {"id": id_, "task": task, "response": response, "ground_truth": gold}


def results(tmp_path: Path, value: object, name: str = "results.json") -> Path:
    path = tmp_path / name
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


BY_HAND = {
    "backward": [
        choice("EPM", "B", "B", 1),
        choice("EPM", "(A) Black", "B", 2),
        choice("EPM", None, "B", 3),
        choice("EPM", "C", "C", 4),
    ],
    "realtime": [choice("OCR", "A. red", "A", 5), choice("STU", "Because", "B", 6)],
    "forward": [
        {"id": 7, "task": "REC", "test_info": [{"count": 2, "response": "2.0"}, {"count": 12, "response": "1 2"}]},
        {"id": 8, "task": "REC", "test_info": [{"count": 3, "response": "three"}]},
        {"id": 9, "task": "SSR", "test_info": [{"type": 0, "response": "Not sure"}, {"type": 1, "response": "Yes"}]},
    ],
}


@pytest.mark.parametrize(
    ("profile", "epm", "ocr", "stu", "rec", "ssr"),
    # EPM: of B, (A) Black for B, none, C the original scorer accepts the second. REC: the original reads 20, 12 and nothing
    # for 2, 12 and 3; profile fixed reads 2, nothing and 3. STU: Because does not mean B. SSR: Not sure does not mean No.
    [("paper", 3 / 4, 1, 1, 1 / 3, 1), ("fixed", 2 / 4, 1, 0, 2 / 3, 1 / 2)],
)
def test_accuracies_by_hand_in_both_profiles(
    tmp_path: Path, profile: Any, epm: float, ocr: float, stu: float, rec: float, ssr: float
) -> None:
    report = ovo.evaluate(results(tmp_path, BY_HAND), None, profile=profile)
    backward, realtime, forward = 100 * epm, 50 * (ocr + stu), 50 * (rec + ssr)
    assert report.metrics == pytest.approx(
        {
            "EPM": 100 * epm, "OCR": 100 * ocr, "STU": 100 * stu, "REC": 100 * rec, "SSR": 100 * ssr,
            "Backward": backward, "Realtime": realtime, "Forward": forward, "Total": (backward + realtime + forward) / 3,
        }
    )  # fmt: skip
    assert [item["id"] for item in report.items] == list(range(1, 10))
    assert report.items[6]["accuracy"] == pytest.approx(50)  # 1 2 for 12, or 2.0 for 2
    assert report.profile == profile
    assert len(report.notes) == 3
    assert "Forward does not include CRR, which have no results." in report.notes[-1]


def test_ambiguous_responses_are_reported(tmp_path: Path) -> None:
    report = ovo.evaluate(results(tmp_path, BY_HAND), None)
    assert [(p.id, p.counted_as) for p in report.problems] == [
        ("EPM 3", "wrong"), ("STU 6", "wrong"), ("REC 7", "wrong"), ("SSR 9", "wrong"),
    ]  # fmt: skip
    assert [p.id for p in ovo.evaluate(results(tmp_path, BY_HAND), None, profile="paper").problems] == ["EPM 3"]
    with pytest.raises(AnnotationError, match="EPM 3: has no response"):
        ovo.evaluate(results(tmp_path, BY_HAND), None, strict=True)


def test_the_files_of_a_folder_are_pooled_and_total_needs_three_groups(tmp_path: Path) -> None:
    for group in ("backward", "realtime"):
        results(tmp_path, {group: BY_HAND[group]}, f"{group}.json")
    report = ovo.evaluate(tmp_path, None)
    assert set(report.metrics) == {"EPM", "OCR", "STU", "Backward", "Realtime"}
    assert "Total is missing: it requires results of all three groups." in report.notes
    results(tmp_path, {"forward": BY_HAND["forward"]}, "forward.json")
    whole = results(tmp_path / "..", BY_HAND, f"{tmp_path.name}-whole.json")
    assert ovo.evaluate(tmp_path, None).metrics == ovo.evaluate(whole, None).metrics


def test_annotated_questions_without_a_result_are_reported(tmp_path: Path) -> None:
    predictions = results(tmp_path, {"backward": [choice("EPM", "B", "B", 1)]})
    rows: list[Any] = [{"id": 1, "task": "EPM", "gt": 1}, {"id": 2, "task": "EPM", "gt": 0}]
    rows.append({"id": 3, "task": "REC", "test_info": [{}, {}]})
    annotations = results(tmp_path, rows, "annotations.json")
    fixed = ovo.evaluate(predictions, annotations)
    assert fixed.metrics == {"EPM": 50.0, "REC": 0.0, "Backward": 50.0, "Forward": 0.0}
    assert [(p.id, p.counted_as) for p in fixed.problems] == [("EPM 2", "wrong"), ("REC 3", "wrong")]
    assert ovo.evaluate(predictions, annotations, profile="paper").metrics == {"EPM": 100.0, "Backward": 100.0}
    other = results(tmp_path, [{"id": 1, "task": "OCR", "gt": 1}], "other.json")
    with pytest.raises(
        AnnotationError,
        match=r"results\.json and .*other\.json have no question in common; give the annotations of these predictions",
    ):
        ovo.evaluate(predictions, other)
    fewer = results(tmp_path, rows[:1], "fewer.json")
    more = results(tmp_path, {"backward": [choice("EPM", "B", "B", 1), choice("EPM", "C", "C", 9)]}, "more.json")
    report = ovo.evaluate(more, fewer)
    assert [(p.id, p.message) for p in report.problems] == [("EPM 9", "is not in the annotations")]
    assert report.metrics["EPM"] == 100.0


def test_questions_with_the_same_id_count_separately(tmp_path: Path) -> None:
    entries = [choice("EPM", "B", "B", 1), choice("EPM", "C", "B", 1)]
    report = ovo.evaluate(results(tmp_path, {"backward": entries}), None)
    assert report.metrics["EPM"] == 50.0
    assert [str(p) for p in report.problems] == ["EPM 1: is listed 2 times (counted as separate questions)"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", r"results\.json is not JSON"),
        ([], r"results\.json holds a list, expected an object; check that it has the expected format"),
        ({}, r"results\.json has no results; check that the run that wrote it was completed"),
        (
            {"backward": [], "realtime": [], "forward": []},
            r"results\.json has no results; check that the run that wrote it was completed",
        ),
        ({"sideways": []}, r"results\.json, sideways: unknown group, expected one of backward, realtime, forward"),
        ({"backward": {}}, r"results\.json, backward: the list of entries is \{\}, expected a list"),
        ({"backward": [7]}, r"results\.json, backward: entry 0: missing id in 7"),
        ({"backward": [{"task": "EPM"}]}, r"results\.json, backward: entry 0: missing id in \{'task': 'EPM'\}"),
        (
            {"backward": [choice("EPM", "A", id_=True)]},
            r"results\.json, backward: entry 0: the id is True, expected a text or a whole number",
        ),
        (
            {"backward": [choice("XYZ", "A")]},
            r"results\.json, backward: entry 0: id '1': task is 'XYZ', expected one of EPM, ASI, HLD, OCR, ACR,",
        ),
        (
            {"backward": [choice("OCR", "A")]},
            r"results\.json, backward: entry 0: id 1, task OCR: the task belongs to realtime; move the entry there",
        ),
        (
            {"backward": [{"id": 1, "task": "EPM", "ground_truth": "A"}]},
            r"results\.json, backward: entry 0: id 1, task EPM: missing response in \{'id': 1, 'task': 'EPM',",
        ),
        (
            {"backward": [choice("EPM", ["A"])]},
            r"results\.json, backward: entry 0: id 1, task EPM: response is \['A'\], expected the model's text or null",
        ),
        (
            {"backward": [choice("EPM", "A", None)]},
            r"results\.json, backward: entry 0: id 1, task EPM: ground_truth is None, expected the letter of the correct",
        ),
        (
            {"backward": [choice("EPM", "A", "AB")]},
            r"results\.json, backward: entry 0: id 1, task EPM: ground_truth is 'AB', expected the letter of the correct",
        ),
        (
            {"forward": [{"id": 1, "task": "REC"}]},
            r"results\.json, forward: entry 0: id 1, task REC: missing test_info in \{'id': 1, 'task': 'REC'\}",
        ),
        (
            {"forward": [{"id": 1, "task": "REC", "test_info": [{"response": "1"}]}]},
            r"results\.json, forward: entry 0: id 1, task REC: count is None, expected a whole number from 0 up",
        ),
        (
            {"forward": [{"id": 1, "task": "REC", "test_info": [{"response": "1", "count": -1}]}]},
            r"results\.json, forward: entry 0: id 1, task REC: count is -1, expected a whole number from 0 up",
        ),
        (
            {"forward": [{"id": 1, "task": "SSR", "test_info": [{"response": "No", "type": 2}]}]},
            r"results\.json, forward: entry 0: id 1, task SSR: type is 2, expected 0 \(No\) or 1 \(Yes\)",
        ),
        (
            {"forward": [{"id": 1, "task": "SSR", "test_info": [{"type": 1}]}]},
            r"results\.json, forward: entry 0: id 1, task SSR: missing response in \{'type': 1\}",
        ),
        (
            {"forward": [{"id": 1, "task": "SSR", "test_info": [None]}]},
            r"results\.json, forward: entry 0: id 1, task SSR: missing response in None",
        ),
    ],
)
def test_invalid_files_are_rejected(tmp_path: Path, value: object, message: str) -> None:
    path = results(tmp_path, value)
    for profile in ("fixed", "paper"):
        with pytest.raises(AnnotationError, match=message) as caught:
            ovo.evaluate(path, None, profile=profile)
        assert str(path) in str(caught.value)


def test_an_entry_without_moments_is_reported_and_left_out(tmp_path: Path) -> None:
    entries = [
        {"id": 1, "task": "REC", "test_info": []},
        {"id": 2, "task": "REC", "test_info": [{"count": 1, "response": "1"}]},
    ]
    report = ovo.evaluate(results(tmp_path, {"forward": entries}), None)
    assert report.metrics["REC"] == 100.0
    assert [p.id for p in report.problems] == ["REC 1"]
    assert report.to_dict(per_item=True)["items"][0]["accuracy"] is None
    nothing = ovo.evaluate(results(tmp_path, {"forward": entries[:1]}), None)
    assert nothing.metrics == {}


def test_an_empty_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"has no \.json files; give a result file, or a folder of result files"):
        ovo.evaluate(tmp_path, None)


@needs_reference
@pytest.mark.parametrize("model", MODELS)
def test_numbers_equal_those_of_the_original_scorer(model: str) -> None:
    expected = json.loads((REFERENCE / "expected.json").read_text())[model]
    numbers = expected["8_decimals"]["tasks"] | expected["8_decimals"]["avg"]
    report = ovo.evaluate(REFERENCE / f"results_{model}.json", None, profile="paper")
    assert report.metrics == pytest.approx(numbers, abs=1e-6)
    published = expected.get("published_in_OVO_Bench_README", expected["printed_2_decimals"])
    for name, value in (published["tasks"] | published["avg"]).items():
        assert report.metrics[name] == pytest.approx(value, abs=0.00501)


@needs_reference
def test_short_answers_have_equal_accuracy_in_both_profiles() -> None:
    for model in ("FlashVStream", "GPT"):
        path = REFERENCE / f"results_{model}.json"
        assert ovo.evaluate(path, None).metrics == ovo.evaluate(path, None, profile="paper").metrics
    report = ovo.evaluate(REFERENCE / "results_Gemini.json", None)
    shared = {p.id for p in report.problems if "is listed 2 times" in p.message}
    assert shared == {"EPM 192", "EPM 225", "EPM 239", "HLD 424", "HLD 427"}
