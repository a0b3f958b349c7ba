"""What could not be read of a video: frames that were skipped, and where the video breaks off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmduet.spans import Span

MAX_DESCRIBED_SPANS = 3
ROUNDING_SECONDS = 2e-3  # between spans that follow each other


@dataclass(frozen=True)
class Damage:
    """Damage that was found while a video was read; false if there was none.

    Attributes:
        skipped: Number of frames that could not be decoded.
        spans: When these frames would have been visible, in seconds from the first frame, ascending and disjoint.
        truncated_at: The end of the last frame in seconds, if the video breaks off there; else None.
    """

    skipped: int = 0
    spans: tuple[Span, ...] = ()
    truncated_at: float | None = None

    def __bool__(self) -> bool:
        return bool(self.skipped or self.spans) or self.truncated_at is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the damage as JSON values."""
        spans = [{"start": span.start, "end": span.end} for span in self.spans]
        return {"skipped": self.skipped, "spans": spans, "truncated_at": self.truncated_at}

    def describe(self) -> str:
        """Return a text for messages, "" if there is no damage."""
        parts = []
        if self.skipped:
            frames = f"{self.skipped} damaged frame{'s were' if self.skipped != 1 else ' was'} skipped"
            parts.append(f"{frames} ({self._describe_spans()})" if self.spans else frames)
        if self.truncated_at is not None:
            parts.append(f"the video is cut off at {self.truncated_at:.2f} s")
        return ", and ".join(parts)

    def _describe_spans(self) -> str:
        shown = [f"{start:.2f} to {end:.2f} s" for start, end in self.spans[:MAX_DESCRIBED_SPANS]]
        more = len(self.spans) - len(shown)
        return ", ".join(shown) + (f" and {more} more places" if more else "")


NO_DAMAGE = Damage()


class DamageLog:
    """Collects the damage of one video while it is read; ``reason`` is the first error's message."""

    def __init__(self) -> None:
        self.reason = ""
        self._skipped = 0
        self._spans: list[Span] = []
        self._truncated_at: float | None = None

    def add_reason(self, reason: str) -> None:
        """Keep the first reason."""
        self.reason = self.reason or reason

    def add_frames(self, count: int, start: float, end: float) -> None:
        """Record ``count`` skipped frames from ``start`` to ``end`` seconds, not before those recorded already."""
        self._skipped += count
        if self._spans and start <= self._spans[-1].end + ROUNDING_SECONDS:
            start, end = self._spans[-1].start, max(self._spans.pop().end, end)
        self._spans.append(Span(start, max(start, end)))

    def truncate(self, time: float) -> None:
        """Record that the video breaks off at ``time`` seconds."""
        self._truncated_at = time

    @property
    def damage(self) -> Damage:
        """The damage so far."""
        return Damage(self._skipped, tuple(self._spans), self._truncated_at)
