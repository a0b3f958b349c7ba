"""Audio description: by hand, and with files that are wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.benchmarks.audio_description import evaluate
from mmduet.evaluation.scorers.meteor import Meteor
from mmduet.evaluation.scorers.sentence_similarity import SimilarityMatrix, load_bert_score, read_similarities
from mmduet.metrics.audio_description import mean_over_movies, recall_at_k_in_n, top_k_recall, windows
from mmduet.metrics.captions import Candidate, score_captions


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def rows(movie: str, count: int, text: str = "She runs {}.") -> list[dict[str, Any]]:
    return [{"movie": movie, "start": 10 * i, "end": 10 * i + 4.5, "text": text.format(i)} for i in range(count)]


# By hand


def test_windows_overlap_by_half_and_leave_a_tail() -> None:
    assert [(w.start, w.stop) for w in windows(10, 4)] == [(0, 4), (2, 6), (4, 8), (6, 10)]
    assert [(w.start, w.stop) for w in windows(11, 4)][-1] == (6, 10)
    assert list(windows(3, 4)) == []


def test_hits_by_hand() -> None:
    similarity = np.array(
        [
            [0.9, 0.1, 0.2],  # itself first
            [0.5, 0.4, 0.3],  # itself second
            [0.5, 0.4, 0.3],  # itself third
        ]
    )
    assert [top_k_recall(similarity, k) for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])
    assert top_k_recall(np.zeros((3, 3)), 1) == pytest.approx(1 / 3)  # of equals the first: saying nothing does not win


def test_recall_by_hand() -> None:
    # windows 0-3 (all but the last row hit), 2-5 (rows 2 and 4 hit, row 3 and 5 do not): 3/4 and 2/4
    similarity = np.eye(6)
    similarity[3] = [0, 0, 1, 0, 0, 0]
    similarity[5] = [1, 1, 1, 0, 0, 0]
    assert recall_at_k_in_n(similarity, 1, 4) == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert mean_over_movies([similarity, np.eye(40)], 1, 4) == pytest.approx((5 / 8 + 1) / 2)
    with pytest.raises(ValueError, match="a movie needs at least 4 descriptions, got 3"):
        recall_at_k_in_n(np.eye(3), 1, 4)


@given(st.integers(4, 12), st.integers(0, 99))
def test_recall_grows_with_k_up_to_all(size: int, seed: int) -> None:
    similarity = np.random.default_rng(seed).random((size, size))
    recalls = [recall_at_k_in_n(similarity, k, 4) for k in range(1, 5)]
    assert recalls == sorted(recalls)
    assert recalls[-1] == 1


# The benchmark


def test_all_movies_are_one_corpus(meteor: Meteor, tmp_path: Path) -> None:
    true = [*rows("a", 2, "She runs to house {}."), *rows("b", 2, "He eats {} apples.")]
    told = [*rows("a", 2, "A woman runs to house {}."), *rows("b", 2, "He eats {} pears.")]
    report = evaluate(write(tmp_path / "p.json", told[::-1]), write(tmp_path / "a.json", true), meteor=meteor)
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


def same(generated: Sequence[str], true: Sequence[str]) -> SimilarityMatrix:
    assert len(generated) == len(true) == 16
    return np.array([[float(g == t) for t in true] for g in generated])


def test_recall_of_movies(meteor: Meteor, tmp_path: Path) -> None:
    true = write(tmp_path / "a.json", [*rows("a", 17), *rows("b", 24), *rows("c", 3)])
    told = [*rows("a", 17), *rows("b", 24, "She walks {}."), *rows("c", 3)]
    told[16]["text"] = "after the only window"
    report = evaluate(write(tmp_path / "p.json", told), true, similarity=same, meteor=meteor)
    # a: all right. b: nothing is like anything: the first k columns are taken, 1 and 5 of 16 rows
    assert report.metrics["R@1/16"] == pytest.approx(100 * (1 + 1 / 16) / 2)
    assert report.metrics["R@5/16"] == pytest.approx(100 * (1 + 5 / 16) / 2)
    assert report.items[0] == {"id": "a", "descriptions": 17, "R@1/16": 100, "R@5/16": 100}
    assert [(p.id, p.counted_as) for p in report.problems] == [("c", "nothing in R@k/16: left out")]


def test_precomputed_similarities(meteor: Meteor, tmp_path: Path) -> None:
    true = write(tmp_path / "a.json", rows("a", 16))
    np.savez(tmp_path / "s.npz", a=np.eye(16)[::-1])
    similarity = read_similarities(tmp_path / "s.npz")
    report = evaluate(true, true, similarity=similarity, strict=True, meteor=meteor)
    # row i has its highest in column 15 - i, and of the equal rest the first: rows 0 to 3 (k = 5) or 0 to 4
    assert report.metrics["R@1/16"] == 0
    assert report.metrics["R@5/16"] == pytest.approx(100 * 4 / 16)
    for wrong, message in (
        ({}, "the similarities lack movie 'a'; they have "),
        ({"a": np.eye(15)}, r"the similarities of 'a' must have shape \(16, 16\), got \(15, 15\)"),
    ):
        with pytest.raises(AnnotationError, match=message):
            evaluate(true, true, similarity=wrong, meteor=meteor)


def test_all_movies_too_short(meteor: Meteor, tmp_path: Path) -> None:
    true = write(tmp_path / "a.json", rows("a", 15))
    report = evaluate(true, true, similarity=same, meteor=meteor)
    assert not any(name.startswith("R@") for name in report.metrics)
    assert any("not defined" in note for note in report.notes)


@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
@pytest.mark.parametrize("count", [1, 3])
def test_kinds_of_files(name: str, count: int, meteor: Meteor, tmp_path: Path) -> None:
    true = rows("a", count)
    table = {"a": [{k: v for k, v in row.items() if k != "movie"} for row in true]}
    lines = write(tmp_path / name, "\n".join(map(json.dumps, true)))
    report = evaluate(lines, write(tmp_path / "a.json", table), strict=True, meteor=meteor)
    assert report.metrics["METEOR"] == pytest.approx(100)


def test_missing_and_unknown_slots(meteor: Meteor, tmp_path: Path) -> None:
    true = write(tmp_path / "a.json", [*rows("a", 2), *rows("b", 1)])
    told = [rows("a", 1)[0], {"movie": "a", "start": 1, "end": 2, "text": "x"}, *rows("z", 1)]
    predictions = write(tmp_path / "p.json", told)
    report = evaluate(predictions, true, meteor=meteor)
    assert [(p.id, p.counted_as) for p in report.problems] == [
        ("b", "empty descriptions"),
        ("z", "nothing: left out"),
        ("a 10.0-14.5", "an empty description"),
        ("a 1.0-2.0", "nothing: left out"),
    ]
    assert report.metrics["ROUGE_L"] == pytest.approx(100 / 3)
    with pytest.raises(AnnotationError, match=r"4 predictions have problems \(fix them, or leave out --strict\):"):
        evaluate(predictions, true, strict=True, meteor=meteor)


ROW = {"movie": "a", "start": 0, "end": 4.5, "text": "x"}


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ("[]", "is empty"),
        ("x", "not JSON"),
        ([ROW, ROW], "two descriptions from"),
        ([ROW | {"end": -1}], "before it starts"),
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
        ([ROW | {"movie": "z"}], "have no id in common"),
    ],
)
def test_invalid_files_raise(predictions: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=message) as caught:
        evaluate(write(tmp_path / "p.json", predictions), write(tmp_path / "a.json", [ROW]))
    assert "p.json" in str(caught.value)


def test_invalid_similarities_raise(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"is not a readable \.npz"):
        read_similarities(tmp_path / "none.npz")
    with pytest.raises(AnnotationError, match=r"is not a readable \.npz"):
        read_similarities(write(tmp_path / "s.npz", "text"))
    np.save(tmp_path / "one.npy", np.eye(2))
    with pytest.raises(AnnotationError, match=r"is not a readable \.npz"):
        read_similarities(tmp_path / "one.npy")
    np.savez(tmp_path / "nan.npz", a=np.full((2, 2), np.nan))
    with pytest.raises(AnnotationError, match="NaN"):
        read_similarities(tmp_path / "nan.npz")


def test_bert_score_is_not_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "bert_score", None)
    with pytest.raises(OptionError, match="pip install bert-score"):
        load_bert_score(tmp_path)
    monkeypatch.setitem(sys.modules, "bert_score", SimpleNamespace(__file__="x/__init__.py"))
    with pytest.raises(OptionError, match="none is not a directory; give the directory of roberta-large"):
        load_bert_score(tmp_path / "none")
