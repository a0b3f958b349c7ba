"""Streaming equals offline: the engine against full forwards of the plain model, frame by frame and token by token."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from duet_oracle import Oracle
from duet_rig import Rig, endless_model, frames, joined_deltas, lively_model, options, replies, scores

from mmduet.events import Context, Frame, Query, QueryRead, Reply, Scores, StreamEnded
from mmduet.options import SpeakOptions

SEEDS = (0, 2, 5)
TIMELINES = {
    "one query at 0": [Query("What now?", 0.0), *frames(8)],
    "no query": frames(8),
    "a late query": [*frames(8), Query("And then?", 2.2)],
    "two queries": [Query("One?", 0.0), *frames(8), Query("Two?", 1.5)],
    "two queries before one frame": [*frames(8), Query("B?", 1.4), Query("A?", 1.2)],
    "context": [Query("Who?", 0.0), Context("cast: Ann", 0.0, keep=True), *frames(8), Context("Ann speaks", 1.7)],
    "a query after the last frame": [Query("One?", 0.0), *frames(5), Query("At last?", 99.0)],
    "context after the last frame": [*frames(5), Context("credits", 99.0)],
    "only questions at the end": [*frames(3), Query("One?", 50.0), Context("x", 51.0), Query("Two?", 52.0)],
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("keep", [False, True], ids=["removed", "kept"])
@pytest.mark.parametrize("items", TIMELINES.values(), ids=TIMELINES)
def test_engine_equals_full_forwards(items: list[Frame | Query | Context], keep: bool, seed: int) -> None:
    given = options(0.5, keep=keep, at_end=seed == 2)
    wanted = Oracle(lively_model(seed=seed), given).watch(items)
    outputs = Rig(lively_model(seed=seed)).watch(given, items)
    np.testing.assert_allclose(scores(outputs), wanted.scores, atol=1e-5, rtol=0)
    assert replies(outputs) == wanted.replies
    assert joined_deltas(outputs) == {i: text for i, (_, text, _, _) in enumerate(wanted.replies) if text}
    assert outputs[-1] == StreamEnded(len(wanted.scores) // 2, max(i.time for i in items if isinstance(i, Frame)))


@pytest.mark.parametrize("keep", [False, True], ids=["removed", "kept"])
def test_another_language_model_equals_full_forwards_too(keep: bool) -> None:
    given, items = options(0.97, keep=keep), TIMELINES["two queries"]
    wanted = Oracle(lively_model(family="qwen3"), given).watch(items)
    outputs = Rig(lively_model(family="qwen3")).watch(given, items)
    np.testing.assert_allclose(scores(outputs), wanted.scores, atol=1e-5, rtol=0)
    assert replies(outputs) == wanted.replies
    assert 0 < len(wanted.replies) < len(wanted.scores) // 2


def test_the_timelines_above_can_tell_engines_apart() -> None:
    """Scores spread out, some frames speak and some do not, replies stop both ways."""
    wanted = [Oracle(lively_model(seed=s), options(0.5)).watch(TIMELINES["no query"]) for s in SEEDS]
    values = [v for w in wanted for v in w.scores]
    assert np.std(values) > 0.2
    assert 0 < sum(len(w.replies) for w in wanted) < 8 * len(SEEDS)
    assert {reply[3] for w in wanted for reply in w.replies} == {"stop", "length"}


@pytest.mark.parametrize("at_end", [False, True])
def test_a_reply_that_was_asked_for(at_end: bool) -> None:
    given = options(at_end=at_end)
    items = [Query("One?", 0.0), *frames(6)]
    wanted = Oracle(lively_model(), given).watch(items, forced=[3])
    rig = Rig(lively_model())
    session = rig.open(given)
    outputs = []
    for item in items[:5]:
        rig.push(session, item)
    outputs += rig.run(session)
    rig.speak_now(session)
    outputs += rig.run(session)
    for item in items[5:]:
        rig.push(session, item)
    rig.end(session)
    outputs += rig.run(session)
    np.testing.assert_allclose(scores(outputs), wanted.scores, atol=1e-5, rtol=0)
    assert replies(outputs) == wanted.replies
    assert all(o.forced for o in outputs if isinstance(o, Reply))


def test_a_reply_asked_for_before_the_first_frame_waits_for_it() -> None:
    rig = Rig(lively_model())
    session = rig.open(options())
    rig.speak_now(session)
    assert not rig.busy
    rig.push(session, frames(1)[0])
    outputs = list(rig.run(session))
    assert [o.speak for o in outputs if isinstance(o, Scores)] == [True]
    assert replies(outputs) == Oracle(lively_model(), options()).watch(frames(1), forced=[0]).replies


def test_a_question_pushed_late_is_answered_at_once_when_asked_to() -> None:
    """Asked after frame 3 was watched, for a time that is past: read before the reply, not before the next frame."""
    rig = Rig(lively_model())
    session = rig.open(options())
    for frame in frames(4):
        rig.push(session, frame)
    list(rig.run(session))
    rig.push(session, Query("Now?", 0.5))
    rig.speak_now(session)
    outputs = list(rig.run(session))
    assert [type(o) for o in outputs[:1]] == [QueryRead]
    wanted = Oracle(lively_model(), options()).watch([*frames(4), Query("Now?", 50.0)])
    assert replies(outputs) == wanted.replies


@pytest.mark.parametrize("policy", ["threshold", "sum"])
def test_nothing_is_said_before_something_was_asked_but_what_was_asked_for(policy: Literal["threshold", "sum"]) -> None:
    given = replace(options(), speak=SpeakOptions(policy, 0.0, speak_before_query=False))
    rig = Rig(lively_model())
    session = rig.open(given)
    outputs = []
    for frame in frames(6):
        if frame.index == 3:
            rig.push(session, Query("And now?", frame.time))
        rig.push(session, frame)
        outputs += list(rig.run(session))
        if frame.index == 1:
            rig.speak_now(session)
            outputs += list(rig.run(session))
    assert [frame for frame, *_ in replies(outputs)] == [1, 3, 4, 5]
    assert [s.speak for s in outputs if isinstance(s, Scores)] == [False, False, False, True, True, True]


def test_a_sum_begins_when_something_is_asked() -> None:
    given = replace(options(), speak=SpeakOptions("sum", 1.0, speak_before_query=False))
    asked_late = Rig(lively_model()).watch(given, [*frames(12), Query("And now?", 3.0)])
    values = [s.informative for s in asked_late if isinstance(s, Scores)]
    total, due = 0.0, 0
    for due in range(6, 12):
        total += values[due]
        if total > 1.0:
            break
    assert replies(asked_late)[0][0] == due


def test_at_end_says_nothing_where_nothing_was_asked() -> None:
    assert replies(Rig(lively_model()).watch(options(at_end=True), frames(3))) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_rolled_back_is_never_spoken(seed: int) -> None:
    items = [Query("What?", 0.0), *frames(12, seed)]
    silent = Rig(lively_model(seed=seed)).watch(options(), items)
    talking = Rig(lively_model(seed=seed)).watch(options(0.5), items)
    kept = Rig(lively_model(seed=seed)).watch(options(0.5, keep=True), items)
    assert replies(silent) == []
    assert replies(talking)
    np.testing.assert_allclose(scores(talking), scores(silent), atol=1e-6, rtol=0)
    assert np.abs(np.subtract(scores(kept), scores(silent))).max() > 1e-3


def test_a_cancelled_reply_was_never_spoken_either() -> None:
    rig = Rig(endless_model())
    session = rig.open(options(tokens=50))
    for frame in frames(2):
        rig.push(session, frame)
    outputs = list(rig.run(session))
    rig.speak_now(session)
    for _ in range(4):
        outputs += [o for _, o in rig.step()]
    rig.cancel(session)
    outputs += list(rig.run(session))
    (reply,) = [o for o in outputs if isinstance(o, Reply)]
    assert (reply.finish, reply.tokens) == ("cancelled", 4)
    assert joined_deltas(outputs)[0] == reply.text
    for frame in frames(3, first=2):
        rig.push(session, frame)
    outputs += list(rig.run(session))
    assert scores(outputs) == pytest.approx(scores(Rig(endless_model()).watch(options(), frames(5))), abs=1e-6)


@pytest.mark.parametrize("keep", [False, True])
def test_below_the_window_a_bounded_session_is_an_unbounded_one(keep: bool) -> None:
    items = [Query("What?", 0.0), *frames(20), Query("More?", 5.0)]
    unbounded = Rig(lively_model()).watch(options(0.5, keep=keep), items)
    bounded = Rig(lively_model()).watch(options(0.5, keep=keep, window=20, text_tokens=1024), items)
    assert scores(bounded) == scores(unbounded)
    assert replies(bounded) == replies(unbounded)


def test_the_same_words_twice_after_one_frame_are_said_twice() -> None:
    """Without a repeat window nothing is held back, not even what was just said of the same frame."""
    rig = Rig(lively_model())
    session = rig.open(options())
    rig.push(session, frames(1)[0])
    outputs = list(rig.run(session))
    for _ in range(2):
        rig.speak_now(session)
        outputs += rig.run(session)
    first, second = replies(outputs)
    assert first == second
