"""The plan of one step as integers: which tokens enter which slots, and what each of them attends to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmduet.engine.slot import Slot

Integers = NDArray[np.int64]


class NewTokens(NamedTuple):
    """Tokens that one session adds at the end of its slot."""

    slot: Slot
    added: int


@dataclass(frozen=True)
class StepBatch:
    """A packed row of N new tokens of J sessions. Token indices are those of the pool's storage.

    Attributes:
        counts: New tokens of each session [J].
        offsets: Where the tokens of each session begin in the row [J + 1]; the last entry is N.
        positions: Position of each token in its slot [N].
        tokens: Index at which the key and value of each token are stored [N].
        kv_begin: Index of the first token of each session's context [J].
        kv_length: Tokens in each session's context, the new ones included [J].
    """

    counts: Integers
    offsets: Integers
    positions: Integers
    tokens: Integers
    kv_begin: Integers
    kv_length: Integers

    @classmethod
    def build(cls, entries: Sequence[NewTokens]) -> StepBatch:
        """Plan the step of ``entries``, whose slots have room for the new tokens."""
        base, start, end, counts = np.array(
            [(slot.base, slot.start, slot.end, added) for slot, added in entries], np.int64
        ).T.reshape(4, -1)
        offsets = _offsets(counts)
        positions = np.arange(offsets[-1]) + np.repeat(end - offsets[:-1], counts)
        return cls(counts, offsets, positions, positions + np.repeat(base, counts), base + start, end - start + counts)

    @property
    def size(self) -> int:
        """N, the number of tokens in the row."""
        return int(self.offsets[-1])

    @property
    def last_rows(self) -> Integers:
        """Index of the last new token of each session in the row [J]."""
        return self.offsets[1:] - 1

    def select(self, sessions: Integers) -> tuple[StepBatch, Integers]:
        """Return the step of some sessions, given by their indices, and the rows of their tokens."""
        counts = self.counts[sessions]
        offsets = _offsets(counts)
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[sessions] - offsets[:-1], counts)
        kv_begin, kv_length = self.kv_begin[sessions], self.kv_length[sessions]
        return StepBatch(counts, offsets, self.positions[rows], self.tokens[rows], kv_begin, kv_length), rows

    def of_last_rows(self) -> StepBatch:
        """Return the same step with the last token of each session as its only query."""
        rows, ones = self.last_rows, np.ones_like(self.counts)
        offsets = np.arange(len(ones) + 1)
        return StepBatch(ones, offsets, self.positions[rows], self.tokens[rows], self.kv_begin, self.kv_length)


def _offsets(counts: Integers) -> Integers:
    return np.concatenate([np.zeros(1, np.int64), counts.cumsum()])
