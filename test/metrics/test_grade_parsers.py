"""Grades in a judge's replies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.metrics.grade_parsers import GRADE_PARSERS


@pytest.mark.parametrize(
    ("reply", "expected"),
    # only_number, first_number, last_number, first_character, last_character, whole_number
    [
        ("4", (4, 4, 4, 4, 4, 4)),
        ("4\n", (4, 4, 4, 4, None, 4)),
        ("Score: 4", (4, 4, 4, None, 4, None)),
        ("**4**", (4, 4, 4, None, None, None)),
        ("4/5", (4, 4, 4, 4, 5, None)),
        ("4 out of 5.", (4, 4, 4, 4, None, None)),
        ("4.0", (4, 4, 4, 4, None, None)),
        ("5: a perfect match", (5, 5, 5, 5, None, None)),
        ("2 of 3 are reported: 4", (None, 2, 4, 2, 4, None)),
        ("3 or 4", (None, 3, 4, 3, 4, None)),
        ("3-4", (None, None, None, 3, 4, None)),
        ("4.5", (None, None, None, 4, 5, None)),
        ("12", (None, None, None, 1, 2, None)),
        ("0", (None, None, None, None, None, None)),
        ("six", (None, None, None, None, None, None)),
        ("", (None, None, None, None, None, None)),
    ],
)
def test_every_parser_by_hand(reply: str, expected: tuple[int | None, ...]) -> None:
    assert tuple(parse(reply, 5) for parse in GRADE_PARSERS.values()) == expected


@given(st.text(max_size=40), st.sampled_from(sorted(GRADE_PARSERS)), st.integers(1, 5))
def test_grades_lie_on_the_scale(reply: str, parser: str, max_grade: int) -> None:
    assert GRADE_PARSERS[parser](reply, max_grade) in (None, *range(1, max_grade + 1))
