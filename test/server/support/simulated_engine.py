"""A simulated engine and its live sessions, with which admission is tested without a clock and without a model."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from mmduet.errors import CapacityError
from mmduet.server.admission import AdmissionControl
from mmduet.server.session_load import SessionLoad

RETRY_SECONDS = 2.0
MAX_AGE = 1.0
HANDSHAKE_SECONDS = 0.008


@dataclass
class SimulatedSession:
    """A live session that sends ``fps`` frames per second from ``next_frame_at`` on."""

    fps: float
    next_frame_at: float
    load: SessionLoad
    dropped: int = 0
    waiting: deque[float] = field(default_factory=deque)  # times of arrival
    scored_at: deque[float] = field(default_factory=lambda: deque([0.0, 0.0], maxlen=2))


@dataclass
class Outcome:
    """Frames since the last call of ``Simulation.reset``."""

    ages: list[float] = field(default_factory=list)
    dropped: int = 0

    def age(self, share: float) -> float:
        """Return a quantile of the ages in seconds."""
        return sorted(self.ages)[int(share * (len(self.ages) - 1))]

    @property
    def dropped_share(self) -> float:
        """Return the share of dropped frames."""
        return self.dropped / max(self.dropped + len(self.ages), 1)


class Simulation:
    """Sessions that offer frames to an engine whose steps take ``fixed + per_frame * frames`` seconds, with ``noise``."""

    def __init__(
        self, fixed: float, per_frame: float, max_utilization: float = 0.9, noise: float = 0.0, seed: int = 0
    ) -> None:
        self.now = 0.0
        self.fixed, self.per_frame, self.noise = fixed, per_frame, noise
        self.random = random.Random(seed)
        self.admission = AdmissionControl(max_utilization, lambda: self.now)
        self.sessions: dict[str, SimulatedSession] = {}
        self.waiting_clients: list[tuple[float, float]] = []  # time of the next attempt, fps
        self.outcome = Outcome()
        self.opened = 0
        for frames in (1,) * 8 + (8,) * 8:  # what the engine's warm-up measures
            self.admission.step_cost.on_step(fixed + per_frame * frames, frames)

    def offer(self, count: int, fps: float, interval: float = HANDSHAKE_SECONDS) -> None:
        """Let clients connect one after another; a refused one tries again."""
        self.waiting_clients += [(self.now + number * interval, fps) for number in range(count)]

    def connect(self, fps: float, expected_fps: float = 2.0) -> bool:
        """Try to open a session now; the server does not know how fast it will send. Return whether it was admitted."""
        try:
            self.admission.check(expected_fps, MAX_AGE)
        except CapacityError:
            return False
        self.opened += 1
        load = self.admission.open(str(self.opened), expected_fps, MAX_AGE)
        start = self.now + self.random.random() / fps
        self.sessions[str(self.opened)] = SimulatedSession(fps, start, load)
        return True

    def disconnect(self, count: int) -> None:
        """Close the oldest sessions."""
        for session_id in list(self.sessions)[:count]:
            del self.sessions[session_id]
            self.admission.close(session_id)

    def reset(self) -> None:
        """Forget the outcomes so far."""
        self.outcome = Outcome()

    def run(self, seconds: float) -> None:
        """Advance the time."""
        end = self.now + seconds
        while self.now < end:
            self._connect_waiting()
            for session in self.sessions.values():
                self._receive(session)
            batch = [session for session in self.sessions.values() if session.waiting]
            if batch:
                self.step(batch)
            else:
                self.now += 0.001

    def step(self, batch: list[SimulatedSession], pause: float = 0.0) -> None:
        """Score the oldest frame of each session; ``pause`` is added to the duration of the step."""
        scale = self.random.lognormvariate(0.0, self.noise) if self.noise else 1.0
        seconds = (self.fixed + self.per_frame * len(batch)) * scale + pause
        arrivals = [session.waiting.popleft() for session in batch]
        self.now += seconds
        self.admission.step_cost.on_step(seconds, len(batch))
        for session, arrived_at in zip(batch, arrivals, strict=True):
            self.outcome.ages.append(self.now - arrived_at)
            session.load.on_scored(self.now, self.now - max(arrived_at, session.scored_at[0]))
            session.scored_at.append(self.now)

    def _connect_waiting(self) -> None:
        refused = []
        for attempt_at, fps in self.waiting_clients:
            if attempt_at > self.now:
                refused.append((attempt_at, fps))
            elif not self.connect(fps):
                refused.append((self.now + RETRY_SECONDS, fps))
        self.waiting_clients = refused

    def _receive(self, session: SimulatedSession) -> None:
        while session.next_frame_at <= self.now:
            session.load.on_frame(session.next_frame_at)
            session.waiting.append(session.next_frame_at)
            session.next_frame_at += 1 / session.fps
        while len(session.waiting) > 1 and self.now + session.load.latency - session.waiting[0] > MAX_AGE:
            session.waiting.popleft()
            self.outcome.dropped += 1
            session.dropped += 1
