"""The timeline of an item: numbered turns, and drawing without errors."""

from __future__ import annotations

from xml.etree import ElementTree

from html_pages import decode_svg
from hypothesis import given, settings
from hypothesis import strategies as st

from mmduet.spans import CaptionedSpan
from mmduet.viz.item_timeline import (
    ScoreCurve,
    TimelineContent,
    Turn,
    draw_timeline,
    number_turns,
)

times = st.floats(-10, 1e7) | st.sampled_from([0.0, 1e-320, 0.011, 1e7])
spans = st.lists(st.tuples(times, times).map(lambda pair: CaptionedSpan(min(pair), max(pair), "")), max_size=8).map(
    tuple
)
curves = st.lists(st.tuples(times, st.floats(-1e12, 1e12) | st.floats(0, 1)), min_size=1, max_size=6).map(
    lambda points: ScoreCurve("relevance", *zip(*sorted(points), strict=True))
)


@given(
    spans,
    spans,
    st.lists(times.map(lambda time: Turn(time, time < 5, "x")), max_size=6).map(tuple),
    st.none() | curves,
)
@settings(max_examples=15)
def test_any_content_is_drawn(
    gold: tuple[CaptionedSpan, ...],
    predicted: tuple[CaptionedSpan, ...],
    turns: tuple[Turn, ...],
    curve: ScoreCurve | None,
) -> None:
    content = TimelineContent(gold, predicted, (), (curve,) if curve else (), turns)
    ends = [span.end for span in gold + predicted] + [turn.time for turn in turns]
    duration = max(0.0, *ends, curve.times[-1] if curve else 0.0)
    image = draw_timeline(content, duration)
    has_reply = any(not turn.is_user and turn.time >= 0 for turn in turns)
    if image is not None:
        ElementTree.fromstring(decode_svg(image.src))
    else:
        assert duration < 0.011 or not (gold or predicted or curve or has_reply)


def test_turns_are_numbered_by_time() -> None:
    turns = [Turn(5.0, False, "b"), Turn(-1.0, False, "c"), Turn(1.0, False, "a"), Turn(0.0, True, "q")]
    assert [(label, turn.text) for label, turn in number_turns(turns)] == [
        ("Q", "q"),
        ("1", "a"),
        ("2", "b"),
        ("3", "c"),
    ]
