"""The load that one stream puts on an engine: when its frames arrive, and how much it speaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mmduet.errors import OptionError

Arrivals = Literal["periodic", "poisson"]


@dataclass(frozen=True, kw_only=True)
class StreamLoad:
    """The load of one stream; all streams of a simulation have the same.

    Attributes:
        fps: Frames per second.
        frame_tokens: Tokens that a frame and the text around it add to a step.
        speak_rate: Replies per frame.
        tokens_per_reply: Steps of a reply; each samples one token.
        header_tokens: Tokens of the step that begins a reply.
        arrivals: ``periodic`` like a camera, or ``poisson`` with independent frames.
        jitter: How late a periodic frame arrives at most, as a share of the interval; uniformly distributed.
        overhead: Seconds that are added to a step for every frame, for work beside the engine on the same cores.
    """

    fps: float = 2.0
    frame_tokens: int = 49
    speak_rate: float = 0.0
    tokens_per_reply: int = 16
    header_tokens: int = 4
    arrivals: Arrivals = "periodic"
    jitter: float = 0.0
    overhead: float = 0.0

    def __post_init__(self) -> None:
        """Raise ``OptionError`` for values that are out of range."""
        for name, value, valid, expected in (
            ("fps", self.fps, self.fps > 0, "more than 0"),
            ("speak_rate", self.speak_rate, 0 <= self.speak_rate <= 1, "from 0 to 1 replies per frame"),
            ("jitter", self.jitter, 0 <= self.jitter < 1, "at least 0 and less than 1 interval"),
            ("overhead", self.overhead, self.overhead >= 0, "at least 0"),
            ("frame_tokens", self.frame_tokens, self.frame_tokens >= 1, "at least 1"),
            ("tokens_per_reply", self.tokens_per_reply, self.tokens_per_reply >= 1, "at least 1"),
            ("header_tokens", self.header_tokens, self.header_tokens >= 1, "at least 1"),
        ):
            if not valid:
                raise OptionError(f"{name} must be {expected}, got {value}")

    def arrival_times(self, phase: float, seconds: float, random: np.random.Generator) -> Iterator[float]:
        """Yield the times of arrival before ``seconds``; periodic frames begin after ``phase`` intervals."""
        interval, time = 1 / self.fps, phase / self.fps
        if self.arrivals == "poisson":
            while (time := time + float(random.exponential(interval))) < seconds:
                yield time
            return
        for number in range(int(np.ceil((seconds - time) * self.fps))):
            yield time + number * interval + self.jitter * interval * float(random.random())

    def to_dict(self) -> dict[str, Any]:
        """Return the load under the names of the report."""
        return {
            "fps": self.fps, "frame_tokens": self.frame_tokens, "speak_rate": self.speak_rate,
            "tokens_per_reply": self.tokens_per_reply, "header_tokens": self.header_tokens, "arrivals": self.arrivals,
            "jitter": self.jitter, "overhead": self.overhead,
        }  # fmt: skip
