"""Selects the work of the next step: ready sessions in turn, so that none starves."""

from __future__ import annotations

from collections.abc import Sequence

from mmduet.engine.lifecycle import fail
from mmduet.engine.runner import Runner
from mmduet.engine.session import Session, WorkItem
from mmduet.engine.window import ensure_capacity
from mmduet.errors import CapacityError


class Scheduler:
    """Schedules sessions round robin under a budget of tokens per step."""

    def __init__(self, runner: Runner, max_step_tokens: int) -> None:
        self._runner, self._budget = runner, max_step_tokens
        self._next_id = 0  # id of the session to be served first

    def schedule(self, sessions: Sequence[Session]) -> list[tuple[Session, WorkItem]]:
        """Return the work of the next step, with room for it in every slot. At least one ready session is served."""
        ready = [s for s in sessions if s.ready]
        first = next((i for i, s in enumerate(ready) if s.id >= self._next_id), 0)
        jobs: list[tuple[Session, WorkItem]] = []
        tokens = 0
        for session in [*ready[first:], *ready[:first]]:
            if jobs and tokens >= self._budget:
                self._next_id = session.id
                break
            work = session.next_work()
            if work is not None and self._reserve(session, work):
                jobs.append((session, work))
                tokens += sum(self._runner.token_count(span) for span in work.spans)
        return jobs

    def _reserve(self, session: Session, work: WorkItem) -> bool:
        """Make room for the work in the session's slot. If that fails, end the session and return False."""
        if session.reply:
            return True  # room for the whole reply was made when it began
        try:
            ensure_capacity(
                session, sum(self._runner.token_count(span) for span in work.spans), int(work.frame is not None)
            )
        except CapacityError as error:
            fail(session, error)
            return False
        return True
