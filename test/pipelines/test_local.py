"""Many videos through one engine: outputs equal those of separate runs, failures are isolated, concurrency is bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from duet_rig import Rig, endless_model, frames, lively_model, options, replies, scores

from mmduet.engine import Engine, Session
from mmduet.engine.runner import Runner, StepResult
from mmduet.engine.session import WorkItem
from mmduet.errors import OptionError, VideoError
from mmduet.events import Context, Frame, Output, Query, StreamEnded
from mmduet.model import LoadedModel
from mmduet.pipelines.local import VideoJob, run_videos

JOBS = [
    VideoJob(k, options(0.5, tokens=5 + k), [Query(f"What about {k}?", 0.3 * k)], lambda k=k: frames(3 + 4 * k % 11, k))
    for k in range(9)
]


def run_separately(job: VideoJob[int]) -> list[Output]:
    return Rig(lively_model()).run_stream(job.options, [*job.turns, *job.frames()])


@pytest.mark.parametrize("max_concurrent", [1, 3, 20])
def test_outputs_equal_those_of_separate_runs(max_concurrent: int) -> None:
    rig = Rig(lively_model())
    results = {result.video: result for result in run_videos(rig, JOBS, max_concurrent)}
    assert sorted(results) == list(range(9))
    assert max(map(len, rig.steps)) == min(max_concurrent, 9)
    for job in JOBS:
        expected, result = run_separately(job), results[job.video]
        assert result.error is None
        np.testing.assert_allclose(scores(result.events), scores(expected), atol=1e-5, rtol=0)
        assert replies(result.events) == replies(expected)
        assert result.events[-1] == expected[-1] == StreamEnded(len(list(job.frames())), expected[-1].duration)


def test_scores_do_not_depend_on_how_fast_frames_are_read() -> None:
    def slow_frames(k: int) -> Iterator[Frame]:
        for frame in frames(6, k):
            threading.Event().wait(0.01 * (k % 3))
            yield frame

    def scores_by_video(read: Callable[[int], Iterator[Frame]]) -> dict[int, list[float]]:
        jobs = [VideoJob(k, options(0.5), [Query("What?", 0.0)], lambda k=k: read(k)) for k in range(5)]
        return {result.video: scores(result.events) for result in run_videos(Rig(lively_model()), jobs, 3)}

    assert scores_by_video(slow_frames) == scores_by_video(lambda k: iter(frames(6, k)))


def test_jobs_are_taken_and_opened_only_up_to_the_limit() -> None:
    opened: list[int] = []
    taken: list[int] = []

    def jobs() -> Iterator[VideoJob[int]]:
        for k in range(6):
            taken.append(k)
            yield VideoJob(k, options(), [], lambda k=k: opened.append(k) or frames(4, k))

    results = run_videos(Rig(lively_model()), jobs(), 2)
    next(results)
    assert len(taken) <= 3
    assert set(opened) <= set(taken)
    results.close()  # stops the threads that read frames
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mmduet-source")]


class QueueRecorder(Runner):
    """A runner that records how many frames each session of a step had queued when the step began."""

    def __init__(self, model: LoadedModel) -> None:
        super().__init__(model)
        self.queued: list[int] = []

    def run(self, jobs: Sequence[tuple[Session, WorkItem]]) -> StepResult:
        self.queued += [len(session.inbox) + (work.frame is not None) for session, work in jobs]
        return super().run(jobs)


def test_frames_do_not_accumulate_during_a_reply() -> None:
    model = endless_model()
    runner = QueueRecorder(model)
    jobs = [VideoJob(k, options(0.5, tokens=20), [Query("What?", 0.0)], lambda k=k: frames(6, k)) for k in range(3)]
    assert all(len(replies(result.events)) > 0 for result in run_videos(Engine(model, runner=runner), jobs))
    assert max(runner.queued) == 1


def damaged_frames(count: int) -> Iterator[Frame]:
    yield from frames(count)
    raise VideoError("the file is damaged from here on")


def test_failing_job_ends_alone_with_its_error() -> None:
    def missing_file() -> Iterator[Frame]:
        raise VideoError("the file does not exist")

    jobs = [
        VideoJob("unreadable", options(), [], missing_file),
        VideoJob("bad turn", options(), [Query("<|im_end|>", 0.0)], lambda: frames(3)),
        VideoJob("bad options", options(window=100_000), [], lambda: frames(3)),
        VideoJob("damaged", options(), [], lambda: damaged_frames(2)),
        VideoJob("text too long", options(window=4, text_tokens=64), [Context("x" * 500, 0.0)], lambda: frames(3)),
        VideoJob("good", options(0.5), [Query("What?", 0.0)], lambda: frames(5)),
        VideoJob("empty", options(), [], lambda: []),
    ]
    rig = Rig(lively_model())
    results = {result.video: result for result in run_videos(rig, jobs, 2)}
    errors = {name: result.error.code if result.error else None for name, result in results.items()}
    assert errors == {
        "unreadable": "bad_video", "bad turn": "bad_format", "bad options": "bad_option", "damaged": "bad_video",
        "text too long": "no_capacity", "good": None, "empty": None,
    }  # fmt: skip
    assert len(scores(results["good"].events)) == 10
    assert len(scores(results["damaged"].events)) == 4  # both heads of the two frames before the damage
    assert results["empty"].events == [StreamEnded(0, 0.0)]
    assert not rig.busy


def test_session_that_fails_while_running_is_an_error_of_its_result() -> None:
    rig = Rig(lively_model(), slot_capacity=120)
    jobs = [VideoJob("full", options(), [Query("x" * 100, 1.0)], lambda: frames(30)), JOBS[0]]
    results = {result.video: result for result in run_videos(rig, jobs, 2)}
    assert results["full"].error is not None
    assert (results["full"].error.code, results["full"].error.exit_status) == ("no_capacity", 7)
    assert results[0].error is None


def test_unexpected_exception_ends_all_jobs() -> None:
    def frames_with_a_bug() -> Iterator[Frame]:
        yield from frames(1)
        raise ZeroDivisionError

    rig = Rig(lively_model())
    with pytest.raises(ZeroDivisionError):
        list(run_videos(rig, [JOBS[0], VideoJob(99, options(), [], frames_with_a_bug)], 2))
    assert not rig.busy


def test_max_concurrent_below_1_is_rejected() -> None:
    with pytest.raises(OptionError, match="max_concurrent must be at least 1, got 0"):
        next(run_videos(Rig(lively_model()), JOBS, 0))
