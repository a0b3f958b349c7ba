"""The slot by itself: what is live, where it stands, what going back and forgetting leave behind."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding, apply_rotary_pos_emb

from mmduet.engine.kv_cache import CacheShape, Slot
from mmduet.errors import CapacityError
from mmduet.model.network import language_model
from mmduet.model.presets import SHAPES

SHAPE = CacheShape(2, 2, 12, 1e4, torch.float32, torch.device("cpu"))
ROTARY = Qwen2RotaryEmbedding(language_model(SHAPES["tiny"].text).config)


def source(token: int) -> Tensor:
    """The unrotated key of a token [layers, kv_heads, 1, head_dim]; its value is its negative."""
    return torch.randn(2, 2, 1, 12, generator=torch.Generator().manual_seed(token))


def rotated(tokens: list[int], first: int) -> Tensor:
    """Keys of ``tokens`` at ``first``, ``first + 1``, …, by Transformers' own rotary embedding."""
    keys = torch.cat([source(t) for t in tokens], 2)
    cos, sin = ROTARY(keys, torch.arange(first, first + len(tokens))[None])
    return apply_rotary_pos_emb(keys, keys, cos, sin)[0]


class Follower:
    """A slot and what should be in it: tokens in order, as segments."""

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


ACTS = st.lists(st.sampled_from(["frame", "frame", "frame", "text", "pin", "evict", "evict", "back"]), max_size=60)


@given(ACTS, st.integers(12, 40))
def test_any_life_leaves_the_right_keys_at_the_right_places(acts: list[str], capacity: int) -> None:
    follower = Follower(capacity)
    for act in acts:
        size = {"frame": 3, "text": 2, "pin": 1}.get(act, 0)
        if act == "evict":
            follower.evict()
        elif act == "back":
            mark, segments = follower.slot.mark(), list(follower.segments)
            if follower.slot.end + 4 <= capacity:
                follower.append(2)
                follower.append(2, pinned=True)
                follower.slot.rollback(mark)
                follower.segments = segments
        elif follower.slot.length + size > capacity:
            with pytest.raises(CapacityError):
                follower.slot.reserve(size)
        else:
            follower.append(size, pinned=act == "pin", frame=act == "frame")
        follower.check()


def test_a_thousand_moves_do_not_wear_pinned_keys_out() -> None:
    follower = Follower(14)
    follower.append(4, pinned=True)
    for _ in range(1000):
        follower.append(3, frame=True)
        if follower.slot.frames == 3:
            follower.evict()
    head = follower.slot.view(1, 0)[0][:, :4]
    torch.testing.assert_close(head, rotated([0, 1, 2, 3], follower.slot.start)[1], atol=2e-6, rtol=0)
    follower.check()


def test_rollback_brings_back_the_exact_state() -> None:
    follower = Follower(30)
    follower.append(2, pinned=True)
    follower.append(3, frame=True)
    mark = follower.slot.mark()
    follower.append(5)
    follower.append(3, frame=True)
    follower.slot.rollback(mark)
    assert (follower.slot.length, follower.slot.frames) == (5, 1)
    del follower.segments[2:]
    follower.append(4)
    follower.check()


@pytest.mark.parametrize("meanwhile", ["evict", "move"])
def test_rollback_over_moved_tokens_is_refused(meanwhile: str) -> None:
    follower = Follower(12)
    for _ in range(4):
        follower.append(3, frame=True)
    if meanwhile == "move":
        follower.evict()
    mark = follower.slot.mark()
    if meanwhile == "evict":
        follower.evict()
    else:
        follower.slot.reserve(2)
        assert follower.slot.start == 0
    with pytest.raises(CapacityError, match="moved"):
        follower.slot.rollback(mark)


def test_reserve_moves_only_when_it_must() -> None:
    follower = Follower(12)
    for _ in range(4):
        follower.append(3, frame=True)
    follower.evict()
    mark = follower.slot.mark()
    follower.slot.reserve(0)
    assert follower.slot.start == 3
    follower.slot.rollback(mark)
    with pytest.raises(
        CapacityError, match="9 of at most 12 tokens and cannot take 4 more; open it with a smaller window"
    ):
        follower.slot.reserve(4)
    assert follower.slot.start == 3  # refused without moving anything


def test_evicting_without_frames_drops_the_passing_text() -> None:
    follower = Follower(12)
    follower.append(2, pinned=True)
    follower.append(2)
    follower.evict()
    follower.check()
    assert follower.slot.length == 2


def test_memory_is_known_when_a_slot_is_made() -> None:
    assert Slot(SHAPE, 100).size_bytes == 2 * 2 * 2 * 100 * 12 * 4
