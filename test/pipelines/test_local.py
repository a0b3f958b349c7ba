"""Many videos through one engine: what each says is what it says alone; what fails ends alone; no more are open than asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from duet_rig import Rig, endless_model, frames, lively_model, options, replies, scores

from mmduet.engine import Session
from mmduet.errors import OptionError, VideoError
from mmduet.events import Context, Frame, Output, Query, StreamEnded
from mmduet.pipelines.local import VideoJob, run_videos

JOBS = [
    VideoJob(k, options(0.5, tokens=5 + k), [Query(f"What about {k}?", 0.3 * k)], lambda k=k: frames(3 + 4 * k % 11, k))
    for k in range(9)
]


def alone(job: VideoJob[int]) -> list[Output]:
    return Rig(lively_model()).run_stream(job.options, [*job.turns, *job.frames()])


@pytest.mark.parametrize("most", [1, 3, 20])
def test_each_says_what_it_says_alone(most: int) -> None:
    rig = Rig(lively_model())
    results = {result.video: result for result in run_videos(rig, JOBS, most)}
    assert sorted(results) == list(range(9))
    assert max(map(len, rig.steps)) == min(most, 9)
    for job in JOBS:
        wanted, result = alone(job), results[job.video]
        assert result.error is None
        np.testing.assert_allclose(scores(result.events), scores(wanted), atol=1e-5, rtol=0)
        assert replies(result.events) == replies(wanted)
        assert result.events[-1] == wanted[-1] == StreamEnded(len(list(job.frames())), wanted[-1].duration)


def test_the_same_jobs_say_the_same_to_the_last_bit() -> None:
    """However slowly the files are read."""

    def slow(k: int) -> Iterator[Frame]:
        for frame in frames(6, k):
            threading.Event().wait(0.01 * (k % 3))
            yield frame

    def results(source: Callable[[int], Iterator[Frame]]) -> dict[int, list[float]]:
        jobs = [VideoJob(k, options(0.5), [Query("What?", 0.0)], lambda k=k: source(k)) for k in range(5)]
        return {result.video: scores(result.events) for result in run_videos(Rig(lively_model()), jobs, 3)}

    assert results(slow) == results(lambda k: iter(frames(6, k)))


def test_jobs_are_not_begun_before_there_is_room_nor_read_ahead() -> None:
    opened: list[int] = []
    asked: list[int] = []

    def jobs() -> Iterator[VideoJob[int]]:
        for k in range(6):
            asked.append(k)
            yield VideoJob(k, options(), [], lambda k=k: opened.append(k) or frames(4, k))

    playing = run_videos(Rig(lively_model()), jobs(), 2)
    next(playing)
    assert len(asked) <= 3
    assert set(opened) <= set(asked)
    playing.close()  # who goes away in the middle leaves nothing running
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mmduet-source")]


def test_frames_do_not_pile_up_while_one_talks() -> None:
    rig, waiting = Rig(endless_model()), list[int]()
    step = rig.step

    def watched() -> list[tuple[Session, Output]]:
        waiting.extend(len(session.inbox) for session in rig._sessions.values())
        return step()

    rig.step = watched  # type: ignore[method-assign]
    jobs = [VideoJob(k, options(0.5, tokens=20), [Query("What?", 0.0)], lambda k=k: frames(6, k)) for k in range(3)]
    assert all(len(replies(result.events)) > 0 for result in run_videos(rig, jobs))
    assert max(waiting) == 1


def broken(count: int) -> Iterator[Frame]:
    yield from frames(count)
    raise VideoError("damaged from here on")


def test_what_fails_ends_alone_and_says_why() -> None:
    def unreadable() -> Iterator[Frame]:
        raise VideoError("there is no such file")

    jobs = [
        VideoJob("unreadable", options(), [], unreadable),
        VideoJob("bad turn", options(), [Query("<|im_end|>", 0.0)], lambda: frames(3)),
        VideoJob("bad options", options(window=100_000), [], lambda: frames(3)),
        VideoJob("broken", options(), [], lambda: broken(2)),
        VideoJob("no room", options(window=4, text_tokens=64), [Context("x" * 500, 0.0)], lambda: frames(3)),
        VideoJob("good", options(0.5), [Query("What?", 0.0)], lambda: frames(5)),
        VideoJob("empty", options(), [], lambda: []),
    ]
    rig = Rig(lively_model())
    results = {result.video: result for result in run_videos(rig, jobs, 2)}
    errors = {name: result.error.code if result.error else None for name, result in results.items()}
    assert errors == {
        "unreadable": "bad_video", "bad turn": "bad_format", "bad options": "bad_option", "broken": "bad_video",
        "no room": "no_capacity", "good": None, "empty": None,
    }  # fmt: skip
    assert len(scores(results["good"].events)) == 10
    assert len(scores(results["broken"].events)) == 4  # two frames, watched before the third was due
    assert results["empty"].events == [StreamEnded(0, 0.0)]
    assert not rig.busy


def test_a_session_that_fails_on_the_way_is_an_error() -> None:
    rig = Rig(lively_model())
    rig.slot_capacity = 120
    jobs = [VideoJob("full", options(), [Query("x" * 100, 1.0)], lambda: frames(30)), JOBS[0]]
    results = {result.video: result for result in run_videos(rig, jobs, 2)}
    assert results["full"].error is not None
    assert (results["full"].error.code, results["full"].error.exit_status) == ("no_capacity", 7)
    assert results[0].error is None


def test_what_is_no_error_of_ours_ends_everything() -> None:
    def buggy() -> Iterator[Frame]:
        yield from frames(1)
        raise ZeroDivisionError

    rig = Rig(lively_model())
    with pytest.raises(ZeroDivisionError):
        list(run_videos(rig, [JOBS[0], VideoJob(99, options(), [], buggy)], 2))
    assert not rig.busy


def test_none_at_once_is_refused() -> None:
    with pytest.raises(OptionError, match="max_concurrent must be at least 1, got 0"):
        next(run_videos(Rig(lively_model()), JOBS, 0))
