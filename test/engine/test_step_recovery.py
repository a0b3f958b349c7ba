"""Errors in steps: a step is repeated in parts, and only the sessions that fail alone are ended."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence

import pytest
import torch
from duet_rig import Rig, frames, lively_model, options, replies, scores
from torch import Tensor

from mmduet.engine import Engine, EngineThread, Session
from mmduet.engine.runner import Job, Runner, StepResult
from mmduet.engine.step_recovery import (
    STEPS_UNTIL_FULL_SIZE,
    WAIT_SECONDS,
    StepRecovery,
    is_memory_error,
    to_session_error,
)
from mmduet.engine.thread import StepStats
from mmduet.errors import CapacityError, EngineError, OptionError
from mmduet.events import Output, Query, SessionFailed, StreamEnded

CPU_MESSAGE = (
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "999999999999 bytes. Error code 12 (Cannot allocate memory)"
)


class Recovery(StepRecovery[int, list[int]]):
    """Runs jobs that are numbers; records the parts that were run, the pauses, and how often memory was released."""

    def __init__(self, check: Callable[[Sequence[int]], None]) -> None:
        self.runs, self.pauses, self.releases = list[list[int]](), list[float](), 0

        def run(jobs: Sequence[int]) -> list[int]:
            self.runs.append(list(jobs))
            check(jobs)
            return [10 * job for job in jobs]

        super().__init__(run, release_memory=self.release, sleep=self.pauses.append)

    def release(self) -> None:
        self.releases += 1


def fail_on(*bad: int, error: Exception) -> Callable[[Sequence[int]], None]:
    """Return a check that raises for parts with one of these jobs."""

    def check(jobs: Sequence[int]) -> None:
        if set(bad) & set(jobs):
            raise error

    return check


def fail_above(size: int) -> Callable[[Sequence[int]], None]:
    """Return a check that runs out of memory for larger parts."""

    def check(jobs: Sequence[int]) -> None:
        if len(jobs) > size:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    return check


def test_a_step_without_errors_is_run_once() -> None:
    recovery = Recovery(lambda jobs: None)
    outcome = recovery.run_jobs([1, 2, 3])
    assert recovery.runs == [[1, 2, 3]]
    assert outcome.parts == [([1, 2, 3], [10, 20, 30])]
    assert not outcome.failures
    assert not outcome.faults


def test_lack_of_memory_ends_no_session_if_smaller_parts_fit() -> None:
    recovery = Recovery(fail_above(3))
    outcome = recovery.run_jobs(list(range(8)))
    assert [part for part, _ in outcome.parts] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert not outcome.failures
    assert recovery.releases == 3
    assert not recovery.pauses


def test_following_steps_are_not_run_in_parts_that_do_not_fit() -> None:
    recovery = Recovery(fail_above(3))
    recovery.run_jobs(list(range(8)))
    recovery.runs.clear()
    assert not recovery.run_jobs(list(range(5))).faults
    assert recovery.runs == [[0, 1], [2, 3], [4]]


def test_parts_grow_again_after_enough_steps() -> None:
    short = True
    recovery = Recovery(lambda jobs: fail_above(2)(jobs) if short else None)
    recovery.run_jobs([1, 2, 3, 4])
    short = False
    for _ in range(STEPS_UNTIL_FULL_SIZE):
        assert len(recovery.run_jobs([1, 2, 3, 4]).parts) == 2
    assert [part for part, _ in recovery.run_jobs([1, 2, 3, 4]).parts] == [[1, 2, 3, 4]]


def test_the_job_that_needs_too_much_memory_fails_alone() -> None:
    recovery = Recovery(fail_on(3, error=RuntimeError(CPU_MESSAGE)))
    outcome = recovery.run_jobs([1, 2, 3, 4, 5])
    assert [job for job, _ in outcome.failures] == [3]
    assert sorted(job for part, _ in outcome.parts for job in part) == [1, 2, 4, 5]
    assert [fault.jobs for fault in outcome.faults if fault.ended_session] == [1]
    assert recovery.pauses == list(WAIT_SECONDS)


def test_memory_that_returns_after_a_moment_ends_no_session() -> None:
    def check(jobs: Sequence[int]) -> None:
        if len(recovery.pauses) < 2:
            raise MemoryError

    recovery = Recovery(check)
    outcome = recovery.run_jobs([1, 2])
    assert not outcome.failures
    assert recovery.pauses == list(WAIT_SECONDS[:2])


def test_pauses_of_a_step_are_bounded() -> None:
    recovery = Recovery(fail_above(0))
    outcome = recovery.run_jobs([1, 2, 3, 4])
    assert [job for job, _ in outcome.failures] == [1, 2, 3, 4]
    assert recovery.pauses == list(WAIT_SECONDS)


def test_a_full_pool_is_not_waited_for() -> None:
    recovery = Recovery(fail_on(2, error=CapacityError("the pool is full")))
    assert [job for job, _ in recovery.run_jobs([1, 2]).failures] == [2]
    assert not recovery.pauses


def test_another_error_ends_the_session_that_causes_it() -> None:
    error = IndexError("index out of range in self")
    recovery = Recovery(fail_on(4, error=error))
    outcome = recovery.run_jobs([1, 2, 3, 4])
    assert outcome.failures == [(4, error)]
    assert not recovery.pauses
    assert not recovery.releases
    assert len(recovery.run_jobs([1, 2, 3]).parts) == 1  # the size of parts is limited after a lack of memory only


@pytest.mark.parametrize("jobs", [[1], [1, 2, 3]])
def test_an_error_of_all_jobs_is_raised(jobs: list[int]) -> None:
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(RuntimeError) as caught:
        Recovery(fail_on(*jobs, error=error)).run_jobs(jobs)
    assert caught.value is error


def test_an_error_that_does_not_recur_ends_no_session_and_is_reported() -> None:
    failed = list[bool]()

    def check(jobs: Sequence[int]) -> None:
        if not failed:
            failed.append(True)
            raise RuntimeError("a kernel failed once")

    outcome = Recovery(check).run_jobs([1, 2])
    assert [part for part, _ in outcome.parts] == [[1], [2]]
    assert [str(fault.error) for fault in outcome.faults] == ["a kernel failed once"]


def test_an_error_may_be_its_own_cause() -> None:
    def check(jobs: Sequence[int]) -> None:
        error = ValueError("no")
        raise error from error

    with pytest.raises(ValueError, match="no"):
        Recovery(check).run_jobs([1, 2])


def test_interruption_is_not_an_error() -> None:
    def check(jobs: Sequence[int]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Recovery(check).run_jobs([1, 2])


class Tensors:
    """What a failed step holds."""


def test_errors_do_not_keep_the_memory_of_the_failed_step() -> None:
    alive = list[weakref.ref[Tensors]]()
    at_retry = list[int]()

    def run_layer(depth: int) -> None:
        activations = Tensors()
        alive.append(weakref.ref(activations))
        if depth:
            run_layer(depth - 1)
        raise MemoryError

    def check(jobs: Sequence[int]) -> None:
        at_retry.append(sum(reference() is not None for reference in alive))
        if len(jobs) > 1:
            run_layer(3)

    gc.disable()
    try:
        outcome = Recovery(check).run_jobs([1, 2])
    finally:
        gc.enable()
    assert len(alive) == 4
    assert at_retry == [0, 0, 0]
    assert len(outcome.faults) == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError(CPU_MESSAGE), True),
        (RuntimeError("std::bad_alloc"), True),
        (MemoryError(), True),
        (CapacityError("full"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
        (EngineError("two engines use one model"), False),
    ],
)
def test_memory_errors_are_recognized(error: Exception, expected: bool) -> None:
    assert is_memory_error(error) is expected


def test_an_impossible_allocation_on_this_machine_is_recognized() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 55, dtype=torch.uint8)
    assert is_memory_error(caught.value)


def test_session_errors_have_stable_codes_and_no_internal_text() -> None:
    full = CapacityError("the pool is full")
    assert to_session_error(full) is full
    memory, other = to_session_error(MemoryError("at 0x7f")), to_session_error(KeyError("secret"))
    assert (memory.code, other.code) == ("no_capacity", "engine")
    assert "0x7f" not in str(memory)
    assert "secret" not in str(other)


class FragileRunner(Runner):
    """A runner that raises ``error`` in the last layer or in the heads while ``fails`` returns True for the step's sessions."""

    def __init__(self, error: Exception, fails: Callable[[Sequence[Session]], bool], part: str) -> None:
        model = lively_model()
        super().__init__(model)
        self.model, self._sessions = model, list[Session]()
        write, last_layer = self.pool.write, self.config.text.layers - 1

        def check(*_: object) -> None:
            if fails(self._sessions):
                raise error

        def write_or_fail(layer: int, tokens: Tensor, keys_values: Tensor) -> None:
            if layer == last_layer:
                check()
            write(layer, tokens, keys_values)

        if part == "heads":
            self.network.heads.register_forward_pre_hook(check)
        else:
            self.pool.write = write_or_fail  # type: ignore[method-assign]

    def run(self, jobs: Sequence[Job]) -> StepResult:
        self._sessions = [session for session, _ in jobs]
        return super().run(jobs)


def run_three(engine: Engine) -> list[list[Output]]:
    """Run three sessions with windows and replies at the same time; return the outputs of each."""
    sessions = [engine.open(options(0.5, window=3, tokens=4)) for _ in range(3)]
    outputs: list[list[Output]] = [[], [], []]
    for number, session in enumerate(sessions):
        for item in [Query("What?", 0.0), *frames(12, number)]:
            engine.push(session, item)
        engine.end(session)
    while engine.busy:
        for session, output in engine.step():
            outputs[sessions.index(session)].append(output)
    return outputs


@pytest.fixture(scope="module")
def undisturbed() -> list[list[Output]]:
    return run_three(Rig(lively_model()))


def assert_equal(outputs: list[Output], expected: list[Output]) -> None:
    assert isinstance(outputs[-1], StreamEnded)
    assert scores(outputs) == pytest.approx(scores(expected), abs=1e-5)
    assert replies(outputs) == replies(expected)


@pytest.mark.parametrize("part", ["layer", "heads"])
def test_sessions_continue_unchanged_after_a_lack_of_memory(part: str, undisturbed: list[list[Output]]) -> None:
    """The run fails after keys and values of some layers have been written, and before or after the last layer."""
    runner = FragileRunner(RuntimeError(CPU_MESSAGE), lambda sessions: len(sessions) > 1, part)
    for outputs, expected in zip(run_three(Engine(runner.model, runner=runner)), undisturbed, strict=True):
        assert_equal(outputs, expected)


def test_one_session_ends_and_the_others_continue_unchanged(undisturbed: list[list[Output]]) -> None:
    def fails(sessions: Sequence[Session]) -> bool:
        return any(session.id == 1 and session.frame_count == 5 for session in sessions)

    runner = FragileRunner(IndexError("index out of range"), fails, "layer")
    first, second, third = run_three(Engine(runner.model, runner=runner))
    assert_equal(first, undisturbed[0])
    assert_equal(third, undisturbed[2])
    failure = second[-1]
    assert isinstance(failure, SessionFailed)
    assert (failure.code, failure.exit_status) == ("engine", EngineError.exit_status)
    assert len(scores(second)) == 2 * 5


def test_the_thread_survives_and_reports_the_errors() -> None:
    """A session that needs too much memory ends; the next one is served by the same thread."""
    steps = list[StepStats]()
    runner = FragileRunner(MemoryError(), lambda sessions: any(session.id == 0 for session in sessions), "layer")
    with EngineThread(Engine(runner.model, runner=runner), steps.append) as thread:
        streams = [thread.open(options()) for _ in range(2)]
        for stream in streams:
            stream.push(frames(1)[0])
        failure = list(streams[0].outputs())[-1]
        assert isinstance(failure, SessionFailed)
        assert failure.code == "no_capacity"
        streams[1].end()
        assert isinstance(list(streams[1].outputs())[-1], StreamEnded)
        assert thread.alive
        with pytest.raises(OptionError):
            thread.open(options(window=100_000))
    assert any(fault.ended_session for step in steps for fault in step.faults)
