"""Audio description: metrics, supported files, and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmduet.errors import AnnotationError
from mmduet.evaluation.benchmarks.audio_description import evaluate
from mmduet.evaluation.scorers.meteor import Meteor
from mmduet.evaluation.scorers.sentence_similarity import SimilarityMatrix, read_similarities
from mmduet.metrics.captions import Candidate, score_captions


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def rows(movie: str, count: int, text: str = "She runs {}.") -> list[dict[str, Any]]:
    return [{"movie": movie, "start": 10 * i, "end": 10 * i + 4.5, "text": text.format(i)} for i in range(count)]


@pytest.mark.slow
def test_all_movies_form_one_corpus(meteor: Meteor, tmp_path: Path) -> None:
    gold = [*rows("a", 2, "She runs to house {}."), *rows("b", 2, "He eats {} apples.")]
    generated = [*rows("a", 2, "A woman runs to house {}."), *rows("b", 2, "He eats {} pears.")]
    report = evaluate(write(tmp_path / "p.json", generated[::-1]), write(tmp_path / "a.json", gold), meteor=meteor)
    pairs = [
        Candidate("a woman runs to house 0", ("she runs to house 0",)),
        Candidate("a woman runs to house 1", ("she runs to house 1",)),
        Candidate("he eats 0 pears", ("he eats 0 apples",)),
        Candidate("he eats 1 pears", ("he eats 1 apples",)),
    ]
    (scores,) = score_captions([pairs], meteor)
    names = ("CIDEr", "ROUGE_L", "METEOR", "Bleu_4")
    assert report.metrics == pytest.approx({name: 100 * scores.corpus[name] for name in names})
    assert report.metrics["CIDEr"] > 0
    assert report.items == [{"id": "a", "descriptions": 2}, {"id": "b", "descriptions": 2}]
    assert any("R@1/16" in note and ".npz" in note for note in report.notes)


def exact_similarities(generated: list[dict[str, Any]], gold: list[dict[str, Any]]) -> dict[str, SimilarityMatrix]:
    """Return 1 for equal texts and 0 for others, by movie."""
    return {
        movie: np.array(
            [
                [float(one["text"] == other["text"]) for other in gold if other["movie"] == movie]
                for one in generated
                if one["movie"] == movie
            ]
        )
        for movie in {row["movie"] for row in gold}
    }


def test_recall_is_the_mean_over_movies(meteor: Meteor, tmp_path: Path) -> None:
    gold = [*rows("a", 17), *rows("b", 24), *rows("c", 3)]
    generated = [*rows("a", 17), *rows("b", 24, "She walks {}."), *rows("c", 3)]
    generated[16]["text"] = "after the only window"
    files = write(tmp_path / "p.json", generated), write(tmp_path / "a.json", gold)
    report = evaluate(*files, similarity=exact_similarities(generated, gold), meteor=meteor)
    # a: all texts are equal. b: no text is equal, so the first k columns are taken, 1 and 5 of 16 rows
    assert report.metrics["R@1/16"] == pytest.approx(100 * (1 + 1 / 16) / 2)
    assert report.metrics["R@5/16"] == pytest.approx(100 * (1 + 5 / 16) / 2)
    assert report.items[0] == {"id": "a", "descriptions": 17, "R@1/16": 100, "R@5/16": 100}
    assert [(p.id, p.counted_as) for p in report.problems] == [("c", "nothing in R@k/16: left out")]


def test_precomputed_similarities_are_used(meteor: Meteor, tmp_path: Path) -> None:
    gold = write(tmp_path / "a.json", rows("a", 16))
    np.savez(tmp_path / "s.npz", a=np.eye(16)[::-1])
    similarity = read_similarities(tmp_path / "s.npz")
    report = evaluate(gold, gold, similarity=similarity, strict=True, meteor=meteor)
    # row i has its highest in column 15 - i, and of the equal rest the first: rows 0 to 3 (k = 5) or 0 to 4
    assert report.metrics["R@1/16"] == 0
    assert report.metrics["R@5/16"] == pytest.approx(100 * 4 / 16)
    for wrong, message in (
        ({}, "the similarities lack movie 'a'; they have "),
        ({"a": np.eye(15)}, r"the similarities of 'a' must have shape \(16, 16\), got \(15, 15\)"),
    ):
        with pytest.raises(AnnotationError, match=message):
            evaluate(gold, gold, similarity=wrong, meteor=meteor)


def test_recall_is_not_defined_if_all_movies_are_too_short(meteor: Meteor, tmp_path: Path) -> None:
    gold = write(tmp_path / "a.json", rows("a", 15))
    report = evaluate(gold, gold, similarity={}, meteor=meteor)
    assert not any(name.startswith("R@") for name in report.metrics)
    assert any("not defined" in note for note in report.notes)


@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
@pytest.mark.parametrize("count", [1, 3])
def test_every_kind_of_file_is_read(name: str, count: int, meteor: Meteor, tmp_path: Path) -> None:
    gold = rows("a", count)
    table = {"a": [{k: v for k, v in row.items() if k != "movie"} for row in gold]}
    lines = write(tmp_path / name, "\n".join(map(json.dumps, gold)))
    report = evaluate(lines, write(tmp_path / "a.json", table), strict=True, meteor=meteor)
    assert report.metrics["METEOR"] == pytest.approx(100)


def test_missing_and_unknown_slots_are_reported(meteor: Meteor, tmp_path: Path) -> None:
    gold = write(tmp_path / "a.json", [*rows("a", 2), *rows("b", 1)])
    generated = [rows("a", 1)[0], {"movie": "a", "start": 1, "end": 2, "text": "x"}, *rows("z", 1)]
    predictions = write(tmp_path / "p.json", generated)
    report = evaluate(predictions, gold, meteor=meteor)
    assert [(p.id, p.counted_as) for p in report.problems] == [
        ("b", "empty descriptions"),
        ("z", "nothing: left out"),
        ("a 10.0-14.5", "an empty description"),
        ("a 1.0-2.0", "nothing: left out"),
    ]
    assert report.metrics["ROUGE_L"] == pytest.approx(100 / 3)
    with pytest.raises(AnnotationError, match=r"4 predictions have problems \(fix them, or leave out --strict\):"):
        evaluate(predictions, gold, strict=True, meteor=meteor)


ROW = {"movie": "a", "start": 0, "end": 4.5, "text": "x"}


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ("[]", r"p\.json is empty; check that it is the right file"),
        ("x", r"p\.json is not JSON"),
        ([ROW, ROW], r"p\.json, entry 1: 'a' has two descriptions from 0\.0 to 4\.5 s; keep one"),
        ([ROW | {"end": -1}], r"p\.json, entry 0: the slot ends at -1\.0 s before it starts at 0\.0 s; swap its ends"),
        ([ROW | {"start": None}], r"p\.json, entry 0: start is None, expected a finite number"),
        ([ROW | {"text": 3}], r"p\.json, entry 0: text is 3, expected a text"),
        (
            [{"movie": "a", "start": 0, "end": 1}],
            r"p\.json, entry 0: missing one of text, caption in \{'movie': 'a', 'start': 0, 'end': 1\}",
        ),
        ([{"start": 0}], r"p\.json, entry 0: missing movie in \{'start': 0\}"),
        ([ROW | {"movie": None}], r"p\.json, entry 0: movie is None, expected a text or a whole number"),
        ({"a": {}}, r"p\.json, 'a': the list of descriptions is \{\}, expected a list"),
        ({"a": [3]}, r"p\.json, 'a', entry 0: missing start in 3"),
        (
            [ROW | {"movie": "z"}],
            r"a\.json have no id in common \(for example 'z' and 'a'\); give predictions and annotations of the same split",
        ),
    ],
)
def test_invalid_files_are_rejected(predictions: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=message) as caught:
        evaluate(write(tmp_path / "p.json", predictions), write(tmp_path / "a.json", [ROW]))
    assert "p.json" in str(caught.value)


def test_invalid_similarities_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"is not a readable \.npz file \(.*\); write it with numpy\.savez"):
        read_similarities(tmp_path / "none.npz")
    with pytest.raises(AnnotationError, match=r"is not a readable \.npz file \(.*\); write it with numpy\.savez"):
        read_similarities(write(tmp_path / "s.npz", "text"))
    np.save(tmp_path / "one.npy", np.eye(2))
    with pytest.raises(AnnotationError, match=r"is not a readable \.npz file \(.*\); write it with numpy\.savez"):
        read_similarities(tmp_path / "one.npy")
    np.savez(tmp_path / "nan.npz", a=np.full((2, 2), np.nan))
    with pytest.raises(AnnotationError, match=r"nan\.npz: a must be a matrix without NaN, got shape \(2, 2\)"):
        read_similarities(tmp_path / "nan.npz")
