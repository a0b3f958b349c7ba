"""Policies: pure, causal, and firing exactly where their definition says."""

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


def spoken(options: SpeakOptions, pairs: list[tuple[float, float]], gap: float = 0.5) -> list[int]:
    """The frames at which the policy fires."""
    state, fired = PolicyState(), []
    for i, (informative, relevance) in enumerate(pairs):
        state, fires = decide(options, state, Scores(i, i * gap, informative, relevance))
        fired += [i] * fires
    return fired


def one(values: list[float]) -> list[tuple[float, float]]:
    return [(v, 0.9) for v in values]


def test_threshold_means_more_than() -> None:
    assert spoken(SpeakOptions("threshold", 0.5), one([0.4, 0.5, 0.51, 0.9])) == [2, 3]


def test_sum_runs_from_frame_0_and_starts_again_when_it_fires() -> None:
    assert spoken(SpeakOptions("sum", 2.0), one([0.5] * 12)) == [4, 9]
    assert spoken(SpeakOptions("sum", 1.0), one([0.9, 0.9, 0.2, 0.9])) == [1, 3]


def test_never_is_never() -> None:
    assert spoken(SpeakOptions("never", 0.0), one([1.0] * 5)) == []


def test_heads_are_added_up() -> None:
    pairs = [(0.3, 0.3), (0.9, 0.0), (0.0, 0.9), (0.5, 0.5)]
    assert spoken(SpeakOptions("threshold", 0.8, BOTH), pairs) == [1, 2, 3]
    assert spoken(SpeakOptions("threshold", 0.8, ("relevance",)), pairs) == [2]


def test_min_interval_counts_from_the_last_reply() -> None:
    assert spoken(SpeakOptions("threshold", 0.5, min_interval=1.5), one([0.9] * 8)) == [0, 3, 6]
    assert spoken(SpeakOptions("threshold", 0.5, min_interval=0.3), one([0.9] * 13), gap=0.1) == [0, 3, 6, 9, 12]


def test_a_sum_that_had_to_wait_fires_as_soon_as_it_may() -> None:
    assert spoken(SpeakOptions("sum", 1.0, min_interval=2.0), one([0.6] * 8)) == [1, 5]


POLICIES = st.builds(
    SpeakOptions, st.sampled_from(["threshold", "sum", "never"]), st.floats(0, 3),
    st.sampled_from([("informative",), ("relevance",), BOTH]), st.floats(0, 3),
)  # fmt: skip
PAIRS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=25)


@given(POLICIES, PAIRS, PAIRS)
def test_what_comes_later_changes_nothing(
    options: SpeakOptions, past: list[tuple[float, float]], future: list[tuple[float, float]]
) -> None:
    assert [i for i in spoken(options, past + future) if i < len(past)] == spoken(options, past)
    assert spoken(options, past) == spoken(options, past)


@given(POLICIES, PAIRS)
def test_replies_keep_their_distance(options: SpeakOptions, pairs: list[tuple[float, float]]) -> None:
    fired = spoken(options, pairs)
    assert all((b - a) * 0.5 >= options.min_interval - 1e-6 for a, b in itertools.pairwise(fired))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("threshold:0.25", SpeakOptions("threshold", 0.25)),
        ("sum:2", SpeakOptions("sum", 2.0)),
        ("never", SpeakOptions("never", 0.0)),
    ],
)
def test_policies_from_text(text: str, wanted: SpeakOptions) -> None:
    assert SpeakOptions.parse(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "threshold", "threshold:", "threshold:x", "sum:-1", "sum:nan", "never:1", "maybe:1"]
)
def test_text_that_is_no_policy(text: str) -> None:
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
def test_options_that_cannot_be_used(make) -> None:
    with pytest.raises(OptionError):
        make()
