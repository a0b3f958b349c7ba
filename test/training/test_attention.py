"""The attention that training uses computes what the usual one does, forwards and backwards."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmduet.model.presets import random_config, random_model
from mmduet.training import attention
from mmduet.training.attention import float32_attention, use_float32_attention


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few queries at a time that seven tokens are three stretches."""
    monkeypatch.setattr(attention, "ROWS", 3)


def outcome(*, changed: bool) -> tuple[Tensor, Tensor]:
    lm = random_model(random_config("tiny")).lm
    if changed:
        use_float32_attention(lm)
    embeds = torch.randn(2, 7, 48, generator=torch.Generator().manual_seed(3)).requires_grad_()
    mask = torch.ones(2, 1, 7, 7, dtype=torch.bool).tril()
    mask[1, :, 4:, 1:3] = False  # a hole, as branches leave them
    positions = torch.arange(7).expand(2, 7)
    hidden: Tensor = lm(
        inputs_embeds=embeds, attention_mask={"full_attention": mask}, position_ids=positions, use_cache=False
    ).last_hidden_state
    (gradient,) = torch.autograd.grad(hidden.square().sum(), embeds)
    return hidden.detach(), gradient


def test_it_is_the_same_attention() -> None:
    for usual, ours in zip(outcome(changed=False), outcome(changed=True), strict=True):
        torch.testing.assert_close(ours, usual, atol=1e-5, rtol=1e-5)


def test_a_tower_s_patches_all_see_each_other() -> None:
    tower, pictures = random_model(random_config("tiny")).tower, torch.randn(2, 3, 28, 28)
    usual = tower(pictures)
    use_float32_attention(tower.siglip)
    torch.testing.assert_close(tower(pictures), usual, atol=1e-5, rtol=1e-5)


def test_under_autocast_it_stays_in_float32() -> None:
    query, key = torch.randn(1, 4, 9, 8), torch.randn(1, 2, 9, 8)
    mask = torch.ones(1, 1, 9, 9, dtype=torch.bool).tril()
    exact, _ = float32_attention(nn.Identity(), query, key, key, mask)
    with torch.autocast("cpu", torch.bfloat16):
        there, _ = float32_attention(nn.Identity(), query, key, key, mask)
        usual = torch.nn.functional.scaled_dot_product_attention(query, key, key, enable_gqa=True)
    assert torch.equal(there, exact)
    assert usual.dtype == torch.bfloat16  # or there would be nothing to prove
