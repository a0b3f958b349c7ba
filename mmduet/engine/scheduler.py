"""Chooses what goes into a step: work of as many ready sessions as fit, in turn, so that none waits for ever."""

from __future__ import annotations

from collections.abc import Sequence

from mmduet.engine.lifecycle import fail
from mmduet.engine.runner import Runner
from mmduet.engine.session import Session, WorkItem
from mmduet.engine.window import ensure_capacity
from mmduet.errors import CapacityError


class Scheduler:
    """Round robin over sessions under a budget of tokens per step."""

    def __init__(self, runner: Runner, max_step_tokens: int) -> None:
        self._runner, self._budget = runner, max_step_tokens
        self._next = 0  # id of the session that is served first

    def schedule(self, sessions: Sequence[Session]) -> list[tuple[Session, WorkItem]]:
        """The coming step's work, with room made for it in every slot. At least one session is always served."""
        ready = [s for s in sessions if s.ready]
        first = next((i for i, s in enumerate(ready) if s.id >= self._next), 0)
        jobs: list[tuple[Session, WorkItem]] = []
        tokens = 0
        for session in [*ready[first:], *ready[:first]]:
            if jobs and tokens >= self._budget:
                self._next = session.id
                break
            work = session.next_work()
            if work is not None and self._fits(session, work):
                jobs.append((session, work))
                tokens += sum(self._runner.token_count(run) for run in work.runs)
        return jobs

    def _fits(self, session: Session, work: WorkItem) -> bool:
        """Make room for the work, or end the session that cannot have it."""
        if session.reply:
            return True  # its reply's room was made when it began
        try:
            ensure_capacity(
                session, sum(self._runner.token_count(run) for run in work.runs), int(work.frame is not None)
            )
        except CapacityError as error:
            fail(session, error)
            return False
        return True
