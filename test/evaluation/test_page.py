"""The report's page: what stands on it, that it is whole, valid and harmless, and that it needs nothing beside it."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judges import asked, json_file, json_lines, predicted
from originals import SHARED, needs
from pages import svg_of, written

from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks import grounding, ovo, qvhighlights
from mmduet.evaluation.report import Problem, Report
from mmduet.reports import write_page
from mmduet.reports.cases import worst_items

needs_shared = needs(SHARED)

Json = dict[str, Any]
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;"


def items(*values: float) -> list[Json]:
    return [{"id": f"q{place}", "mIoU": value} for place, value in enumerate(values)]


REPORT = Report("grounding", {"mIoU": 40.0}, items(10.0, 70.0, 40.0))


# The whole


def test_a_page_of_everything_is_valid_html(tmp_path: Path) -> None:
    sweep = [{"smoothing": w, "threshold": t, "mIoU": w + t, "R1@0.5": 1.0} for w in range(3) for t in (0.3, 0.5)]
    report = Report(
        "grounding",
        {"mIoU": 40.0, "R1@0.5": 30, "best-mIoU": 50.0, "causal-mIoU": 30.0, "oracle-threshold-mIoU": 60.0},
        [{**item, "causal-mIoU": 3.0} for item in items(10.0, 70.0, 40.0)],
        sweep,
        [Problem("q0", "no prediction", "IoU 0")],
        ["Everything is made up."],
        "paper",
        {"mIoU": (35.0, 45.0)},
    )
    gold = json_file(tmp_path / "gold.json", [{"question_id": f"q{k}", "timestamps": [[1, 3]]} for k in range(3)])
    page = written(tmp_path, report, annotations=gold)
    told = (
        "Temporal grounding", "paper: as the original", "gold.json", "Everything is made up.", "35.00 to 45.00",
        "tuned on the test set", "no future frames", "knows the answers", "no prediction (counted as IoU 0)",
        "1 s \N{EN DASH} 3 s",
    )  # fmt: skip
    assert [text for text in told if text not in page.text] == []
    assert len(page.all("img")) == 2 + 2 + 3  # of the sweep, of the spread, of the cases


@pytest.mark.parametrize("benchmark", ["grounding", "proactive", "ovo", "something new"])
def test_a_bare_report_has_a_page(tmp_path: Path, benchmark: str) -> None:
    page = written(tmp_path, Report(benchmark, {}))
    assert "Worst cases" not in page.text
    assert page.all("img") == []


def test_numbers_that_are_none_are_dashes(tmp_path: Path) -> None:
    nan = math.nan
    sweep = [{"smoothing": w, "mIoU": nan} for w in range(3)]
    report = Report("grounding", {"mIoU": nan}, items(nan, nan), sweep, intervals={"mIoU": (nan, nan)})
    page = written(tmp_path, report)
    assert "nan" not in page.text.lower()
    assert "\N{EN DASH} to \N{EN DASH}" in page.text


def test_all_that_comes_from_files_is_escaped(tmp_path: Path) -> None:
    report = Report(
        EVIL,
        {EVIL: 40.0, f"best-{EVIL}": 50.0, "a@1": 1.0, "b@1": 1.0, f"{EVIL}@1": 1.0},
        [{"id": EVIL, EVIL: 10.0, f"x{EVIL}": 3.0}],
        [{f"set{EVIL}": k, EVIL: float(k)} for k in range(3)],
        [Problem(EVIL, EVIL, EVIL)],
        [EVIL],
    )
    gold = {**asked(EVIL, ([1, 4], EVIL)), "video": EVIL}
    gold["conversation"][0]["content"] = EVIL
    said = {**predicted(EVIL, (2.0, EVIL)), "debug_data": [{"time": 1, "relevance_score": 0.5}]}
    name = EVIL.replace("/", "")
    page = written(
        tmp_path,
        report,
        annotations=json_file(tmp_path / f"{name}.json", [gold]),
        predictions=json_lines(tmp_path / f"{name}.jsonl", [said]),
        videos=tmp_path,
    )
    assert page.text.count(EVIL) > 15
    svgs = [svg_of(attrs["src"]) for attrs in page.all("img")]
    assert len(svgs) == 1 + 2 + 1
    assert not any("<script" in svg or "onerror=alert(2)>" in svg for svg in svgs)


def test_texts_that_no_file_can_hold_do_not_stop_a_page(tmp_path: Path) -> None:
    odd = "half \ud83d, nothing \x00, bell \x07, \x85"
    page = written(tmp_path, replace(REPORT, notes=[odd], items=[{"id": odd, "mIoU": 1.0}]))
    assert "half \ufffd, nothing \ufffd, bell \ufffd, \ufffd" in page.text


def test_the_same_report_makes_the_same_page(tmp_path: Path) -> None:
    sweep = [{"smoothing": w, "threshold": t, "mIoU": w * t} for w in range(4) for t in (0.3, 0.5)]
    for name in "ab":
        write_page(tmp_path / name, replace(REPORT, sweep=sweep))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path, broken = tmp_path / "page.html", json_file(tmp_path / "p.json", "{no json")
    path.write_text("as it was")
    with pytest.raises(AnnotationError, match=r"p\.json"):
        write_page(path, REPORT, predictions=broken)
    with pytest.raises(OptionError, match="worst is -1"):
        write_page(path, REPORT, worst=-1)
    assert path.read_text() == "as it was"
    with pytest.raises(OptionError, match="cannot be written"):
        write_page(tmp_path / "nowhere" / "page.html", REPORT)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.json", "page.html"]


def test_nothing_large_is_loaded_before_it_is_needed() -> None:
    code = "import sys, mmduet.reports; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "matplotlib", "numpy", "av", "PIL", "jinja2"}.isdisjoint(done.stdout.split())


def test_problems_are_told_up_to_fifty(tmp_path: Path) -> None:
    problems = [Problem(f"id{k}", "no prediction", "0" if k < 57 else "left out") for k in range(60)]
    page = written(tmp_path, replace(REPORT, problems=problems))
    assert "60 predictions could not be used as they are. 57 counted as 0 , 3 counted as left out ." in page.text
    assert "and 10 more." in page.text
    assert "id49" in page.text
    assert "id50" not in page.text
    assert {"open": None} not in page.all("details")
    assert {"open": None} in written(tmp_path, replace(REPORT, problems=problems[:3])).all("details")


# Worst cases


def test_the_worst_items_come_first_and_of_equal_ones_the_known() -> None:
    report = Report("grounding", {"mIoU": 1.0}, items(5.0, 0.0, math.nan, 0.0, 9.0, 0.0))
    known = {"q3", "q4"}.__contains__
    chosen = worst_items(report, "mIoU", 4, lambda item: known(item["id"]))
    assert [item["id"] for item in chosen] == ["q3", "q1", "q5", "q0"]
    assert len(worst_items(report, "mIoU", 99, lambda item: True)) == 5


def test_how_many_are_as_bad_is_told(tmp_path: Path) -> None:
    report = Report("grounding", {"mIoU": 1.0}, items(0.0, 0.0, 0.0, 9.0))
    page = written(tmp_path, report, worst=2)
    assert "The 2 items with the lowest mIoU . 1 more have 0.00 as well" in page.text
    assert page.of_class("case") == 2
    assert "as well" not in written(tmp_path, report, worst=3).text
    assert "The item with" in written(tmp_path, report, worst=1).text
    assert "Worst cases" not in written(tmp_path, report, worst=0).text


def test_a_case_shows_what_the_files_tell(tmp_path: Path) -> None:
    gold = {"question_id": 7, "video": "v.mp4", "timestamps": [[2, 4], [6, 7.5]]}
    gold["conversation"] = [{"role": "user", "content": "When does it rain?", "time": 0}]
    said = predicted(7, (9.0, "late"), (3.0, "it rains"))
    said["debug_data"] = [{"time": t / 2, "relevance_score": 0.1, "informative_score": 0.2} for t in range(20)]
    report = Report("grounding", {"mIoU": 12.5}, [{"id": 7, "mIoU": 12.5, "R1@0.3": 0.0, "causal-mIoU": 1.0}])
    page = written(
        tmp_path,
        report,
        predictions=json_lines(tmp_path / "p.jsonl", [said]),
        annotations=json_file(tmp_path / "a.json", [gold]),
    )
    for text in (
        "When does it rain?",
        "6 s \N{EN DASH} 7.5 s",
        "1 3 s it rains 2 9 s late",
        "R1@0.3 0.00",
        "causal-mIoU 1.00",
    ):
        assert text in page.text
    (line,) = (attrs for attrs in page.all("img") if attrs.get("class") == "line")
    assert line["alt"] == "Timeline of 30.0 s: relevance scores, informative scores, 2 gold spans, 2 replies"
    legend = [attrs["class"] for attrs in page.all("span") if "swatch" in (attrs.get("class") or "")]
    assert legend == [f"swatch {kind}" for kind in ("relevance", "informative", "gold", "reply", "query")]
    assert page.of_class("film") == 0


def test_a_case_that_the_files_do_not_know_says_so(tmp_path: Path) -> None:
    page = written(tmp_path, REPORT, worst=1)
    assert "The files tell nothing of this item." in page.text
    empty = json_file(tmp_path / "p.json", {"q0": {"timestamp": []}})
    assert "Prediction nothing" in written(tmp_path, REPORT, predictions=empty, worst=1).text


def test_a_proactive_item_is_one_gold_answer(tmp_path: Path) -> None:
    report = Report("proactive", {"PAUC@0.5": 25.0}, [{"id": "q#1", "PAUC@0.5": 25.0}])
    gold = asked("q", ([0, 4], "it opens"), ([6, 10], "it closes"))
    page = written(tmp_path, report, annotations=json_file(tmp_path / "a.json", [gold]))
    assert "it closes" in page.text
    assert "it opens" not in page.text


def test_gold_answers_may_stand_beside_the_models_own(tmp_path: Path) -> None:
    report = Report("ovo", {"EPM": 0.0}, [{"id": 4, "task": "EPM", "accuracy": 0.0}])
    results = {"backward": [{"id": 4, "task": "EPM", "response": "it is B", "ground_truth": "A"}]}
    page = written(tmp_path, report, predictions=json_file(tmp_path / "r.json", results))
    assert "EPM 4 accuracy 0.00 Gold A Prediction it is B" in page.text


def test_several_annotation_files_are_put_together(tmp_path: Path) -> None:
    sets = [{"v": {"timestamps": [[0, 1]], "sentences": [f"told by {who}"]}} for who in ("one", "two")]
    paths = [json_file(tmp_path / f"{k}.json", gold) for k, gold in enumerate(sets)]
    report = Report("dense_captioning", {"SODA_c": 1.0}, [{"id": "v", "SODA_c": 1.0}])
    page = written(tmp_path, report, annotations=paths)
    assert "told by one" in page.text
    assert "told by two" in page.text


def test_long_texts_and_lists_are_cut(tmp_path: Path) -> None:
    said = predicted("q0", *((float(k), f"reply {k} " + "x" * 2000) for k in range(100)))
    page = written(tmp_path, REPORT, predictions=json_lines(tmp_path / "p.jsonl", [said]), worst=1)
    assert "reply 28 " in page.text
    assert "reply 29 " not in page.text
    assert "and 71 more" in page.text
    assert "x" * 601 not in page.text


# With the evaluators


def test_the_page_of_a_grounding_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    gold = [{"question_id": f"q{k}", "video": "v.mp4", "timestamps": [[2, 5]]} for k in range(4)]
    said = [
        {
            **predicted(f"q{k}"),
            "debug_data": [{"time": t / 2, "relevance_score": float(rng.random())} for t in range(40)],
        }
        for k in range(3)
    ]
    files = {
        "predictions": json_lines(tmp_path / "p.jsonl", said),
        "annotations": json_file(tmp_path / "a.json", gold),
    }
    page = written(tmp_path, grounding.evaluate(**files), **files)
    assert page.of_class("marked") == 3
    assert len(page.all("img")) == 4 + 2 + 4
    assert "no prediction (counted as IoU 0)" in page.text


@needs_shared
@pytest.mark.parametrize(
    ("evaluate", "predictions", "annotations", "texts"),
    [
        (
            grounding.evaluate,
            "temporal_grounding/timechat_example_preds.json",
            "temporal_grounding/charades_test_gt.json",
            ["3,720", "3,220 predictions could not be used", "and 3,170 more.", "person runs up the stairs."],
        ),
        (
            qvhighlights.evaluate,
            "qvhighlights/timechat_val_preds.jsonl",
            "qvhighlights/highlight_val_release.jsonl",
            ["1,550", "predicted saliency", "ratings, dark is high"],
        ),
        (ovo.evaluate, "ovo_bench/results_Gemini.json", None, ["OVO-Bench", "Backward", "Gold"]),
    ],
)
def test_pages_of_published_predictions(
    tmp_path: Path, evaluate: Callable[..., Report], predictions: str, annotations: str | None, texts: list[str]
) -> None:
    files = {"predictions": SHARED / predictions, "annotations": SHARED / annotations if annotations else None}
    page = written(tmp_path, evaluate(**files), **files)
    assert [text for text in texts if text not in page.text] == []
    assert page.of_class("case") == 8
    assert (tmp_path / "page.html").stat().st_size < 500_000
