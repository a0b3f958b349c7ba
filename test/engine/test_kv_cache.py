"""KV slots: appending, rollback, eviction and moves, compared with Transformers' rotary embedding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding, apply_rotary_pos_emb

from mmduet.engine.kv_cache import CacheShape, Slot
from mmduet.errors import CapacityError
from mmduet.model.network import build_language_model
from mmduet.model.presets import SHAPES

SHAPE = CacheShape(2, 2, 12, 1e4, torch.float32, torch.device("cpu"))
ROTARY = Qwen2RotaryEmbedding(build_language_model(SHAPES["tiny"].text).config)


def source(token: int) -> Tensor:
    """Return the unrotated key of a token [layers, kv_heads, 1, head_dim]. Its value is the negative key."""
    return torch.randn(2, 2, 1, 12, generator=torch.Generator().manual_seed(token))


def rotated(tokens: list[int], first: int) -> Tensor:
    """Return the keys of ``tokens`` at positions ``first``, ``first + 1``, … by Transformers' rotary embedding."""
    keys = torch.cat([source(t) for t in tokens], 2)
    cos, sin = ROTARY(keys, torch.arange(first, first + len(tokens))[None])
    return apply_rotary_pos_emb(keys, keys, cos, sin)[0]


class ReferenceSlot:
    """A slot, and the tokens that it is expected to hold, in order."""

    def __init__(self, capacity: int) -> None:
        self.slot = Slot(SHAPE, capacity)
        self.pinned: list[int] = []
        self.segments: list[tuple[list[int], bool, bool]] = []
        self.count = 0

    @property
    def tokens(self) -> list[int]:
        return self.pinned + [t for segment, _, _ in self.segments for t in segment]

    def append(self, size: int, *, pinned: bool = False, frame: bool = False) -> None:
        tokens = list(range(self.count, self.count + size))
        self.count += size
        self.slot.reserve(size)
        keys = rotated(tokens, self.slot.end)
        for layer in range(2):
            self.slot.write(layer, keys[layer], -torch.cat([source(t) for t in tokens], 2)[layer])
        self.slot.append(size, pinned=pinned, is_frame=frame)
        self.segments.append((tokens, pinned, frame))

    def evict(self) -> None:
        self.slot.evict_frame()
        while self.segments:
            tokens, pinned, frame = self.segments.pop(0)
            self.pinned += tokens if pinned else []
            if frame:
                return

    def check(self) -> None:
        slot = self.slot
        assert slot.length == len(self.tokens)
        assert slot.frames == sum(frame for *_, frame in self.segments)
        assert slot.pinned_tokens == len(self.pinned)
        assert 0 <= slot.start <= slot.end <= slot.capacity
        if self.tokens:
            keys = torch.stack([slot.view(layer, 0)[0] for layer in range(2)])
            values = torch.stack([slot.view(layer, 0)[1] for layer in range(2)])
            torch.testing.assert_close(keys, rotated(self.tokens, slot.start), atol=2e-5, rtol=0)
            torch.testing.assert_close(values, -torch.cat([source(t) for t in self.tokens], 2), atol=0, rtol=0)


OPERATIONS = st.lists(
    st.sampled_from(["frame", "frame", "frame", "text", "pin", "evict", "evict", "back"]), max_size=60
)


@given(OPERATIONS, st.integers(12, 40))
def test_any_sequence_of_operations_leaves_the_expected_keys_and_values(operations: list[str], capacity: int) -> None:
    reference = ReferenceSlot(capacity)
    for operation in operations:
        size = {"frame": 3, "text": 2, "pin": 1}.get(operation, 0)
        if operation == "evict":
            reference.evict()
        elif operation == "back":
            mark, segments = reference.slot.mark(), list(reference.segments)
            if reference.slot.end + 4 <= capacity:
                reference.append(2)
                reference.append(2, pinned=True)
                reference.slot.rollback(mark)
                reference.segments = segments
        elif reference.slot.length + size > capacity:
            with pytest.raises(CapacityError):
                reference.slot.reserve(size)
        else:
            reference.append(size, pinned=operation == "pin", frame=operation == "frame")
        reference.check()


def test_pinned_keys_do_not_drift_over_a_thousand_moves() -> None:
    reference = ReferenceSlot(14)
    reference.append(4, pinned=True)
    for _ in range(1000):
        reference.append(3, frame=True)
        if reference.slot.frames == 3:
            reference.evict()
    head = reference.slot.view(1, 0)[0][:, :4]
    torch.testing.assert_close(head, rotated([0, 1, 2, 3], reference.slot.start)[1], atol=2e-6, rtol=0)
    reference.check()


def test_rollback_restores_the_state_at_the_mark() -> None:
    reference = ReferenceSlot(30)
    reference.append(2, pinned=True)
    reference.append(3, frame=True)
    mark = reference.slot.mark()
    reference.append(5)
    reference.append(3, frame=True)
    reference.slot.rollback(mark)
    assert (reference.slot.length, reference.slot.frames) == (5, 1)
    del reference.segments[2:]
    reference.append(4)
    reference.check()


@pytest.mark.parametrize("change", ["evict", "move"])
def test_rollback_to_a_mark_before_a_move_is_rejected(change: str) -> None:
    reference = ReferenceSlot(12)
    for _ in range(4):
        reference.append(3, frame=True)
    if change == "move":
        reference.evict()
    mark = reference.slot.mark()
    if change == "evict":
        reference.evict()
    else:
        reference.slot.reserve(2)
        assert reference.slot.start == 0
    with pytest.raises(CapacityError, match="moved"):
        reference.slot.rollback(mark)


def test_reserve_moves_tokens_only_if_necessary() -> None:
    reference = ReferenceSlot(12)
    for _ in range(4):
        reference.append(3, frame=True)
    reference.evict()
    mark = reference.slot.mark()
    reference.slot.reserve(0)
    assert reference.slot.start == 3
    reference.slot.rollback(mark)
    with pytest.raises(CapacityError, match="9 of at most 12 tokens and cannot take 4 more; use a smaller window"):
        reference.slot.reserve(4)
    assert reference.slot.start == 3  # rejected without moving anything


def test_eviction_without_frames_removes_unpinned_text() -> None:
    reference = ReferenceSlot(12)
    reference.append(2, pinned=True)
    reference.append(2)
    reference.evict()
    reference.check()
    assert reference.slot.length == 2


def test_size_bytes_follows_from_shape_and_capacity() -> None:
    assert Slot(SHAPE, 100).size_bytes == 2 * 2 * 2 * 100 * 12 * 4
