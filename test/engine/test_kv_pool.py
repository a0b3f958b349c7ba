"""Slots in the KV pool: appending, rollback, eviction and moves, compared with Transformers' rotary embedding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding, apply_rotary_pos_emb

from mmduet.engine.kv_pool import CacheShape, KVPool
from mmduet.engine.pool_size import create_pool
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
    """A slot of a pool, and the tokens that it is expected to hold, in order."""

    def __init__(self, capacity: int, pool: KVPool | None = None) -> None:
        self.pool = pool or KVPool(SHAPE, 512, 512)
        self.slot = self.pool.open(capacity, capacity)
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
        self.pool.relocate([self.slot])
        keys = rotated(tokens, self.slot.end)
        index = torch.arange(size) + self.slot.base + self.slot.end
        values = -torch.cat([source(t) for t in tokens], 2)  # [layers, kv_heads, size, head_dim]
        for layer in range(2):
            self.pool.write(layer, index, torch.stack([keys[layer], values[layer]]).permute(2, 0, 1, 3))
        self.slot.append(size, pinned=pinned, is_frame=frame)
        self.segments.append((tokens, pinned, frame))

    def evict(self) -> None:
        self.slot.evict_frame()
        while self.segments:
            tokens, pinned, frame = self.segments.pop(0)
            self.pinned += tokens if pinned else []
            if frame:
                return

    def held(self) -> tuple[Tensor, Tensor]:
        """Return the keys and values in the pool, each [layers, kv_heads, length, head_dim]."""
        begin = self.slot.base + self.slot.start
        parts = torch.stack([self.pool.view(layer, begin, self.slot.length) for layer in range(2)])
        keys, values = parts.permute(2, 0, 3, 1, 4)
        return keys, values

    def check(self) -> None:
        slot = self.slot
        self.pool.relocate([slot])
        assert slot.length == len(self.tokens)
        assert slot.frames == sum(frame for *_, frame in self.segments)
        assert slot.pinned_tokens == len(self.pinned)
        assert 0 <= slot.start <= slot.end <= slot.capacity
        if self.tokens:
            keys, values = self.held()
            torch.testing.assert_close(keys, rotated(self.tokens, slot.start), atol=2e-5, rtol=0)
            torch.testing.assert_close(values, -torch.cat([source(t) for t in self.tokens], 2), atol=0, rtol=0)


OPERATIONS = st.lists(
    st.sampled_from(["frame", "frame", "frame", "text", "pin", "evict", "evict", "back", "check"]), max_size=60
)


@given(OPERATIONS, st.integers(12, 40))
def test_any_sequence_of_operations_leaves_the_expected_keys_and_values(operations: list[str], capacity: int) -> None:
    reference = ReferenceSlot(capacity)
    for operation in operations:
        if operation == "check":
            reference.check()
            continue
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
    reference.check()
    head = reference.held()[0][1, :, :4]
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


FP8_SHAPE = replace(SHAPE, fp8=True)
FP8_ERROR = 2**-4  # 3 bits of mantissa, rounded to nearest


def test_fp8_values_are_rounded_once_and_moved_as_they_are() -> None:
    reference = ReferenceSlot(14, KVPool(FP8_SHAPE, 64, 64))
    reference.append(2, pinned=True)
    for _ in range(50):
        reference.append(3, frame=True)
        if reference.slot.frames == 3:
            reference.evict()
    reference.pool.relocate([reference.slot])
    _, values = reference.held()
    expected = -torch.cat([source(t) for t in reference.tokens], 2)
    assert torch.equal(values, expected.to(torch.float8_e4m3fn).float())


def test_fp8_keys_of_pinned_tokens_are_rounded_at_most_twice() -> None:
    """When they are written, and from their unrotated copy when they are moved, however often that is."""
    reference = ReferenceSlot(14, KVPool(FP8_SHAPE, 64, 64))
    reference.append(4, pinned=True)
    for _ in range(300):
        reference.append(3, frame=True)
        if reference.slot.frames == 3:
            reference.evict()
    reference.pool.relocate([reference.slot])
    keys, expected = reference.held()[0][:, :, :4], rotated([0, 1, 2, 3], reference.slot.start)
    pairs = torch.stack([*expected.chunk(2, -1)]).norm(dim=0)  # rotation mixes the two numbers of a pair
    error = torch.stack([*(keys - expected).chunk(2, -1)]).norm(dim=0)
    assert 0 < (error / pairs).max() <= 2 * FP8_ERROR


def test_fp8_takes_a_quarter_of_the_memory_of_float32() -> None:
    assert FP8_SHAPE.token_bytes * 4 == SHAPE.token_bytes
    assert KVPool(FP8_SHAPE, 64, 0).size_bytes * 4 == KVPool(SHAPE, 64, 0).size_bytes


def test_fp8_clips_values_that_are_too_large_and_keeps_invalid_ones() -> None:
    pool = KVPool(FP8_SHAPE, 16, 0)
    written = torch.zeros(1, 2, 2, 12)
    written[..., :4] = torch.tensor([1e6, -1e6, torch.inf, torch.nan])
    pool.write(0, torch.tensor([3]), written)
    found = pool.view(0, 3, 1)[0, 0, 0, :4]
    torch.testing.assert_close(found, torch.tensor([448.0, -448.0, 448.0, torch.nan]), equal_nan=True)


def test_moves_of_several_slots_are_executed_together() -> None:
    pool = KVPool(SHAPE, 512, 512)
    slots = [ReferenceSlot(30, pool) for _ in range(4)]
    for round_number in range(40):
        for number, reference in enumerate(slots):
            if number != round_number % 3:  # not all slots take part in every round
                if reference.slot.frames >= 4:
                    reference.evict()
                reference.slot.reserve(3 + 2 * (round_number % 7 == number))
        pool.relocate(reference.slot for reference in slots)
        for number, reference in enumerate(slots):
            if number != round_number % 3:
                reference.append(3, frame=True)
                if round_number % 7 == number and round_number < 14:
                    reference.append(2, pinned=True)
    for reference in slots:
        reference.check()
        assert reference.pinned


def test_failed_relocation_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for the move may be short; nothing has changed then."""
    reference = ReferenceSlot(40)
    reference.append(3, pinned=True)
    for _ in range(3):
        reference.append(3, frame=True)
    reference.evict()

    def fail(*_: object, **__: object) -> Tensor:
        raise MemoryError("no memory")

    for function in ("stack", "cat"):
        with monkeypatch.context() as context:
            context.setattr(torch, function, fail)
            with pytest.raises(MemoryError):
                reference.pool.relocate([reference.slot])
    reference.check()


def test_pinned_tokens_beyond_their_number_are_rejected() -> None:
    slot = KVPool(SHAPE, 64, 64).open(40, 4)
    slot.append(5, pinned=True)
    slot.append(3, is_frame=True)
    with pytest.raises(CapacityError, match="5 tokens of at most 4; send less text"):
        slot.evict_frame()
    assert (slot.start, slot.pinned_tokens, slot.frames) == (0, 0, 1)


def test_open_slots_do_not_overlap_and_closed_ones_are_reused() -> None:
    pool = KVPool(SHAPE, 100, 100)
    slots = [pool.open(30, 10) for _ in range(3)]  # each takes 32 tokens
    assert [slot.base for slot in slots] == [0, 32, 64]
    with pytest.raises(CapacityError, match=r"a session of 20 tokens .* largest free range has 0 tokens; close other"):
        pool.open(20, 0)
    pool.close(slots[1])
    assert pool.open(20, 10).base == 32
    assert pool.used_bytes == 2 * pool.slot_bytes(30, 10) + pool.slot_bytes(20, 10)


def test_slots_take_no_more_memory_than_allowed() -> None:
    pool = KVPool(SHAPE, 512, 512, max_bytes=3 * KVPool(SHAPE, 0, 0).slot_bytes(32, 16))
    for _ in range(3):
        pool.open(32, 16)
    with pytest.raises(CapacityError, match="does not fit into the memory"):
        pool.open(1, 0)


def test_rejected_session_leaves_no_memory_reserved() -> None:
    pool = KVPool(SHAPE, 512, 16)
    with pytest.raises(CapacityError):
        pool.open(100, 17)
    assert pool.used_bytes == 0


def test_contents_of_a_slot_do_not_depend_on_its_predecessor() -> None:
    pool = KVPool(SHAPE, 512, 512)
    first = ReferenceSlot(400, pool)
    for _ in range(20):
        first.append(3, frame=True)
    pool.close(first.slot)
    second = ReferenceSlot(60, pool)
    assert second.slot.base == first.slot.base
    second.append(4, pinned=True)
    second.append(3, frame=True)
    second.evict()
    second.check()


def test_sizes_follow_from_shape_and_capacity() -> None:
    pool = KVPool(SHAPE, 96, 32)
    assert pool.size_bytes == 2 * 2 * 2 * 96 * 12 * 4 + 2 * 2 * 32 * 12 * 4
    assert pool.slot_bytes(90, 30) == pool.size_bytes


def test_memory_that_cannot_be_reserved_is_a_capacity_error() -> None:
    with pytest.raises(CapacityError, match=r"addresses for keys and values cannot be reserved .* less memory"):
        KVPool(SHAPE, 1 << 50, 0)


def test_sessions_of_different_sizes_leave_no_gaps_that_are_too_small() -> None:
    """Half of the memory is free after every second session has closed; one session can have all of it."""
    config = SHAPES["tiny"]
    slot_bytes = KVPool(SHAPE, 0, 0).slot_bytes(64, 0)
    pool = create_pool(SHAPE, config, 40 * slot_bytes)
    slots = [pool.open(64, 0) for _ in range(40)]
    with pytest.raises(CapacityError):
        pool.open(16, 0)
    for slot in slots[::2]:
        pool.close(slot)
    assert pool.open(20 * 64, 0).capacity == 20 * 64
