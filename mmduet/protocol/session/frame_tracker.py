"""Tracks accepted frames: each gets exactly one outcome, and outcomes are released in the order of acceptance."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

OutcomeT = TypeVar("OutcomeT")


@dataclass(frozen=True)
class AcceptedFrame:
    """A frame that the session has accepted.

    Attributes:
        index: Number of the frame in the session, from 0.
        seq: The client's sequence number.
        pts: The client's timestamp in microseconds.
        time: Seconds since the first frame of the stream.
        received_at: When the frame arrived, in seconds on the server's clock.
    """

    index: int
    seq: int
    pts: int
    time: float
    received_at: float


@dataclass(frozen=True)
class FrameTrackerState(Generic[OutcomeT]):
    """Saved state of a tracker: open frames, outcomes that are held back, and counts."""

    open: tuple[AcceptedFrame, ...]
    outcomes: dict[int, OutcomeT]
    counts: dict[str, int]


class FrameTracker(Generic[OutcomeT]):
    """Accepted frames whose outcome has not been released. ``counts`` has the number of frames by outcome."""

    def __init__(self, state: FrameTrackerState[OutcomeT] | None = None) -> None:
        """Start empty, or from a saved state."""
        state = state or FrameTrackerState((), {}, {})
        self._open = OrderedDict((frame.index, frame) for frame in state.open)
        self._outcomes: dict[int, OutcomeT] = dict(state.outcomes)
        self.counts: Counter[str] = Counter(state.counts)

    @property
    def state(self) -> FrameTrackerState[OutcomeT]:
        """A copy of the state, from which a tracker can be restored."""
        return FrameTrackerState(tuple(self._open.values()), dict(self._outcomes), dict(self.counts))

    @property
    def open_count(self) -> int:
        """Number of frames whose outcome has not been released."""
        return len(self._open)

    def accept(self, frame: AcceptedFrame) -> None:
        """Add a frame. Indices must increase."""
        self._open[frame.index] = frame
        self.counts["received"] += 1

    def find(self, index: int) -> AcceptedFrame | None:
        """Return the frame with this index if its outcome has not been released, else None."""
        return self._open.get(index)

    def unfinished_indices(self) -> list[int]:
        """Return the indices of all frames without an outcome."""
        return [index for index in self._open if index not in self._outcomes]

    def finish(self, index: int, outcome: OutcomeT) -> list[tuple[AcceptedFrame, OutcomeT]]:
        """Record a frame's outcome and return, in order, all outcomes that are no longer held back by an earlier frame.

        Raises ``ValueError`` if the frame is not known or already has an outcome.
        """
        if index not in self._open or index in self._outcomes:
            raise ValueError(f"frame {index} was not accepted or is already finished")
        self._outcomes[index] = outcome
        released = []
        while self._open and next(iter(self._open)) in self._outcomes:
            first, frame = self._open.popitem(last=False)
            released.append((frame, self._outcomes.pop(first)))
        return released
