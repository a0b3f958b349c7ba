"""A branch mask equals the rule written out token by token, whole, in blocks and as FlexAttention's block mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmduet.annotations.training_samples import Sample
from mmduet.events import Query
from mmduet.model.presets import byte_tokenizer
from mmduet.spans import AnnotatedReply
from mmduet.training.branch_mask import FLEX_BLOCK, BranchMask
from mmduet.training.collate import build_attention_mask, collate
from mmduet.training.sequence import NEVER, TrainingSequence, build_sequence

K = 4


def make_sequence(frames: int, *, keep: bool, window: int | None, seed: int) -> TrainingSequence:
    """Return a sample with replies, two queries and side questions."""
    times = [k / 2 for k in range(frames)]
    answers = (AnnotatedReply(1.5, "it enters", (0.0, 2.0)), AnnotatedReply(3.5, "it leaves", (2.0, 4.0)))
    sample = Sample("captioning", "v", (Query("Narrate.", 0.0), Query("Now?", 2.2)), answers)
    rng = np.random.default_rng(seed)
    questions = [(int(rng.integers(frames)), "What?", "A cat.")]
    return build_sequence(
        sample, times, byte_tokenizer(), K, keep_replies=keep, rng=rng, window=window, side_questions=questions
    )


def mask_of(*sequences: TrainingSequence) -> BranchMask:
    batch = collate(sequences, [torch.zeros(1)] * len(sequences), dense_mask=False)
    assert batch.mask is None
    assert batch.branch_mask is not None
    return batch.branch_mask


def expected(sequence: TrainingSequence, size: int) -> Tensor:
    """Return the mask of one sequence, padded to ``size``, from the meaning of its lists."""
    mask = torch.eye(size, dtype=torch.bool)
    for i in range(sequence.size):
        for j in range(i):
            same_branch = sequence.branches[i] == sequence.branches[j] > 0
            still_in_view = sequence.evicted_at_frame[j] > sequence.visible_from_frame[i]
            on_main_line = sequence.branches[j] == 0 and j <= sequence.limits[i] and still_in_view
            mask[i, j] = same_branch or on_main_line
    return mask


SEQUENCES = st.builds(
    make_sequence,
    st.integers(1, 12),
    keep=st.booleans(),
    window=st.sampled_from([None, 1, 2, 5]),
    seed=st.integers(0, 99),
)


@settings(max_examples=15)
@given(st.lists(SEQUENCES, min_size=1, max_size=2), st.data())
def test_the_mask_equals_the_rule_written_out(sequences: list[TrainingSequence], data: st.DataObject) -> None:
    frames = min(len(sequence.frame_ends) for sequence in sequences)
    sequences = [sequence for sequence in sequences if len(sequence.frame_ends) == frames]  # a batch has one length
    mask = mask_of(*sequences)
    dense = torch.stack([expected(sequence, mask.size) for sequence in sequences])[:, None]
    assert torch.equal(mask.dense(), dense)
    assert torch.equal(collate(sequences, [torch.zeros(1)] * len(sequences)).mask, dense)
    first = data.draw(st.integers(0, mask.size - 1))
    last = data.draw(st.integers(first + 1, mask.size))
    assert torch.equal(mask.block(first, last), dense[:, :, first:last, :last])
    assert torch.equal(mask.additive.isfinite(), dense)


def test_int64_lists_give_the_same_mask() -> None:
    mask = mask_of(make_sequence(8, keep=False, window=3, seed=0))
    lists = (mask.limits, mask.branches, mask.visible_from_frame, mask.evicted_at_frame)
    assert torch.equal(build_attention_mask(*(x.long() for x in lists)), mask.dense()[:, 0])


@pytest.mark.parametrize("window", [None, 3])
def test_flex_attention_s_mask_equals_the_dense_one(window: int | None) -> None:
    mask = mask_of(make_sequence(11, keep=False, window=window, seed=1), make_sequence(11, keep=True, window=4, seed=2))
    assert mask.size > 2 * FLEX_BLOCK
    assert mask.size % FLEX_BLOCK  # so that the last block is smaller
    batch, query, key = torch.meshgrid(*(torch.arange(n) for n in (2, mask.size, mask.size)), indexing="ij")
    assert torch.equal(mask.mask_mod(batch, torch.zeros_like(batch), query, key)[:, None], mask.dense())


def test_flex_attention_s_blocks_are_exactly_those_with_an_allowed_pair() -> None:
    """A system turn that is one block long, then a frame; nothing but the system turn and itself is visible to it."""
    size = 3 * FLEX_BLOCK - 5
    evicted = torch.full((1, size), NEVER, dtype=torch.int32)
    evicted[:, FLEX_BLOCK : 2 * FLEX_BLOCK] = 1
    visible_from = torch.zeros(1, size, dtype=torch.int32)
    visible_from[:, 2 * FLEX_BLOCK :] = 1
    index = torch.arange(size, dtype=torch.int32)[None]
    mask = BranchMask(index, torch.zeros_like(index), visible_from, evicted)
    blocks = torch.tensor([[[True, False, False], [True, True, False], [True, False, True]]])
    assert torch.equal(mask.occupied_blocks(FLEX_BLOCK), blocks)
    block_mask = mask.flex_block_mask
    assert torch.equal(block_mask.to_dense()[:, 0].bool(), blocks)
    assert block_mask.seq_lengths == (size, size)


def test_a_mask_moves_with_its_batch() -> None:
    batch = collate([make_sequence(4, keep=False, window=2, seed=0)], [torch.zeros(1)], dense_mask=False)
    moved = batch.to(torch.device("meta"))
    assert moved.mask is None
    assert moved.branch_mask is not None
    assert moved.branch_mask.limits.is_meta
    assert moved.ids.is_meta
