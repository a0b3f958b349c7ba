"""Keeps account of frames: each one that was accepted comes to exactly one end, told in the order of acceptance."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

EndT = TypeVar("EndT")


@dataclass(frozen=True)
class Accepted:
    """A frame on the books: ``index`` counts them, ``time`` is in seconds of the stream, ``came`` on the server's clock."""

    index: int
    seq: int
    pts: int
    time: float
    came: float


@dataclass(frozen=True)
class Books(Generic[EndT]):
    """A ledger as it stands: frames not told of, ends that wait, counts."""

    open: tuple[Accepted, ...]
    ends: dict[int, EndT]
    counts: dict[str, int]


class Ledger(Generic[EndT]):
    """The frames that have not come to an end, and the ends that wait for those of earlier frames."""

    def __init__(self, books: Books[EndT] | None = None) -> None:
        books = books or Books((), {}, {})
        self._open = OrderedDict((frame.index, frame) for frame in books.open)
        self._ends: dict[int, EndT] = dict(books.ends)
        self.counts: Counter[str] = Counter(books.counts)

    @property
    def books(self) -> Books[EndT]:
        """As it stands, to be opened again."""
        return Books(tuple(self._open.values()), dict(self._ends), dict(self.counts))

    @property
    def unfinished(self) -> int:
        """Frames whose end has not been told."""
        return len(self._open)

    def accept(self, frame: Accepted) -> None:
        """Put a frame on the books; indices increase."""
        self._open[frame.index] = frame
        self.counts["received"] += 1

    def find(self, index: int) -> Accepted | None:
        """A frame that has not been told of yet."""
        return self._open.get(index)

    def unended(self) -> list[int]:
        """Frames that have not come to an end."""
        return [index for index in self._open if index not in self._ends]

    def end(self, index: int, end: EndT) -> list[tuple[Accepted, EndT]]:
        """A frame came to its end; returns all ends that can be told now, in order. Raises ``ValueError`` at a second end."""
        if index not in self._open or index in self._ends:
            raise ValueError(f"frame {index} is not on the books, or has come to an end already")
        self._ends[index] = end
        told = []
        while self._open and next(iter(self._open)) in self._ends:
            first, frame = self._open.popitem(last=False)
            told.append((frame, self._ends.pop(first)))
        return told
