"""Decides by measured load whether another session may open: before the frames of the others would be scored too late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median
from time import monotonic

from mmduet.errors import CapacityError
from mmduet.server.session_load import SessionLoad
from mmduet.server.step_cost import StepCost, StepCostEstimator

REOPEN_SECONDS = 2.0
"""Sessions are admitted again when the load has allowed it for this time."""
UNMEASURED_FACTOR = 8.0
"""What new sessions count if all are new. It falls to 1 with their share of the load, as then the estimate is confirmed."""
MAX_EXPECTED_AGE = 0.4
"""Expected age of frames, as a share of ``max_frame_age``, above which no session is admitted."""
MAX_STEP_SHARE = 0.8
"""Longest step, as a share of the time between two frames of a session: each step scores one frame of a session."""
OUTDATED_SHARE, FRESH_SHARE = 0.4, 0.2
"""Measured age, as a share of ``max_frame_age``, above which admission stops, and below which it starts again."""
RECENT_SECONDS, QUANTILE = 2.0, 0.9


@dataclass(frozen=True)
class Load:
    """The load of a set of sessions.

    Attributes:
        measured: Frames per second of live sessions whose rate has been measured.
        unmeasured: Expected frames per second of new live sessions.
        typical: Median rate of a live session, in frames per second.
        per_step: Frames in each step of sessions that send the next frame when one has been scored.
        max_age: The strictest ``max_frame_age`` in seconds; None without live sessions.
    """

    measured: float
    unmeasured: float
    typical: float
    per_step: float
    max_age: float | None

    @classmethod
    def of(cls, sessions: Sequence[SessionLoad], cost: StepCost, now: float) -> Load:
        """Return the load of ``sessions``. One that sends faster than the engine could score it alone is not a live one.

        Sessions that have sent too few frames are expected to be like the others.
        """
        measured = unmeasured = per_step = 0.0
        limits, rates, typical = [], [], _measured_rate(sessions, cost, now)
        for session in sessions:
            rate, is_measured = session.rate(now, typical), session.is_measured(now)
            if session.max_frame_age is None or session.reads_file:
                per_step += 0.0 if session.is_idle(now) else min(rate * cost.single, 1.0) if is_measured else 1.0
            elif is_measured and rate * cost.single > 1:
                per_step += 1.0
            else:
                rates.append(rate)
                limits.append(session.max_frame_age)
                measured, unmeasured = measured + rate * is_measured, unmeasured + rate * (not is_measured)
        return cls(measured, unmeasured, median(rates or [0.0]), per_step, min(limits, default=None))

    def utilization(self, cost: StepCost, unmeasured_factor: float = 1.0) -> float:
        """Return the share of the engine's time for the frames of live sessions, if each step takes all that wait."""
        share = self.unmeasured / max(self.measured + self.unmeasured, 1e-9)
        factor = 1 + (unmeasured_factor - 1) * share
        return cost.per_frame * (self.measured + self.unmeasured * factor)

    def step_seconds(self, cost: StepCost) -> float:
        """Return the expected duration of a step: it scores what has arrived during the step before."""
        free = 1 - self.utilization(cost)
        return (cost.fixed + cost.per_frame * max(self.per_step, 1.0)) / free if free > 0 else float("inf")

    def excess(self, cost: StepCost, max_utilization: float) -> str | None:
        """Return why the engine cannot score the frames of live sessions in time; None if it can."""
        if self.max_age is None:
            return None
        utilization, step = self.utilization(cost, UNMEASURED_FACTOR), self.step_seconds(cost)
        if utilization > max_utilization:
            return f"the frames of live streams need {utilization:.0%} of the engine, which is too much"
        if 2 * step > MAX_EXPECTED_AGE * self.max_age or step * self.typical > MAX_STEP_SHARE:
            return f"a step takes about {step:.2g} s, which is too long for live streams"
        return None


class AdmissionControl:
    """Admit sessions while the engine keeps up with the frames of all; the clock returns seconds.

    Admission stops if live sessions would use more than ``max_utilization`` of the engine with another one like them, or if
    their frames would be scored too late, or are already. Then it stays closed for ``REOPEN_SECONDS``. Sessions on an idle
    engine are always admitted, and all with an infinite ``max_utilization``.
    """

    def __init__(self, max_utilization: float, clock: Callable[[], float] = monotonic) -> None:
        self.step_cost = StepCostEstimator()
        self._max_utilization, self._clock = max_utilization, clock
        self._sessions: dict[str, SessionLoad] = {}
        self._outdated, self._closed_at = False, float("-inf")

    @property
    def utilization(self) -> float:
        """Return the share of the engine's time that the frames of the live sessions take."""
        cost = self.step_cost.estimate()
        return 0.0 if cost is None else self._load(cost).utilization(cost)

    def open(self, session_id: str, fps: float, max_frame_age: float | None) -> SessionLoad:
        """Add a session, or replace its settings; ``fps`` is the expected rate. Return what records its load."""
        load = self._sessions.get(session_id)
        if load is None:
            load = self._sessions[session_id] = SessionLoad(fps, max_frame_age, self._clock())
        load.fps, load.max_frame_age = fps, max_frame_age
        return load

    def close(self, session_id: str) -> None:
        """Remove a session; do nothing if it is not open."""
        self._sessions.pop(session_id, None)

    def check(self, fps: float, max_frame_age: float | None) -> None:
        """Raise ``CapacityError`` if a session with this expected rate cannot be admitted now."""
        new = SessionLoad(fps, max_frame_age, self._clock())
        reason = self._closed_reason() or self._excess(new)
        if reason is not None:
            raise CapacityError(f"{reason}; try again later or use another server")

    def free_sessions(self, fps: float, max_frame_age: float | None, limit: int) -> int:
        """Return how many sessions with this rate would be admitted at once, at most ``limit``."""
        if self._closed_reason() is not None:
            return 0
        new, admitted, refused = SessionLoad(fps, max_frame_age, self._clock()), 0, limit + 1
        while refused - admitted > 1:
            middle = (admitted + refused) // 2
            if self._excess(*[new] * middle) is None:
                admitted = middle
            else:
                refused = middle
        return admitted

    @property
    def _cost(self) -> StepCost | None:
        """The measured cost; None if nothing has been measured or everyone is admitted."""
        return self.step_cost.estimate() if isfinite(self._max_utilization) else None

    def _load(self, cost: StepCost, *new: SessionLoad) -> Load:
        return Load.of([*self._sessions.values(), *new], cost, self._clock())

    def _excess(self, *new: SessionLoad) -> str | None:
        """Return why ``new`` sessions cannot be admitted beside the others; None if they can."""
        cost = self._cost
        if cost is None or (len(new) == 1 and self._is_idle()):
            return None
        return self._load(cost, *new).excess(cost, self._max_utilization)

    def _closed_reason(self) -> str | None:
        """Return why no session is admitted at any rate; None if admission is open.

        What counts is a session like those that are open, so that one with a high rate does not close it for others.
        """
        now, cost = self._clock(), self._cost
        outdated = self._is_outdated(now)
        if cost is None or self._is_idle():
            return None
        load = self._load(cost)
        if load.max_age is None:
            return None
        another = SessionLoad(load.typical, load.max_age, now)
        reason = "frames are being scored too late" if outdated else self._excess(another)
        if reason is not None:
            self._closed_at = now
        elif now - self._closed_at < REOPEN_SECONDS:
            reason = "the engine had no time for another live stream a moment ago"
        return reason

    def _is_idle(self) -> bool:
        now = self._clock()
        return all(session.is_idle(now) for session in self._sessions.values())

    def _is_outdated(self, now: float) -> bool:
        """Return whether one frame in ten of the last seconds was scored too late; with hysteresis."""
        since = now - RECENT_SECONDS
        shares = sorted(share for load in self._sessions.values() for share in load.ages_since(since))
        high = shares[int(QUANTILE * len(shares))] if shares else 0.0
        self._outdated = high > (FRESH_SHARE if self._outdated else OUTDATED_SHARE)
        return self._outdated


def _measured_rate(sessions: Sequence[SessionLoad], cost: StepCost, now: float) -> float:
    """Return the median rate of the live sessions that have been measured; 0 without any."""
    rates = [load.rate(now) for load in sessions if load.is_live and load.is_measured(now)]
    return median([rate for rate in rates if rate * cost.single <= 1] or [0.0])
