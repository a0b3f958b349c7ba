"""HTML reports: their contents, and that each is complete, valid, safe and self-contained."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from brightening_video import write_brightening_video
from html_pages import decode_svg, write_and_read
from judges import gold_entry, prediction_line, write_json_file, write_json_lines
from originals import SHARED, needs

from mmduet.annotations.problems import Problem
from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks import grounding, ovo, qvhighlights
from mmduet.evaluation.report import Report
from mmduet.reports import write_html_report
from mmduet.reports.cases import worst_items
from mmduet.viz.embedded_image import DARK_COLOURS

needs_shared = needs(SHARED)

Json = dict[str, Any]
HTML_TEXT = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;"


def items(*values: float) -> list[Json]:
    return [{"id": f"q{i}", "mIoU": value} for i, value in enumerate(values)]


REPORT = Report("grounding", {"mIoU": 40.0}, items(10.0, 70.0, 40.0))


def test_complete_report_is_valid_html(tmp_path: Path) -> None:
    sweep = [{"smoothing": w, "threshold": t, "mIoU": w + t, "R1@0.5": 1.0} for w in range(3) for t in (0.3, 0.5)]
    report = Report(
        "grounding",
        {"mIoU": 40.0, "R1@0.5": 30, "best-mIoU": 50.0, "causal-mIoU": 30.0, "oracle-threshold-mIoU": 60.0},
        [{**item, "causal-mIoU": 3.0} for item in items(10.0, 70.0, 40.0)],
        sweep,
        [Problem("q0", "no prediction", "IoU 0")],
        ["All numbers are examples."],
        "paper",
        {"mIoU": (35.0, 45.0)},
    )
    gold = write_json_file(tmp_path / "gold.json", [{"question_id": f"q{k}", "timestamps": [[1, 3]]} for k in range(3)])
    page = write_and_read(tmp_path, report, annotations=gold)
    expected = (
        "Temporal grounding", "paper: as the original", "gold.json", "All numbers are examples.", "35.00 to 45.00",
        "tuned on the test set", "no future frames", "uses the gold answers", "no prediction (counted as IoU 0)",
        "1 s \N{EN DASH} 3 s",
    )  # fmt: skip
    assert [text for text in expected if text not in page.text] == []
    assert len(page.attributes_of("img")) == 2 + 2 + 3  # of the sweep, of the distribution, of the cases


@pytest.mark.parametrize("benchmark", ["grounding", "proactive", "ovo", "something new"])
def test_empty_report_is_valid_html(tmp_path: Path, benchmark: str) -> None:
    page = write_and_read(tmp_path, Report(benchmark, {}))
    assert "Worst cases" not in page.text
    assert page.attributes_of("img") == []


def test_values_that_are_not_finite_are_dashes(tmp_path: Path) -> None:
    nan = math.nan
    sweep = [{"smoothing": w, "mIoU": nan} for w in range(3)]
    report = Report("grounding", {"mIoU": nan}, items(nan, nan), sweep, intervals={"mIoU": (nan, nan)})
    page = write_and_read(tmp_path, report)
    assert "nan" not in page.text.lower()
    assert "\N{EN DASH} to \N{EN DASH}" in page.text


def test_texts_from_files_are_escaped(tmp_path: Path) -> None:
    report = Report(
        HTML_TEXT,
        {HTML_TEXT: 40.0, f"best-{HTML_TEXT}": 50.0, "a@1": 1.0, "b@1": 1.0, f"{HTML_TEXT}@1": 1.0},
        [{"id": HTML_TEXT, HTML_TEXT: 10.0, f"x{HTML_TEXT}": 3.0}],
        [{f"set{HTML_TEXT}": k, HTML_TEXT: float(k)} for k in range(3)],
        [Problem(HTML_TEXT, HTML_TEXT, HTML_TEXT)],
        [HTML_TEXT],
    )
    gold = {**gold_entry(HTML_TEXT, ([1, 4], HTML_TEXT)), "video": HTML_TEXT}
    gold["conversation"][0]["content"] = HTML_TEXT
    predicted = {**prediction_line(HTML_TEXT, (2.0, HTML_TEXT)), "debug_data": [{"time": 1, "relevance_score": 0.5}]}
    name = HTML_TEXT.replace("/", "")
    page = write_and_read(
        tmp_path,
        report,
        annotations=write_json_file(tmp_path / f"{name}.json", [gold]),
        predictions=write_json_lines(tmp_path / f"{name}.jsonl", [predicted]),
        videos=tmp_path,
    )
    assert page.text.count(HTML_TEXT) > 15
    svgs = [decode_svg(attrs["src"]) for attrs in page.attributes_of("img")]
    assert len(svgs) == 1 + 2 + 1
    assert not any("<script" in svg or "onerror=alert(2)>" in svg for svg in svgs)


def test_characters_that_html_does_not_allow_are_replaced(tmp_path: Path) -> None:
    text = "half \ud83d, nothing \x00, bell \x07, \x85"
    page = write_and_read(tmp_path, replace(REPORT, notes=[text], items=[{"id": text, "mIoU": 1.0}]))
    assert "half \ufffd, nothing \ufffd, bell \ufffd, \ufffd" in page.text


def test_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    sweep = [{"smoothing": w, "threshold": t, "mIoU": w * t} for w in range(4) for t in (0.3, 0.5)]
    for name in "ab":
        write_html_report(tmp_path / name, replace(REPORT, sweep=sweep))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_failing_report_leaves_the_file_unchanged(tmp_path: Path) -> None:
    path, broken = tmp_path / "page.html", write_json_file(tmp_path / "p.json", "{not json")
    path.write_text("as it was")
    with pytest.raises(AnnotationError, match=r"p\.json"):
        write_html_report(path, REPORT, predictions=broken)
    with pytest.raises(OptionError, match="worst must be at least 0, got -1"):
        write_html_report(path, REPORT, worst=-1)
    assert path.read_text() == "as it was"
    with pytest.raises(OptionError, match="cannot be written"):
        write_html_report(tmp_path / "nowhere" / "page.html", REPORT)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.json", "page.html"]


def test_images_follow_the_readers_colour_mode(tmp_path: Path) -> None:
    page = write_and_read(tmp_path, Report("grounding", {"mIoU": 40.0}, items(10.0, 70.0)))
    for attrs in page.attributes_of("img"):
        svg = decode_svg(attrs["src"])
        ElementTree.fromstring(svg)
        assert "prefers-color-scheme:dark" in svg
        assert "var(--c1f2328)" in svg
        without_style = re.sub(r"<style>.*?</style>", "", svg, flags=re.DOTALL)
        assert not any(light in without_style for light in DARK_COLOURS)


def test_import_loads_no_large_libraries() -> None:
    code = "import sys, mmduet.reports; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "matplotlib", "numpy", "av", "PIL", "jinja2"}.isdisjoint(done.stdout.split())


def test_at_most_fifty_problems_are_listed(tmp_path: Path) -> None:
    problems = [Problem(f"id{k}", "no prediction", "0" if k < 57 else "left out") for k in range(60)]
    page = write_and_read(tmp_path, replace(REPORT, problems=problems))
    assert (
        "60 predictions are missing or could not be used as given. 57 counted as 0 , 3 counted as left out ."
        in page.text
    )
    assert "and 10 more." in page.text
    assert "id49" in page.text
    assert "id50" not in page.text
    assert {"open": None} not in page.attributes_of("details")
    assert {"open": None} in write_and_read(tmp_path, replace(REPORT, problems=problems[:3])).attributes_of("details")


def test_worst_items_prefer_items_with_a_prediction() -> None:
    report = Report("grounding", {"mIoU": 1.0}, items(5.0, 0.0, math.nan, 0.0, 9.0, 0.0))
    is_predicted = {"q3", "q4"}.__contains__
    chosen = worst_items(report, "mIoU", 4, lambda item: is_predicted(item["id"]))
    assert [item["id"] for item in chosen] == ["q3", "q1", "q5", "q0"]
    assert len(worst_items(report, "mIoU", 99, lambda item: True)) == 5


def test_equally_bad_items_are_counted(tmp_path: Path) -> None:
    report = Report("grounding", {"mIoU": 1.0}, items(0.0, 0.0, 0.0, 9.0))
    page = write_and_read(tmp_path, report, worst=2)
    assert "The 2 items with the lowest mIoU . 1 more also have 0.00" in page.text
    assert page.count_class("case") == 2
    assert "more also have" not in write_and_read(tmp_path, report, worst=3).text
    assert "The item with" in write_and_read(tmp_path, report, worst=1).text
    assert "Worst cases" not in write_and_read(tmp_path, report, worst=0).text


def test_case_shows_the_contents_of_the_files(tmp_path: Path) -> None:
    gold = {"question_id": 7, "video": "v.mp4", "timestamps": [[2, 4], [6, 7.5]]}
    gold["conversation"] = [{"role": "user", "content": "When does it rain?", "time": 0}]
    predicted = prediction_line(7, (9.0, "late"), (3.0, "it rains"))
    predicted["debug_data"] = [{"time": t / 2, "relevance_score": 0.1, "informative_score": 0.2} for t in range(20)]
    report = Report("grounding", {"mIoU": 12.5}, [{"id": 7, "mIoU": 12.5, "R1@0.3": 0.0, "causal-mIoU": 1.0}])
    page = write_and_read(
        tmp_path,
        report,
        predictions=write_json_lines(tmp_path / "p.jsonl", [predicted]),
        annotations=write_json_file(tmp_path / "a.json", [gold]),
    )
    for text in (
        "When does it rain?",
        "6 s \N{EN DASH} 7.5 s",
        "1 3 s it rains 2 9 s late",
        "R1@0.3 0.00",
        "causal-mIoU 1.00",
    ):
        assert text in page.text
    (timeline,) = (attrs for attrs in page.attributes_of("img") if attrs.get("class") == "line")
    assert timeline["alt"] == "Timeline of 30.0 s: relevance scores, informative scores, 2 gold spans, 2 replies"
    legend = [attrs["class"] for attrs in page.attributes_of("span") if "swatch" in (attrs.get("class") or "")]
    assert legend == [f"swatch {name}" for name in ("relevance", "informative", "gold", "reply", "query")]
    assert page.count_class("film") == 0


def test_case_without_rows_has_a_remark(tmp_path: Path) -> None:
    page = write_and_read(tmp_path, REPORT, worst=1)
    assert "The files contain nothing about this item." in page.text
    empty = write_json_file(tmp_path / "p.json", {"q0": {"timestamp": []}})
    assert "Prediction empty" in write_and_read(tmp_path, REPORT, predictions=empty, worst=1).text


def test_proactive_item_shows_one_gold_answer(tmp_path: Path) -> None:
    report = Report("proactive", {"PAUC@0.5": 25.0}, [{"id": "q#1", "PAUC@0.5": 25.0}])
    gold = gold_entry("q", ([0, 4], "it opens"), ([6, 10], "it closes"))
    page = write_and_read(tmp_path, report, annotations=write_json_file(tmp_path / "a.json", [gold]))
    assert "it closes" in page.text
    assert "it opens" not in page.text


def test_gold_answers_of_a_prediction_file_are_shown(tmp_path: Path) -> None:
    report = Report("ovo", {"EPM": 0.0}, [{"id": 4, "task": "EPM", "accuracy": 0.0}])
    results = {"backward": [{"id": 4, "task": "EPM", "response": "it is B", "ground_truth": "A"}]}
    page = write_and_read(tmp_path, report, predictions=write_json_file(tmp_path / "r.json", results))
    assert "EPM 4 accuracy 0.00 Gold A Prediction it is B" in page.text


def test_several_annotation_files_are_combined(tmp_path: Path) -> None:
    sets = [{"v": {"timestamps": [[0, 1]], "sentences": [f"caption of {who}"]}} for who in ("one", "two")]
    paths = [write_json_file(tmp_path / f"{k}.json", gold) for k, gold in enumerate(sets)]
    report = Report("dense_captioning", {"SODA_c": 1.0}, [{"id": "v", "SODA_c": 1.0}])
    page = write_and_read(tmp_path, report, annotations=paths)
    assert "caption of one" in page.text
    assert "caption of two" in page.text


def test_long_texts_and_lists_are_truncated(tmp_path: Path) -> None:
    predicted = prediction_line("q0", *((float(k), f"reply {k} " + "x" * 2000) for k in range(100)))
    page = write_and_read(tmp_path, REPORT, predictions=write_json_lines(tmp_path / "p.jsonl", [predicted]), worst=1)
    assert "reply 28 " in page.text
    assert "reply 29 " not in page.text
    assert "and 71 more" in page.text
    assert "x" * 601 not in page.text


def test_case_has_the_film_strip_of_its_video(tmp_path: Path) -> None:
    write_brightening_video(tmp_path / "v.mp4", 8.0)
    gold = [
        {"question_id": f"q{k}", "video": name, "timestamps": [[1, 2]]} for k, name in enumerate(["v.mp4", "gone.mp4"])
    ]
    report = Report("grounding", {"mIoU": 1.0}, items(1.0, 2.0))
    page = write_and_read(tmp_path, report, annotations=write_json_file(tmp_path / "a.json", gold), videos=tmp_path)
    assert page.count_class("film") == 1
    assert "The video gone.mp4 is not in the folder." in page.text
    timelines = [attrs["alt"] or "" for attrs in page.attributes_of("img") if attrs.get("class") == "line"]
    assert timelines == [
        "Timeline of 8.0 s: 1 gold span",
        "Timeline of 2.0 s: 1 gold span",
    ]  # the duration of the video, if it exists


def test_report_of_a_grounding_evaluation(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    gold = [{"question_id": f"q{k}", "video": "v.mp4", "timestamps": [[2, 5]]} for k in range(4)]
    predicted = [
        {
            **prediction_line(f"q{k}"),
            "debug_data": [{"time": t / 2, "relevance_score": float(rng.random())} for t in range(40)],
        }
        for k in range(3)
    ]
    files = {
        "predictions": write_json_lines(tmp_path / "p.jsonl", predicted),
        "annotations": write_json_file(tmp_path / "a.json", gold),
    }
    page = write_and_read(tmp_path, grounding.evaluate(**files), **files)
    assert page.count_class("with-badge") == 3
    assert len(page.attributes_of("img")) == 4 + 2 + 4
    assert "no prediction (counted as IoU 0)" in page.text


@needs_shared
@pytest.mark.parametrize(
    ("evaluate", "predictions", "annotations", "texts"),
    [
        (
            grounding.evaluate,
            "temporal_grounding/timechat_example_preds.json",
            "temporal_grounding/charades_test_gt.json",
            [
                "3,720",
                "3,220 predictions are missing or could not be used",
                "and 3,170 more.",
                "person runs up the stairs.",
            ],
        ),
        (
            qvhighlights.evaluate,
            "qvhighlights/timechat_val_preds.jsonl",
            "qvhighlights/highlight_val_release.jsonl",
            ["1,550", "predicted saliency", "ratings, darker is higher"],
        ),
        (ovo.evaluate, "ovo_bench/results_Gemini.json", None, ["OVO-Bench", "Backward", "Gold"]),
    ],
)
def test_reports_of_published_predictions(
    tmp_path: Path, evaluate: Callable[..., Report], predictions: str, annotations: str | None, texts: list[str]
) -> None:
    files = {"predictions": SHARED / predictions, "annotations": SHARED / annotations if annotations else None}
    page = write_and_read(tmp_path, evaluate(**files), **files)
    assert [text for text in texts if text not in page.text] == []
    assert page.count_class("case") == 8
    assert (tmp_path / "page.html").stat().st_size < 500_000
