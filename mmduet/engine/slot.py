"""The context of one session in the KV pool, as integers: what is held where, marks, rollback and evictions. No tensors.

The position of a token is its index in the slot, so positions are not stored. The tokens are one contiguous range
``[start, end)``: pinned tokens first, then the window. Evicting the oldest frame moves the pinned tokens forward into its
place, which closes the gap; the window stays where it is. When the range reaches the end of the slot, it is moved to the
beginning; this happens to a token only a few times. The context of a session is therefore always one range.

A slot only records these moves. The pool executes those of all sessions together before the next step, see ``relocation``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from mmduet.duet import ContextLayout, Segment, count_evictions, eviction_blocks
from mmduet.errors import CapacityError


@dataclass(frozen=True)
class Mark:
    """A state to roll back to. It is invalid once tokens have been evicted or moved."""

    end: int
    segments: int
    epoch: int


@dataclass(frozen=True)
class Moves:
    """What has to be moved in the storage of a slot, in positions of the slot.

    Attributes:
        stored: Pinned tokens whose unrotated keys the pool holds.
        pinned: Where the keys and values of each pinned token are; those after the first ``stored`` ones are pinned now.
        start: Where the pinned tokens must be moved to.
        window: Where the range of the window's tokens is, (begin, end).
        shift: How far the window must be moved towards the beginning.
    """

    stored: int
    pinned: tuple[int, ...]
    start: int
    window: tuple[int, int]
    shift: int


class Slot:
    """The range ``[base, base + capacity)`` of the pool; the unrotated keys of pinned tokens are at ``pin_base``."""

    def __init__(self, capacity: int, pin_capacity: int, base: int = 0, pin_base: int = 0) -> None:
        self.capacity, self.pin_capacity = capacity, pin_capacity
        self.base, self.pin_base = base, pin_base
        self.start = self.end = 0
        self._segments: deque[Segment] = deque()  # after the pinned tokens, oldest first
        self._epoch = 0  # counts evictions and moves
        self._pinned: list[int] = []  # where the storage has each pinned token
        self._stored = 0  # pinned tokens whose unrotated keys the pool has
        self._shift = 0  # distance by which the window has not been moved yet

    # reading

    @property
    def length(self) -> int:
        """Number of live tokens."""
        return self.end - self.start

    @property
    def pinned_tokens(self) -> int:
        """Number of pinned tokens at the front that evictions have left."""
        return len(self._pinned)

    @property
    def frames(self) -> int:
        """Number of frames in the window."""
        return sum(segment.is_frame for segment in self._segments)

    def layout(self) -> ContextLayout:
        """Return a snapshot of what the slot holds."""
        return ContextLayout(tuple(self._segments), self.pinned_tokens)

    def evictions_needed(self, max_frames: int, new_frames: int, new_tokens: int) -> int:
        """Return how often to call ``evict_frame`` before ``new_tokens``, ``new_frames`` of them frames, are appended."""
        return count_evictions(
            self._segments,
            frames=self.frames,
            tokens=self.length,
            max_frames=max_frames,
            new_frames=new_frames,
            max_tokens=self.capacity,
            new_tokens=new_tokens,
        )

    # writing

    def reserve(self, count: int) -> None:
        """Make ``count`` tokens fit at the end, moving the live range if necessary. Raise ``CapacityError`` if impossible."""
        if self.end + count <= self.capacity:
            return
        if self.length + count > self.capacity:
            raise CapacityError(
                f"the session holds {self.length} of at most {self.capacity} tokens and cannot take {count} more; "
                "use a smaller window (without one, every frame is kept) or shorter texts"
            )
        self._shift += self.start
        self.start, self.end = 0, self.length
        self._epoch += 1

    def append(self, count: int, *, pinned: bool = False, is_frame: bool = False) -> None:
        """Append ``count`` tokens, whose keys and values have been written at [end, end + count), as one segment."""
        self._segments.append(Segment(count, pinned, is_frame))
        self.end += count

    # rollback

    def mark(self) -> Mark:
        """Return the current state, to be passed to ``rollback``."""
        return Mark(self.end, len(self._segments), self._epoch)

    def rollback(self, mark: Mark) -> None:
        """Remove everything appended since ``mark``. Raise ``CapacityError`` if tokens have been moved since then."""
        if mark.epoch != self._epoch:
            raise CapacityError(
                "tokens have moved since the mark was taken; take marks after reserve() and evict_frame()"
            )
        while len(self._segments) > mark.segments:
            self._segments.pop()
        self.end = mark.end

    # eviction

    def evict_frame(self) -> None:
        """Evict the oldest frame and the unpinned text before it. Pinned text before it joins the pinned tokens.

        Raise ``CapacityError``, and change nothing, if these are more than ``pin_capacity``.
        """
        block = next(eviction_blocks(self._segments), [])
        self._check_pins(sum(segment.tokens for segment in block if segment.pinned))
        position = self.start + self.pinned_tokens
        for segment in block:
            self._segments.popleft()
            if segment.pinned:
                first = position + self._shift
                self._pinned += range(first, first + segment.tokens)
            else:
                self.start += segment.tokens
            position += segment.tokens
        self._epoch += 1

    def _check_pins(self, new: int) -> None:
        if self.pinned_tokens + new > self.pin_capacity:
            raise CapacityError(
                f"the session would pin {self.pinned_tokens + new} tokens of at most {self.pin_capacity}; send less text"
            )

    def moves(self) -> Moves | None:
        """Return what the storage has to move before the next tokens are written; None if nothing."""
        in_place = not self._pinned or (self._pinned[0] == self.start and self._stored == self.pinned_tokens)
        if not self._shift and in_place:
            return None
        window = (self.start + self.pinned_tokens + self._shift, self.end + self._shift)
        return Moves(self._stored, tuple(self._pinned), self.start, window, self._shift)

    @property
    def moved_tokens(self) -> int:
        """Number of tokens that ``moves`` moves."""
        return self.length if self._shift else self.pinned_tokens

    def moved(self) -> None:
        """Record that the storage has moved everything."""
        self._pinned = list(range(self.start, self.start + self.pinned_tokens))
        self._stored, self._shift = self.pinned_tokens, 0
