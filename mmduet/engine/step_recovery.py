"""Runs the jobs of a step so that an error ends as few sessions as possible: a step that fails is repeated in smaller parts."""

from __future__ import annotations

import gc
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch

from mmduet.errors import CapacityError, EngineError, MmduetError

Job = TypeVar("Job")
Result = TypeVar("Result")

MEMORY_MESSAGES = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "std::bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Parts of the messages of a ``RuntimeError`` that PyTorch and its libraries raise if an allocation fails."""

WAIT_SECONDS = (0.02, 0.1, 0.3)
"""Pauses in one step before single jobs are repeated that have failed for lack of memory: another process may release some."""
STEPS_UNTIL_FULL_SIZE = 256
"""Number of successful steps in parts after which the limit that a lack of memory has set to the jobs of a part is doubled."""


@dataclass(frozen=True)
class StepFault:
    """An error in a step: the number of jobs that were run together, and whether it ended the session of the only one."""

    error: Exception
    jobs: int
    ended_session: bool


@dataclass
class StepOutcome(Generic[Job, Result]):
    """Results and errors of the jobs of a step; each job is in exactly one part or failure.

    Attributes:
        parts: Jobs that were run together, and their result.
        failures: Jobs that fail alone, with the error that ends their sessions.
        faults: Every error that occurred, in order.
    """

    parts: list[tuple[Sequence[Job], Result]] = field(default_factory=list)
    failures: list[tuple[Job, Exception]] = field(default_factory=list)
    faults: list[StepFault] = field(default_factory=list)


def is_memory_error(error: BaseException) -> bool:
    """Return whether an exception reports that memory could not be allocated, on the host or on a device."""
    if isinstance(error, MemoryError | CapacityError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(part in str(error) for part in MEMORY_MESSAGES)


def to_session_error(error: Exception) -> MmduetError:
    """Return the error with which a session ends whose job failed alone: ``CapacityError`` for a lack of memory."""
    if isinstance(error, CapacityError):
        return error
    if is_memory_error(error):
        return CapacityError(
            "the engine ran out of memory in a step of this session alone; use a smaller window, or try again later"
        )
    return EngineError(
        f"the model failed on the input of this session ({type(error).__name__}), and on no other one; open another session"
    )


def release_cached_memory() -> None:
    """Return the memory that is no longer used to the host and to the device's allocator."""
    gc.collect()
    torch.cuda.empty_cache()  # does nothing if CUDA has not been used


class StepRecovery(Generic[Job, Result]):
    """Runs the jobs of steps with ``run``, which must leave all sessions unchanged if it raises.

    A part of a step that raises is halved and repeated until the jobs that fail alone are found; only these fail. Two kinds of
    errors are distinguished:

    - Lack of memory. A job that fails alone is repeated after short pauses, which all jobs of a step share. The following steps
      run in parts of the size that has succeeded, so that not every step fails first.
    - All other errors. They are raised if every job of the step fails, as then the cause is not in a session.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Job]], Result],
        *,
        release_memory: Callable[[], None] = release_cached_memory,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``release_memory`` is called after a lack of memory, ``sleep`` pauses for a number of seconds."""
        self._run, self._release_memory, self._sleep = run, release_memory, sleep
        self._max_jobs: int | None = None  # of a part, since memory was short
        self._successes = 0  # steps in a row without an error

    def run_jobs(self, jobs: Sequence[Job]) -> StepOutcome[Job, Result]:
        """Run all jobs, together if possible. Raise the original error if it is not one of memory and every job fails."""
        outcome: StepOutcome[Job, Result] = StepOutcome()
        waiting = deque(_split(jobs, self._max_jobs or len(jobs)))
        pauses = deque(WAIT_SECONDS)
        while waiting:
            part = waiting.popleft()
            result = self._attempt(part, outcome)
            if result is not None:
                outcome.parts.append((part, result))
            elif len(part) > 1:
                waiting.extendleft(reversed(_split(part, (len(part) + 1) // 2)))
            elif pauses and _is_transient(outcome.faults[-1].error):
                self._sleep(pauses.popleft())
                waiting.appendleft(part)
            else:
                _give_up(part[0], outcome)
        _raise_if_all_failed(outcome)
        self._adapt(outcome)
        return outcome

    def _attempt(self, part: Sequence[Job], outcome: StepOutcome[Job, Result]) -> Result | None:
        """Run a part. If it fails, record the error and return None."""
        try:
            return self._run(part)
        except Exception as error:  # noqa: BLE001 - raised again, or reported with the session that it ends
            fault = StepFault(error, len(part), ended_session=False)
        _release_frames(fault.error)  # outside of the handler, where the failed run has no active frame
        outcome.faults.append(fault)
        if is_memory_error(fault.error):
            self._release_memory()
        return None

    def _adapt(self, outcome: StepOutcome[Job, Result]) -> None:
        """Limit the size of parts after a lack of memory, and raise the limit after enough steps without one."""
        if any(is_memory_error(fault.error) for fault in outcome.faults):
            self._max_jobs, self._successes = max((len(part) for part, _ in outcome.parts), default=1), 0
        elif self._max_jobs is not None and len(outcome.parts) > 1:
            self._successes += 1
            if self._successes >= STEPS_UNTIL_FULL_SIZE:
                self._max_jobs, self._successes = 2 * self._max_jobs, 0


def _split(jobs: Sequence[Job], size: int) -> list[Sequence[Job]]:
    return [jobs[begin : begin + size] for begin in range(0, len(jobs), size)]


def _give_up(job: Job, outcome: StepOutcome[Job, Result]) -> None:
    fault = outcome.faults.pop()
    outcome.faults.append(StepFault(fault.error, fault.jobs, ended_session=True))
    outcome.failures.append((job, fault.error))


def _is_transient(error: Exception) -> bool:
    """Return whether memory is short outside of the engine; the engine's own pool (``CapacityError``) does not change."""
    return is_memory_error(error) and not isinstance(error, CapacityError)


def _raise_if_all_failed(outcome: StepOutcome[Job, Result]) -> None:
    """Raise the first error that is not one of memory if no job has succeeded: repeating the step would fail again."""
    if not outcome.parts:
        for fault in outcome.faults:
            if not is_memory_error(fault.error):
                raise fault.error


def _release_frames(error: BaseException) -> None:
    """Delete the local variables of the calls that raised ``error``: they hold the tensors and sessions of the failed step.

    The outermost frame, which caught the error and is still running, is removed from the traceback instead.
    """
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
    linked: BaseException | None = error
    known = set[int]()
    while linked is not None and id(linked) not in known:  # an error may be its own cause
        known.add(id(linked))
        traceback.clear_frames(linked.__traceback__)
        linked = linked.__cause__ or linked.__context__
