"""R@k/N of audio description."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.metrics.audio_description import mean_over_movies, recall_at_k_in_n, top_k_recall, windows


def test_windows_overlap_by_half_and_omit_the_tail() -> None:
    assert [(w.start, w.stop) for w in windows(10, 4)] == [(0, 4), (2, 6), (4, 8), (6, 10)]
    assert [(w.start, w.stop) for w in windows(11, 4)][-1] == (6, 10)
    assert list(windows(3, 4)) == []


def test_top_k_recall_by_hand() -> None:
    similarity = np.array(
        [
            [0.9, 0.1, 0.2],  # itself first
            [0.5, 0.4, 0.3],  # itself second
            [0.5, 0.4, 0.3],  # itself third
        ]
    )
    assert [top_k_recall(similarity, k) for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])
    assert top_k_recall(np.zeros((3, 3)), 1) == pytest.approx(1 / 3)  # the first of equal columns ranks higher


def test_recall_at_k_in_n_by_hand() -> None:
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
