"""Embedded images: colours that follow the reader's mode, and round ticks."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.viz.embedded_image import DARK_COLOURS, round_ticks


def test_dark_colours_are_distinct() -> None:
    assert len(set(DARK_COLOURS.values())) == len(DARK_COLOURS)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for pair in DARK_COLOURS.items() for colour in pair)


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("side", [0, 1], ids=["light", "dark"])
def test_contrast_is_sufficient_in_both_modes(side: int) -> None:
    background, text, muted, _, *marks = [pair[side] for pair in DARK_COLOURS.items()]
    assert min(contrast(background, colour) for colour in (text, muted)) >= 4.5
    assert min(contrast(background, mark) for mark in marks) >= 3


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e12), st.integers(1, 12))
def test_ticks_are_limited_and_within_the_range(low: float, length: float, max_steps: int) -> None:
    high = low + length
    ticks = round_ticks(low, high, max_steps)
    tolerance = 1e-6 * length
    assert len(ticks) <= max_steps + 1
    assert all(low - tolerance <= tick <= high + tolerance for tick in ticks)
    assert all(a < b for a, b in pairwise(ticks))
