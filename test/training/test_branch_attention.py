"""Attention under a branch mask equals PyTorch's under the dense mask, forward and backward, in bounded memory."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small_samples import images, make_sequence
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmduet.errors import TrainingError
from mmduet.model.network import DuetModel
from mmduet.model.presets import SHAPES, random_model
from mmduet.training.branch_attention import flex_branch_attention, use_branch_attention
from mmduet.training.branch_mask import BranchMask
from mmduet.training.collate import Batch, collate
from mmduet.training.losses import combine, duet_parts, forward_hidden
from mmduet.training.sequence import NEVER

ROWS = 64


def tiny(*, branches: bool, max_dense_tokens: int = 0) -> DuetModel:
    network = random_model(SHAPES["tiny"])
    if branches:
        use_branch_attention(network.lm, ROWS, max_dense_tokens)
    return network


def make_batch(*, dense_mask: bool) -> Batch:
    sequences = [make_sequence(keep=False, window=3), make_sequence(keep=True)]
    return collate(sequences, [images(), images(seed=1)], dense_mask=dense_mask)


def loss_and_gradients(network: DuetModel, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    loss = combine(duet_parts(network, batch, forward_hidden(network, batch))).total
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


def check_same(found: tuple[Tensor, dict[str, Tensor]], expected: tuple[Tensor, dict[str, Tensor]]) -> None:
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("max_dense_tokens", [0, 4096], ids=["in blocks", "dense"])
def test_losses_and_gradients_equal_those_of_the_dense_mask(max_dense_tokens: int) -> None:
    expected = loss_and_gradients(tiny(branches=False), make_batch(dense_mask=True))
    batch = make_batch(dense_mask=False)
    assert batch.ids.shape[1] > 2 * ROWS
    network = tiny(branches=True, max_dense_tokens=max_dense_tokens)
    check_same(loss_and_gradients(network, batch), expected)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    batch, network = make_batch(dense_mask=False), tiny(branches=True)
    expected = loss_and_gradients(network, batch)
    network = tiny(branches=True)
    network.lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    check_same(loss_and_gradients(network.train(), batch), expected)


def test_attention_under_autocast_is_close_to_float32() -> None:
    batch, network = make_batch(dense_mask=False), tiny(branches=True)
    exact, _ = loss_and_gradients(network, batch)
    network = tiny(branches=True)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, gradients = loss_and_gradients(network, batch)
    torch.testing.assert_close(rounded, exact, atol=0.02, rtol=0.02)
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_computes_the_same() -> None:
    """Uncompiled and forward only: FlexAttention has no backward pass on CPUs."""
    mask = make_batch(dense_mask=False).branch_mask
    assert mask is not None
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, heads, mask.size, 16, generator=generator) for heads in (4, 2, 2))
    with torch.no_grad():
        found = flex_branch_attention(query, key, value, mask, 0.3, flex_attention)
        expected = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask.dense(), scale=0.3, enable_gqa=True
        )
    torch.testing.assert_close(found, expected.transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_a_batch_without_a_mask_is_rejected() -> None:
    batch = make_batch(dense_mask=False)
    with pytest.raises(TrainingError, match="the batch has no attention mask; collate it"):
        forward_hidden(tiny(branches=True), Batch(**{**vars(batch), "branch_mask": None}))


class LargestTensor(TorchDispatchMode):
    """Records the largest number of elements of a tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        sizes = [math.prod(leaf.shape) for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        self.elements = max(self.elements, *sizes, 0)
        return output


@pytest.mark.parametrize(("max_dense_tokens", "is_bounded"), [(2048, True), (8192, False)])
def test_no_matrix_of_all_pairs_is_built_for_long_sequences(max_dense_tokens: int, is_bounded: bool) -> None:
    size = 4096
    index = torch.arange(size, dtype=torch.int32)[None]
    zeros = torch.zeros_like(index)
    mask = BranchMask(index, zeros, zeros, torch.full_like(index, NEVER))
    network = random_model(SHAPES["tiny"])
    use_branch_attention(network.lm, max_dense_tokens=max_dense_tokens)
    embeds = torch.randn(1, size, SHAPES["tiny"].text.hidden_size, generator=torch.Generator().manual_seed(0))
    with LargestTensor() as recorded:
        hidden = network.lm(
            inputs_embeds=embeds.requires_grad_(), attention_mask={"full_attention": mask}, use_cache=False
        ).last_hidden_state
        hidden.sum().backward()
    assert embeds.grad is not None
    assert (recorded.elements < size * size // 4) == is_bounded  # the second case shows that a matrix would be found
