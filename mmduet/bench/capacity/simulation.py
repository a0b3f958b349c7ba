"""A discrete-event simulation of an engine that serves many streams in packed steps.

It follows the engine's rules. A step takes one piece of work of every stream that has any, in turn and up to a number of
tokens. A stream that replies contributes one token, and its frames wait until the reply has ended.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mmduet.bench.capacity.load import StreamLoad
from mmduet.bench.capacity.measured_steps import StepSize
from mmduet.bench.capacity.step_time import StepTime

WARM_UP_SHARE = 0.2
"""Share of the simulated time, from its beginning, whose frames are not counted."""


class Wait(Protocol):
    """Decides how long the engine waits for more work before a step, see ``mmduet.engine.batching_wait``."""

    def plan(self, ready: int, streams: int) -> tuple[float, int]:
        """Return the longest wait in seconds, and the number of ready streams at which it ends."""

    def on_step(self, seconds: float, frames: int, now: float) -> None:
        """Record a step that has ended at ``now``."""


class NoWait:
    """Every step begins at once."""

    def plan(self, ready: int, streams: int) -> tuple[float, int]:
        """Return no wait."""
        return 0.0, 0

    def on_step(self, seconds: float, frames: int, now: float) -> None:
        """Do nothing."""


@dataclass
class Outcome:
    """What was simulated. Times in seconds.

    Attributes:
        latencies: From the arrival of each frame to its decision.
        first_tokens: From the arrival of each frame that led to a reply to the reply's first token.
        steps: Number of steps.
        jobs: Number of pieces of work in all steps.
        busy: Total duration of the steps.
        end: When the last step ended.
    """

    latencies: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    steps: int = 0
    jobs: int = 0
    busy: float = 0.0
    end: float = 0.0


@dataclass
class _Stream:
    """A stream: arrival times of frames that wait, and the state of its reply."""

    number: int
    arrivals: Iterator[float]
    waiting: deque[float] = field(default_factory=deque)
    tokens_left: int = 0  # of the reply
    replied_to: float | None = None  # arrival of the frame whose reply has not begun

    @property
    def ready(self) -> bool:
        return bool(self.tokens_left or self.waiting)


class Simulation:
    """An engine and its streams; ``run`` simulates them once."""

    def __init__(
        self,
        streams: int,
        load: StreamLoad,
        step_time: StepTime,
        *,
        seconds: float = 60.0,
        seed: int = 0,
        max_step_tokens: int = 4096,
        phases: Sequence[float] | None = None,
        wait: Wait | None = None,
    ) -> None:
        """``phases`` are the first arrivals of the streams, in intervals between frames; by default random."""
        self._load, self._step_time, self._budget, self._wait = load, step_time, max_step_tokens, wait or NoWait()
        self._random = np.random.default_rng(seed)
        self._counted_from = WARM_UP_SHARE * seconds
        phases = self._random.random(streams).tolist() if phases is None else phases
        self._streams = [
            _Stream(number, load.arrival_times(phase, seconds, self._random)) for number, phase in enumerate(phases)
        ]
        self._ready: set[int] = set()
        self._next_stream = 0  # to be served first
        self._next_frames: list[tuple[float, int]] = []  # heap: time and stream
        for stream in self._streams:
            self._await_frame(stream)
        self._now = 0.0
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Simulate until every frame that arrives has been scored, and every reply has ended."""
        while self._ready or self._next_frames:
            if not self._ready:
                self._now = max(self._now, self._next_frames[0][0])
            self._receive()
            self._collect_more()
            self._step()
        self.outcome.end = self._now
        return self.outcome

    # arrivals

    def _await_frame(self, stream: _Stream) -> None:
        if (time := next(stream.arrivals, None)) is not None:
            heapq.heappush(self._next_frames, (time, stream.number))

    def _receive(self) -> None:
        """Take the frames that have arrived."""
        while self._next_frames and self._next_frames[0][0] <= self._now:
            time, number = heapq.heappop(self._next_frames)
            self._streams[number].waiting.append(time)
            self._ready.add(number)
            self._await_frame(self._streams[number])

    def _collect_more(self) -> None:
        """Wait for more frames, if the engine does so."""
        seconds, target = self._wait.plan(len(self._ready), len(self._streams))
        end = self._now + seconds
        while len(self._ready) < target:
            if not self._next_frames or self._next_frames[0][0] > end:
                self._now = end
                return
            self._now = self._next_frames[0][0]
            self._receive()

    # steps

    def _step(self) -> None:
        """Run one step."""
        jobs = self._schedule()
        frames = sum(not stream.tokens_left for stream in jobs)
        size = StepSize(len(jobs), frames, sum(self._tokens(stream) for stream in jobs))
        seconds = self._step_time.draw(size, self._random) + self._load.overhead * frames
        self._now += seconds
        for stream in jobs:
            if stream.tokens_left:
                self._finish_token(stream)
            else:
                self._finish_frame(stream)
            if not stream.ready:
                self._ready.discard(stream.number)
        self.outcome.steps += 1
        self.outcome.jobs += len(jobs)
        self.outcome.busy += seconds
        self._wait.on_step(seconds, frames, self._now)

    def _schedule(self) -> list[_Stream]:
        """Return the streams of the next step: in turn, up to the budget of tokens, at least one."""
        numbers = sorted(self._ready)
        first = next((i for i, number in enumerate(numbers) if number >= self._next_stream), 0)
        jobs, tokens = list[_Stream](), 0
        for number in [*numbers[first:], *numbers[:first]]:
            if jobs and tokens >= self._budget:
                self._next_stream = number
                break
            jobs.append(self._streams[number])
            tokens += self._tokens(jobs[-1])
        return jobs

    def _tokens(self, stream: _Stream) -> int:
        if not stream.tokens_left:
            return self._load.frame_tokens
        return 1 if stream.replied_to is None else self._load.header_tokens

    def _finish_frame(self, stream: _Stream) -> None:
        arrived = stream.waiting.popleft()
        if arrived >= self._counted_from:
            self.outcome.latencies.append(self._now - arrived)
        if self._load.speak_rate and self._random.random() < self._load.speak_rate:
            stream.tokens_left, stream.replied_to = self._load.tokens_per_reply, arrived

    def _finish_token(self, stream: _Stream) -> None:
        if stream.replied_to is not None:
            if stream.replied_to >= self._counted_from:
                self.outcome.first_tokens.append(self._now - stream.replied_to)
            stream.replied_to = None
        stream.tokens_left -= 1
