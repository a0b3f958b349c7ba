"""Calibration: sweeps count as the engine's policies and the scene metric do, and the fitted policy is the best and stable."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmduet.engine.policy import PolicyState, decide
from mmduet.errors import OptionError
from mmduet.events import Scores
from mmduet.metrics.reply_matching import MatchCounts, TimedText, compare_replies
from mmduet.options import SpeakOptions
from mmduet.spans import Span
from mmduet.training.calibration import f1_interval, fit_policy, middle_of_plateau
from mmduet.training.policy_sweep import ScoredStream, replay, sweep

numbers = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.9])
frames = st.lists(st.tuples(numbers, numbers), max_size=14)
policies = st.builds(
    SpeakOptions,
    policy=st.sampled_from(["threshold", "sum"]),
    value=st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.5]),
    heads=st.sampled_from([("informative",), ("relevance",), ("informative", "relevance")]),
    min_interval=st.sampled_from([0.0, 0.5, 0.8, 2.0]),
)
quarters = st.integers(0, 24).map(lambda n: n / 4)  # seconds; so that rounding decides nothing
spans = st.lists(st.tuples(quarters, quarters).map(lambda pair: Span(pair[0], pair[0] + pair[1] / 2)), max_size=4)


def stream(scores: Sequence[tuple[float, float]], due: Sequence[Span] = (), step: float = 0.5) -> ScoredStream:
    return ScoredStream(tuple(Scores(k, k * step, *pair) for k, pair in enumerate(scores)), tuple(due))


def reply_times(scored: ScoredStream, speak: SpeakOptions) -> list[float]:
    state, times = PolicyState(), []
    for scores in scored.scores:
        state, fires = decide(speak, state, scores)
        times += [scores.time] * fires
    return times


def max_matching(times: Sequence[float], due: Sequence[Span]) -> int:
    """Try every assignment of replies to spans."""
    best = 0
    for size in range(1, min(len(times), len(due)) + 1):
        for chosen in itertools.combinations(range(len(times)), size):
            for assigned in itertools.permutations(due, size):
                fits = (s.start <= times[k] <= s.end for k, s in zip(chosen, assigned, strict=True))
                best = size if all(fits) else best
    return best


@given(frames, policies, spans)
@settings(max_examples=40)
def test_a_replay_matches_as_many_replies_as_possible(
    scores: list[tuple[float, float]], speak: SpeakOptions, due: list[Span]
) -> None:
    due = due[:3]
    scored = stream(scores[:8], due)
    times = reply_times(scored, speak)
    assert replay(scored, speak) == MatchCounts(len(due), len(times), max_matching(times, due))


@given(frames, policies, st.lists(st.floats(0, 7), max_size=5))
def test_counts_are_those_of_the_scene_metric(
    scores: list[tuple[float, float]], speak: SpeakOptions, ends: list[float]
) -> None:
    scored = stream(scores, [Span(end, end + 1.0) for end in ends])
    events = [TimedText(end, "") for end in ends]
    expected = compare_replies(events, [TimedText(time, "") for time in reply_times(scored, speak)])
    counts = replay(scored, speak)
    assert (counts.events, counts.replies, counts.matched) == (expected.events, expected.replies, expected.matched)


@given(st.lists(st.tuples(frames, spans), min_size=1, max_size=3), policies)
@settings(max_examples=50)
def test_a_sweep_equals_single_replays(
    data: list[tuple[list[tuple[float, float]], list[Span]]], speak: SpeakOptions
) -> None:
    streams = [stream(scores, due) for scores, due in data]
    values, intervals = [0.0, 0.3, 0.5, 1.0], [0.0, 0.5, 1.2]
    counts = sweep(streams, speak, values, intervals)
    for (i, interval), (v, value) in itertools.product(enumerate(intervals), enumerate(values)):
        options = SpeakOptions(speak.policy, value, speak.heads, min_interval=interval)
        single = sum((replay(each, options) for each in streams), MatchCounts())
        assert (counts.events, counts.replies[i, v], counts.matched[i, v]) == (
            single.events, single.replies, single.matched,
        )  # fmt: skip
        assert counts.f1[i, v] == pytest.approx(single.f1)
        assert np.isnan(counts.precision[i, v]) or counts.precision[i, v] == pytest.approx(single.precision)
        assert np.isnan(counts.recall[i, v]) or counts.recall[i, v] == pytest.approx(single.recall)


def bursts(peak: float, floor: float, lengths: Sequence[int] = (3, 2, 4)) -> ScoredStream:
    """Return a stream of frames every 0.25 s with bursts of high scores; a reply is due in the second from each burst on."""
    scores, due = [(floor, 0.5)] * 8, []
    for length in lengths:
        due.append(Span(len(scores) * 0.25, len(scores) * 0.25 + 1.0))
        scores += [(peak, 0.5)] * length + [(floor, 0.5)] * 12
    return stream(scores, due, 0.25)


def test_the_threshold_is_in_the_middle_and_the_interval_prevents_repeats() -> None:
    fitted = fit_policy([bursts(0.3, 0.1), bursts(0.3, 0.1, (4, 4))], SpeakOptions("threshold", 0.5))
    assert fitted.speak.policy == "threshold"
    assert fitted.speak.value == pytest.approx(0.2, abs=0.011)
    assert fitted.speak.heads == ("informative",)
    assert 0.75 < fitted.speak.min_interval <= 3.0
    assert fitted.counts == MatchCounts(5, 5, 5)
    assert fitted.previous_counts == MatchCounts(5, 0, 0)
    assert fitted.roc_auc == pytest.approx(0.84)  # 17 of 25 due frames have the high score, no other frame has it
    assert fitted.interval == (1.0, 1.0)
    assert fitted.previous_interval == (0.0, 0.0)


def test_what_gains_nothing_is_not_changed() -> None:
    previous = SpeakOptions("sum", 0.55, ("informative", "relevance"), min_interval=0.7)
    streams = [stream([(0.01, 0.01)] * 4 + [(0.6, 0.6)] + [(0.01, 0.01)] * 6, [Span(2.0, 3.0)])]
    fitted = fit_policy(streams, previous)
    assert fitted.counts == MatchCounts(1, 1, 1)
    assert (fitted.speak.policy, fitted.speak.heads, fitted.speak.min_interval) == ("sum", previous.heads, 0.7)


def test_a_sum_is_chosen_where_no_threshold_separates() -> None:
    """A reply is due after every fourth frame, and all scores are equal."""
    scored = stream([(0.3, 0.5)] * 40, [Span(k * 2.0 + 1.5, k * 2.0 + 1.5) for k in range(10)])
    fitted = fit_policy([scored], SpeakOptions("threshold", 0.5), intervals=(0.0,))
    assert fitted.speak.policy == "sum"
    assert fitted.counts == MatchCounts(10, 10, 10)
    assert 0.9 <= fitted.speak.value < 1.2


def test_other_options_are_kept() -> None:
    previous = SpeakOptions(repeat_window=4.0, at_end=True, speak_before_query=False)
    fitted = fit_policy([bursts(0.9, 0.1)], previous).speak
    assert (fitted.repeat_window, fitted.at_end, fitted.speak_before_query) == (4.0, True, False)


@given(st.lists(st.tuples(frames.filter(bool), spans.filter(bool)), min_size=1, max_size=2), policies)
@settings(max_examples=15)
def test_the_fitted_policy_is_never_worse(
    data: list[tuple[list[tuple[float, float]], list[Span]]], previous: SpeakOptions
) -> None:
    streams = [stream(scores, due) for scores, due in data]
    fitted = fit_policy(streams, previous, policies=["threshold", "sum"], heads=[previous.heads])
    assert fitted.counts.f1 >= fitted.previous_counts.f1
    assert fitted.counts.f1 == pytest.approx(fitted.curve.f1[list(fitted.curve.values).index(fitted.speak.value)])
    assert fitted.interval[0] <= fitted.interval[1]


def test_the_widest_plateau_counts() -> None:
    values = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9])
    assert middle_of_plateau(values, np.array([1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0])) == 3
    assert middle_of_plateau(values, np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5])) == 6


def test_the_interval_contains_the_value_and_shrinks_with_more_streams() -> None:
    counts = [MatchCounts(4, 4, k % 5) for k in range(10)]
    low, high = f1_interval(counts)
    assert low < sum(counts, MatchCounts()).f1 < high
    more_low, more_high = f1_interval(counts * 10)
    assert more_high - more_low < (high - low) / 2


def test_without_due_replies_or_choices_there_is_no_fit() -> None:
    with pytest.raises(OptionError, match="no reply is due"):
        fit_policy([stream([(0.5, 0.5)])])
    with pytest.raises(OptionError, match="at least one to choose from"):
        fit_policy([bursts(0.9, 0.1)], policies=[])


def test_a_calibration_can_be_written_as_json() -> None:
    values = fit_policy([bursts(0.9, 0.1)], SpeakOptions("threshold", 0.95)).to_dict()
    assert values["before"]["speak"] == "threshold:0.95"
    assert values["before"]["speak_f1"] == 0.0
    assert values["after"]["score_heads"] == ["informative"]
    assert values["after"]["speak_f1"] == 1.0
    assert len(values["curve"]["value"]) == len(values["curve"]["precision"]) == len(values["curve"]["f1"])
