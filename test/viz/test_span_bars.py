"""Lanes of span bars, and their drawing."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from mmduet.spans import Span
from mmduet.viz.span_bars import assign_lanes, draw_span_bars, lane_count

times = st.floats(-10, 1e7) | st.sampled_from([0.0, 1e-320, 0.011, 1e7])
spans = st.lists(st.tuples(times, times).map(lambda pair: Span(min(pair), max(pair))), max_size=8)


@given(spans, st.sampled_from([0.0, 0.1]), st.none() | st.integers(1, 6))
def test_spans_in_a_lane_do_not_overlap(spans: list[Span], tolerance: float, max_lanes: int | None) -> None:
    lanes = assign_lanes(spans, tolerance, max_lanes)
    assert lane_count(lanes) <= (max_lanes or len(spans))
    if max_lanes is None or len(spans) <= max_lanes:
        assert None not in lanes
    for lane in range(lane_count(lanes)):
        placed = sorted(span for span, its_lane in zip(spans, lanes, strict=True) if its_lane == lane)
        assert placed
        assert all(before.end <= after.start + tolerance for before, after in pairwise(placed))


def test_a_span_takes_the_first_free_lane() -> None:
    spans = [Span(0, 5), Span(1, 3), Span(2, 9), Span(3, 4), Span(5, 6), Span(6, 6), Span(6, 6)]
    assert assign_lanes(spans) == [0, 1, 2, 1, 0, 0, 1]
    assert assign_lanes(spans, max_lanes=2) == [0, 1, None, 1, 0, 0, 1]
    assert assign_lanes([]) == []
    assert lane_count([]) == 0


@pytest.mark.parametrize("spans", [[], [Span(0, 4), Span(1, 1.01), Span(2, 9)]])
def test_every_span_has_a_numbered_bar(spans: list[Span]) -> None:
    axes = Figure().add_axes((0, 0, 1, 1))
    draw_span_bars(axes, spans, assign_lanes(spans), 10.0, 10.5)
    assert [text.get_text() for text in axes.texts] == [str(number) for number in range(1, len(spans) + 1)]
    assert len(axes.patches) == len(spans)
