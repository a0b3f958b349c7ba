"""Predicts latencies for a number of streams, and the largest number of streams that an engine holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmduet.bench.capacity.load import StreamLoad
from mmduet.bench.capacity.simulation import NoWait, Outcome, Simulation, Wait
from mmduet.bench.capacity.step_time import AffineStepTime
from mmduet.errors import OptionError

MAX_STREAMS = 1 << 16
"""Bound of the search."""


@dataclass(frozen=True)
class Prediction:
    """Predicted figures of a number of streams. Times in seconds; NaN where there is nothing to measure."""

    streams: int
    frames: int
    latency_p50: float
    latency_p99: float
    latency_max: float
    first_token_p50: float
    first_token_p99: float
    utilization: float
    steps_per_second: float
    streams_per_step: float

    @classmethod
    def of(cls, streams: int, outcome: Outcome) -> Prediction:
        """Return the figures of a simulation."""
        if not outcome.latencies:
            raise OptionError("no frame arrives in the simulated time; simulate more seconds")
        p50, p99, largest = _quantiles(outcome.latencies, (0.5, 0.99, 1.0))
        first_p50, first_p99 = _quantiles(outcome.first_tokens, (0.5, 0.99))
        return cls(
            streams,
            len(outcome.latencies),
            latency_p50=p50,
            latency_p99=p99,
            latency_max=largest,
            first_token_p50=first_p50,
            first_token_p99=first_p99,
            utilization=outcome.busy / outcome.end,
            steps_per_second=outcome.steps / outcome.end,
            streams_per_step=outcome.jobs / outcome.steps,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction under the names of its JSON file."""
        return {
            "streams": self.streams, "frames": self.frames, "latency_p50": self.latency_p50,
            "latency_p99": self.latency_p99, "latency_max": self.latency_max, "first_token_p50": self.first_token_p50,
            "first_token_p99": self.first_token_p99, "utilization": self.utilization,
            "steps_per_second": self.steps_per_second, "streams_per_step": self.streams_per_step,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SimulationOptions:
    """Options of a prediction: simulated seconds, seed, the engine's ``max_step_tokens``, and what makes its waits."""

    seconds: float = 60.0
    seed: int = 0
    max_step_tokens: int = 4096
    make_wait: Callable[[], Wait] = NoWait

    def __post_init__(self) -> None:
        """Raise ``OptionError`` for values that are out of range."""
        if not (self.seconds > 0 and self.max_step_tokens >= 1):
            raise OptionError(
                "a simulation needs more than 0 seconds and at least 1 token per step, "
                f"got {self.seconds} and {self.max_step_tokens}"
            )


def predict(streams: int, load: StreamLoad, step_time: AffineStepTime, options: SimulationOptions) -> Prediction:
    """Return the prediction for a number of streams."""
    if streams < 1:
        raise OptionError(f"streams must be at least 1, got {streams}")
    simulation = Simulation(
        streams,
        load,
        step_time,
        seconds=options.seconds,
        seed=options.seed,
        max_step_tokens=options.max_step_tokens,
        wait=options.make_wait(),
    )
    return Prediction.of(streams, simulation.run())


def utilization_bound(load: StreamLoad, step_time: AffineStepTime) -> float:
    """Return the number of streams that no batching can exceed: those whose work beside the fixed time fills every second."""
    frame = step_time.per_stream + step_time.per_frame + step_time.per_token * load.frame_tokens + load.overhead
    token = step_time.per_stream + step_time.per_token
    header = step_time.per_stream + step_time.per_token * load.header_tokens
    reply = header + token * (load.tokens_per_reply - 1)
    work = load.fps * (frame + load.speak_rate * reply)  # seconds per second and stream
    return 1 / work if work > 0 else float("inf")


def find_max_streams(predict_for: Callable[[int], Prediction], max_p99: float) -> list[Prediction]:
    """Return the predictions of a search, the last one that of the largest number of streams with ``latency_p99 <= max_p99``.

    If not even one stream is held, the only one is that of one stream. The number is doubled until it is not held; then the
    interval between is bisected.
    """
    tried = [predict_for(1)]
    held, above = tried[0], None
    while held.latency_p99 <= max_p99 and held.streams < MAX_STREAMS:
        streams = 2 * held.streams if above is None else (held.streams + above) // 2
        if streams == held.streams:
            break
        tried.append(predict_for(streams))
        if tried[-1].latency_p99 <= max_p99:
            held = tried[-1]
        else:
            above = streams
    return [*(prediction for prediction in tried if prediction is not held), held]


def _quantiles(values: Sequence[float], shares: Sequence[float]) -> list[float]:
    return [float(value) for value in np.quantile(values, shares)] if values else [float("nan")] * len(shares)
