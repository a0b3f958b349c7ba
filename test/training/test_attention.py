"""The attention used in training equals PyTorch's, forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmduet.model.presets import random_config, random_model
from mmduet.training.attention import float32_attention, use_float32_attention

QUERY_ROWS = 3  # seven tokens are then computed in three parts


def hidden_and_gradient(*, float32: bool) -> tuple[Tensor, Tensor]:
    lm = random_model(random_config("tiny")).lm
    if float32:
        use_float32_attention(lm, QUERY_ROWS)
    embeds = torch.randn(2, 7, 48, generator=torch.Generator().manual_seed(3)).requires_grad_()
    mask = torch.ones(2, 1, 7, 7, dtype=torch.bool).tril()
    mask[1, :, 4:, 1:3] = False  # a hole, as branches leave them
    positions = torch.arange(7).expand(2, 7)
    hidden: Tensor = lm(
        inputs_embeds=embeds, attention_mask={"full_attention": mask}, position_ids=positions, use_cache=False
    ).last_hidden_state
    (gradient,) = torch.autograd.grad(hidden.square().sum(), embeds)
    return hidden.detach(), gradient


def test_language_model_computes_the_same_hidden_states_and_gradients() -> None:
    for default, ours in zip(hidden_and_gradient(float32=False), hidden_and_gradient(float32=True), strict=True):
        torch.testing.assert_close(ours, default, atol=1e-5, rtol=1e-5)


def test_without_a_mask_all_patches_attend_to_each_other() -> None:
    tower, pixels = random_model(random_config("tiny")).tower, torch.randn(2, 3, 28, 28)
    default = tower(pixels)
    use_float32_attention(tower.siglip, QUERY_ROWS)
    torch.testing.assert_close(tower(pixels), default, atol=1e-5, rtol=1e-5)


def test_attention_stays_in_float32_under_autocast() -> None:
    query, key = torch.randn(1, 4, 9, 8), torch.randn(1, 2, 9, 8)
    mask = torch.ones(1, 1, 9, 9, dtype=torch.bool).tril()
    exact, _ = float32_attention(nn.Identity(), query, key, key, mask)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast, _ = float32_attention(nn.Identity(), query, key, key, mask)
        default = torch.nn.functional.scaled_dot_product_attention(query, key, key, enable_gqa=True)
    assert torch.equal(under_autocast, exact)
    assert default.dtype == torch.bfloat16  # otherwise this test would prove nothing
