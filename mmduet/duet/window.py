"""The window rule: which parts of a bounded context are pinned, and which are evicted to make room; no torch.

The engine's slots, the masks of training sequences and the recovery of sessions follow this one definition. A context is a
sequence of segments, oldest first. An eviction takes the oldest frame and everything before it: pinned segments stay, in their
order, and the others leave. So text that is not pinned leaves together with the first frame after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from mmduet.duet.roles import Role


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens that stay in the context or leave it as a whole."""

    tokens: int
    pinned: bool = False
    is_frame: bool = False


def is_turn_pinned(role: Role | str, *, keep: bool = False) -> bool:
    """Return whether a turn is never evicted: queries and context turns with ``keep`` are not, replies are."""
    return role == Role.USER or keep


class PinningRule:
    """Decides which turns and stream headers are pinned. Call it once for each of them, in the order of the stream.

    The first stream header is pinned, and so is each that follows a pinned turn: when the frames between have been evicted, the
    pinned turns still form a valid conversation. Unpinned turns in between make no difference.
    """

    def __init__(self) -> None:
        self._pin_header = True

    def append_turn(self, role: Role | str, *, keep: bool = False) -> bool:
        """Return whether the next turn is pinned."""
        pinned = is_turn_pinned(role, keep=keep)
        self._pin_header |= pinned
        return pinned

    def append_frame(self) -> bool:
        """Return whether the stream header of the next frame is pinned, if the frame has one."""
        pinned, self._pin_header = self._pin_header, False
        return pinned


def eviction_blocks(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    """Yield what each eviction takes from the front: the segments up to and including the next frame.

    The last block has no frame if segments stand after the last frame.
    """
    block: list[Segment] = []
    for segment in segments:
        block.append(segment)
        if segment.is_frame:
            yield block
            block = []
    if block:
        yield block


def count_evictions(
    segments: Iterable[Segment],
    *,
    frames: int,
    tokens: int,
    max_frames: int,
    new_frames: int = 0,
    max_tokens: int | None = None,
    new_tokens: int = 0,
) -> int:
    """Return how many evictions make room for ``new_tokens``, ``new_frames`` of them frames.

    ``segments`` hold ``frames`` frames; ``tokens`` counts all tokens in the context. Only the segments to be evicted are read.
    If the new tokens do not fit next to the pinned ones, it returns the number that evicts everything else.
    """
    excess_frames = min(frames + new_frames - max_frames, frames)
    excess_tokens = 0 if max_tokens is None else tokens + new_tokens - max_tokens
    blocks, evictions = eviction_blocks(segments), 0
    while excess_frames > 0 or excess_tokens > 0:
        block = next(blocks, None)
        if block is None:
            break
        evictions += 1
        excess_frames -= 1
        excess_tokens -= sum(segment.tokens for segment in block if not segment.pinned)
    return evictions


@dataclass(frozen=True)
class ContextLayout:
    """What a context holds: ``pinned_tokens`` that past evictions have left at its front, then ``segments``, oldest first."""

    segments: tuple[Segment, ...] = ()
    pinned_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Number of tokens in the context."""
        return self.pinned_tokens + sum(segment.tokens for segment in self.segments)

    @property
    def frames(self) -> int:
        """Number of frames in the context."""
        return sum(segment.is_frame for segment in self.segments)

    def evictions_needed(
        self, *, max_frames: int, new_frames: int = 0, max_tokens: int | None = None, new_tokens: int = 0
    ) -> int:
        """Return how many evictions make room for new tokens and frames, see ``count_evictions``."""
        return count_evictions(
            self.segments,
            frames=self.frames,
            tokens=self.tokens,
            max_frames=max_frames,
            new_frames=new_frames,
            max_tokens=max_tokens,
            new_tokens=new_tokens,
        )

    def retained(self, evictions: int) -> list[int]:
        """Return the indices of the segments that ``evictions`` leave in the context, in order."""
        evicted = sum(len(block) for block in islice(eviction_blocks(self.segments), evictions))
        return [i for i, segment in enumerate(self.segments) if i >= evicted or segment.pinned]


def evicted_at_frame(frames_before: int, max_frames: int) -> int:
    """Return the number of the frame that evicts an unpinned segment which has ``frames_before`` frames before it.

    Frames are numbered from 0. Holds while the window is bounded by ``max_frames`` alone.
    """
    return frames_before + max_frames
