"""The engine equals full forwards of the plain Transformers model, frame by frame and token by token."""

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
    session_options = options(0.5, keep=keep, at_end=seed == 2)
    expected = Oracle(lively_model(seed=seed), session_options).run_stream(items)
    outputs = Rig(lively_model(seed=seed)).run_stream(session_options, items)
    np.testing.assert_allclose(scores(outputs), expected.scores, atol=1e-5, rtol=0)
    assert replies(outputs) == expected.replies
    assert joined_deltas(outputs) == {i: text for i, (_, text, _, _) in enumerate(expected.replies) if text}
    assert outputs[-1] == StreamEnded(len(expected.scores) // 2, max(i.time for i in items if isinstance(i, Frame)))


@pytest.mark.parametrize("keep", [False, True], ids=["removed", "kept"])
def test_qwen3_engine_equals_full_forwards(keep: bool) -> None:
    session_options, items = options(0.97, keep=keep), TIMELINES["two queries"]
    expected = Oracle(lively_model(family="qwen3"), session_options).run_stream(items)
    outputs = Rig(lively_model(family="qwen3")).run_stream(session_options, items)
    np.testing.assert_allclose(scores(outputs), expected.scores, atol=1e-5, rtol=0)
    assert replies(outputs) == expected.replies
    assert 0 < len(expected.replies) < len(expected.scores) // 2


def test_the_timelines_produce_varied_outputs() -> None:
    """Scores vary, only some frames trigger a reply, and replies finish in both ways."""
    expected = [Oracle(lively_model(seed=s), options(0.5)).run_stream(TIMELINES["no query"]) for s in SEEDS]
    values = [v for w in expected for v in w.scores]
    assert np.std(values) > 0.2
    assert 0 < sum(len(w.replies) for w in expected) < 8 * len(SEEDS)
    assert {reply[3] for w in expected for reply in w.replies} == {"stop", "length"}


@pytest.mark.parametrize("at_end", [False, True])
def test_requested_reply_equals_full_forwards(at_end: bool) -> None:
    session_options = options(at_end=at_end)
    items = [Query("One?", 0.0), *frames(6)]
    expected = Oracle(lively_model(), session_options).run_stream(items, forced=[3])
    rig = Rig(lively_model())
    session = rig.open(session_options)
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
    np.testing.assert_allclose(scores(outputs), expected.scores, atol=1e-5, rtol=0)
    assert replies(outputs) == expected.replies
    assert all(o.forced for o in outputs if isinstance(o, Reply))


def test_reply_requested_before_the_first_frame_waits_for_it() -> None:
    rig = Rig(lively_model())
    session = rig.open(options())
    rig.speak_now(session)
    assert not rig.busy
    rig.push(session, frames(1)[0])
    outputs = list(rig.run(session))
    assert [o.speak for o in outputs if isinstance(o, Scores)] == [True]
    assert replies(outputs) == Oracle(lively_model(), options()).run_stream(frames(1), forced=[0]).replies


def test_late_query_is_read_before_a_requested_reply() -> None:
    """A query that is pushed after frame 3 with an earlier time is read before the reply, not before the next frame."""
    rig = Rig(lively_model())
    session = rig.open(options())
    for frame in frames(4):
        rig.push(session, frame)
    list(rig.run(session))
    rig.push(session, Query("Now?", 0.5))
    rig.speak_now(session)
    outputs = list(rig.run(session))
    assert [type(o) for o in outputs[:1]] == [QueryRead]
    expected = Oracle(lively_model(), options()).run_stream([*frames(4), Query("Now?", 50.0)])
    assert replies(outputs) == expected.replies


@pytest.mark.parametrize("policy", ["threshold", "sum"])
def test_without_speak_before_query_only_requested_replies_precede_the_query(
    policy: Literal["threshold", "sum"],
) -> None:
    session_options = replace(options(), speak=SpeakOptions(policy, 0.0, speak_before_query=False))
    rig = Rig(lively_model())
    session = rig.open(session_options)
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


def test_running_sum_starts_at_the_query() -> None:
    session_options = replace(options(), speak=SpeakOptions("sum", 1.0, speak_before_query=False))
    with_late_query = Rig(lively_model()).run_stream(session_options, [*frames(12), Query("And now?", 3.0)])
    values = [s.informative for s in with_late_query if isinstance(s, Scores)]
    total, due = 0.0, 0
    for due in range(6, 12):
        total += values[due]
        if total > 1.0:
            break
    assert replies(with_late_query)[0][0] == due


def test_at_end_does_not_reply_without_a_query() -> None:
    assert replies(Rig(lively_model()).run_stream(options(at_end=True), frames(3))) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_removed_replies_do_not_change_the_scores(seed: int) -> None:
    items = [Query("What?", 0.0), *frames(12, seed)]
    without_replies = Rig(lively_model(seed=seed)).run_stream(options(), items)
    with_removed = Rig(lively_model(seed=seed)).run_stream(options(0.5), items)
    with_kept = Rig(lively_model(seed=seed)).run_stream(options(0.5, keep=True), items)
    assert replies(without_replies) == []
    assert replies(with_removed)
    np.testing.assert_allclose(scores(with_removed), scores(without_replies), atol=1e-6, rtol=0)
    assert np.abs(np.subtract(scores(with_kept), scores(without_replies))).max() > 1e-3


def test_cancelled_reply_does_not_change_the_scores() -> None:
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
    assert scores(outputs) == pytest.approx(scores(Rig(endless_model()).run_stream(options(), frames(5))), abs=1e-6)


@pytest.mark.parametrize("keep", [False, True])
def test_below_the_window_a_bounded_session_equals_an_unbounded_one(keep: bool) -> None:
    items = [Query("What?", 0.0), *frames(20), Query("More?", 5.0)]
    unbounded = Rig(lively_model()).run_stream(options(0.5, keep=keep), items)
    bounded = Rig(lively_model()).run_stream(options(0.5, keep=keep, window=20, text_tokens=1024), items)
    assert scores(bounded) == scores(unbounded)
    assert replies(bounded) == replies(unbounded)


def test_repeated_reply_to_one_frame_is_emitted_without_a_repeat_window() -> None:
    """Without a repeat window no text is held back, even if the same frame triggered the same reply before."""
    rig = Rig(lively_model())
    session = rig.open(options())
    rig.push(session, frames(1)[0])
    outputs = list(rig.run(session))
    for _ in range(2):
        rig.speak_now(session)
        outputs += rig.run(session)
    first, second = replies(outputs)
    assert first == second
