"""Policies fire exactly as defined, and are pure and causal."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.engine.policy import PolicyState, decide
from mmduet.errors import OptionError
from mmduet.events import Scores
from mmduet.options import DecodeOptions, SessionOptions, SpeakOptions

BOTH = ("informative", "relevance")


def reply_frames(options: SpeakOptions, pairs: list[tuple[float, float]], gap: float = 0.5) -> list[int]:
    """Return the frames at which the policy fires."""
    state, fired = PolicyState(), []
    for i, (informative, relevance) in enumerate(pairs):
        state, fires = decide(options, state, Scores(i, i * gap, informative, relevance))
        fired += [i] * fires
    return fired


def pairs_with(values: list[float]) -> list[tuple[float, float]]:
    return [(v, 0.9) for v in values]


def test_threshold_policy_fires_above_its_value() -> None:
    assert reply_frames(SpeakOptions("threshold", 0.5), pairs_with([0.4, 0.5, 0.51, 0.9])) == [2, 3]


def test_sum_policy_restarts_when_it_fires() -> None:
    assert reply_frames(SpeakOptions("sum", 2.0), pairs_with([0.5] * 12)) == [4, 9]
    assert reply_frames(SpeakOptions("sum", 1.0), pairs_with([0.9, 0.9, 0.2, 0.9])) == [1, 3]


def test_never_policy_does_not_fire() -> None:
    assert reply_frames(SpeakOptions("never", 0.0), pairs_with([1.0] * 5)) == []


def test_scores_of_the_heads_are_added() -> None:
    pairs = [(0.3, 0.3), (0.9, 0.0), (0.0, 0.9), (0.5, 0.5)]
    assert reply_frames(SpeakOptions("threshold", 0.8, BOTH), pairs) == [1, 2, 3]
    assert reply_frames(SpeakOptions("threshold", 0.8, ("relevance",)), pairs) == [2]


def test_min_interval_counts_from_the_last_reply() -> None:
    assert reply_frames(SpeakOptions("threshold", 0.5, min_interval=1.5), pairs_with([0.9] * 8)) == [0, 3, 6]
    assert reply_frames(SpeakOptions("threshold", 0.5, min_interval=0.3), pairs_with([0.9] * 13), gap=0.1) == [
        0,
        3,
        6,
        9,
        12,
    ]


def test_sum_policy_fires_as_soon_as_the_minimum_interval_is_over() -> None:
    assert reply_frames(SpeakOptions("sum", 1.0, min_interval=2.0), pairs_with([0.6] * 8)) == [1, 5]


POLICIES = st.builds(
    SpeakOptions, st.sampled_from(["threshold", "sum", "never"]), st.floats(0, 3),
    st.sampled_from([("informative",), ("relevance",), BOTH]), st.floats(0, 3),
)  # fmt: skip
PAIRS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=25)


@given(POLICIES, PAIRS, PAIRS)
def test_decisions_do_not_depend_on_later_frames(
    options: SpeakOptions, past: list[tuple[float, float]], future: list[tuple[float, float]]
) -> None:
    assert [i for i in reply_frames(options, past + future) if i < len(past)] == reply_frames(options, past)
    assert reply_frames(options, past) == reply_frames(options, past)


@given(POLICIES, PAIRS)
def test_replies_are_at_least_the_minimum_interval_apart(
    options: SpeakOptions, pairs: list[tuple[float, float]]
) -> None:
    fired = reply_frames(options, pairs)
    assert all((b - a) * 0.5 >= options.min_interval - 1e-6 for a, b in itertools.pairwise(fired))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("threshold:0.25", SpeakOptions("threshold", 0.25)),
        ("sum:2", SpeakOptions("sum", 2.0)),
        ("never", SpeakOptions("never", 0.0)),
    ],
)
def test_policy_is_parsed_from_text(text: str, expected: SpeakOptions) -> None:
    assert SpeakOptions.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "threshold", "threshold:", "threshold:x", "sum:-1", "sum:nan", "never:1", "maybe:1"]
)
def test_invalid_policy_text_is_rejected(text: str) -> None:
    with pytest.raises(OptionError):
        SpeakOptions.parse(text)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SpeakOptions("sometimes"),  # type: ignore[arg-type]
        lambda: SpeakOptions(heads=()),
        lambda: SpeakOptions(heads=("informative", "funny")),
        lambda: SpeakOptions(min_interval=-1),
        lambda: SpeakOptions(repeat_window=-1),
        lambda: DecodeOptions(max_new_tokens=0),
        lambda: DecodeOptions(temperature=-0.1),
        lambda: DecodeOptions(top_p=0.0),
        lambda: DecodeOptions(top_p=1.1),
        lambda: DecodeOptions(repetition_penalty=0.0),
        lambda: SessionOptions(window=0),
        lambda: SessionOptions(profile="loose"),  # type: ignore[arg-type]
        lambda: SessionOptions(text_tokens=63),
    ],
)
def test_invalid_options_are_rejected(make) -> None:
    with pytest.raises(OptionError):
        make()
