"""CIDEr, ROUGE-L and BLEU of captions, worked out by hand."""

from __future__ import annotations

import pytest

from mmduet.metrics.captions import Candidate, bleu, cider, rouge_l


def test_cider_by_hand() -> None:
    # N = 2, every n-gram is in one item's references: all weights are ln 2.
    # "a b" / "a b": cosine 1 for 1- and 2-grams, 0 for 3- and 4-grams: 10 * 2/4 = 5
    # "c d" / "c e": ln2^2 / (sqrt(2) ln2 * sqrt(2) ln2) = 1/2 for 1-grams, 0 else: 10 * 1/8 = 1.25
    total, each = cider([Candidate("a b", ("a b",)), Candidate("c d", ("c e",))])
    assert each == pytest.approx([5, 1.25])
    assert total == pytest.approx(3.125)


def test_cider_of_one_item_or_of_nothing_is_0() -> None:
    assert cider([Candidate("a b", ("a b",))]) == (0.0, [0.0])
    assert cider([Candidate("a", ("",)), Candidate("", ("",))]) == (0.0, [0.0, 0.0])
    assert cider([]) == (0.0, [])


def test_rouge_l_by_hand() -> None:
    # LCS "a c" has 2 words: P = 2/3; R = 2/2 from the first reference; F = 2.44 * P * R / (R + 1.44 * P)
    total, each = rouge_l([Candidate("a b c", ("a c", "x y"))])
    assert total == each[0] == pytest.approx(2.44 * 2 / 3 / (1 + 1.44 * 2 / 3))
    assert rouge_l([Candidate("", ("a",))])[0] == 0.0
    assert rouge_l([]) == (0.0, [])


def test_bleu_by_hand() -> None:
    # 3 of 4 words, 2 of 3 pairs, 1 of 2 triples, none of 1 quadruple; lengths are equal
    totals = [total for total, _ in bleu([Candidate("a b c d", ("a b c e",))])]
    assert totals[:3] == pytest.approx(
        [3 / 4, (3 / 4 * 2 / 3) ** (1 / 2), (3 / 4 * 2 / 3 * 1 / 2) ** (1 / 3)], abs=1e-6
    )
    assert totals[3] < 1e-3
    assert bleu([]) == [(0.0, [])] * 4
