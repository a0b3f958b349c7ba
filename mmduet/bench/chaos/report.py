"""The plan and the outcome of a chaos run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mmduet.errors import OptionError

MAX_GROWTH_MB = 32.0


@dataclass(frozen=True)
class ChaosConfig:
    """Number of honest and hostile clients, and what they send: ``images`` are encoded frames, sent at ``fps``.

    ``key`` and ``hostile_key`` are the API keys of the two groups; None for a server without keys.
    """

    honest: int
    hostile: int
    fps: float
    minutes: float
    images: Sequence[bytes]
    query: str
    seed: int = 0
    key: str | None = None
    hostile_key: str | None = None

    def __post_init__(self) -> None:
        """Raise ``OptionError`` without honest clients, duration or rate."""
        if self.honest < 1 or self.minutes <= 0 or self.fps <= 0:
            raise OptionError(
                f"honest clients, minutes and fps must be greater than 0, got {self.honest}, {self.minutes}, {self.fps}"
            )


@dataclass
class ChaosReport:
    """The outcome. ``changed`` counts iterations in which an honest client received other results than the client alone.

    ``unaccounted`` counts frames that were neither scored nor reported as dropped, ``losses`` are the errors that ended honest
    clients, ``attacks`` counts hostile connections by kind. ``disturbances`` has the figures of each disturbance by name and
    ``disturbance_faults`` what went wrong under them.
    """

    iterations: int = 0
    frames: int = 0
    changed: int = 0
    unaccounted: int = 0
    losses: list[str] = field(default_factory=list)
    attacks: dict[str, int] = field(default_factory=dict)
    memory_before_mb: float = 0.0
    memory_after_mb: float = 0.0
    disturbances: dict[str, dict[str, Any]] = field(default_factory=dict)
    disturbance_faults: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Descriptions of everything that is wrong; empty if the server passed."""
        growth = self.memory_after_mb - self.memory_before_mb
        wrong = {
            f"{self.changed} iterations had other results than the client alone": self.changed,
            f"{self.unaccounted} frames were not accounted for": self.unaccounted,
            f"honest clients were lost: {'; '.join(self.losses)}": self.losses,
            f"memory grew by {growth:.1f} MiB": growth > MAX_GROWTH_MB,
            "no iteration was completed": not self.iterations,
        }
        return [*(text for text, bad in wrong.items() if bad), *self.disturbance_faults]

    def to_dict(self) -> dict[str, Any]:
        """Return the report under the names of its JSON file."""
        return {
            "laps": self.iterations,
            "frames": self.frames,
            "changed": self.changed,
            "unaccounted": self.unaccounted,
            "losses": list(self.losses),
            "villainy": dict(self.attacks),
            "memory_before_mb": self.memory_before_mb,
            "memory_after_mb": self.memory_after_mb,
            **self.disturbances,
            "faults": self.faults,
        }
