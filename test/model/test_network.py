"""The network: frame tokens, pooling, heads, and the sizes of published models."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from visual_tokens import embed_images

from mmduet.model import HEADS, DuetModel, load_model
from mmduet.model.presets import SHAPES, random_config, random_model


@pytest.fixture(scope="module")
def tiny() -> DuetModel:
    return random_model(SHAPES["tiny"]).requires_grad_(False)


def pool_manually(grid: Tensor, side: int) -> Tensor:
    """Pool [G, G, D] to [side * side, D], row by row: bilinear, half-pixel centres, clamped at the border."""
    size, rows = grid.shape[0], []
    for y in range(side):
        for x in range(side):
            value = torch.zeros(grid.shape[2])
            place = [max(0.0, (c + 0.5) * size / side - 0.5) for c in (y, x)]
            low = [min(int(p), size - 1) for p in place]
            part = [p - i for p, i in zip(place, low, strict=True)]
            for dy in (0, 1):
                for dx in (0, 1):
                    weight = (part[0] if dy else 1 - part[0]) * (part[1] if dx else 1 - part[1])
                    value += weight * grid[min(low[0] + dy, size - 1), min(low[1] + dx, size - 1)]
            rows.append(value)
    return torch.stack(rows)


def test_the_projector_equals_a_manual_computation(tiny: DuetModel) -> None:
    features = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(1))
    first, second = tiny.projector.fc1, tiny.projector.fc2
    for patches, tokens in zip(features, tiny.projector(features), strict=True):
        hidden = patches @ first.weight.T + first.bias
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        hidden = hidden @ second.weight.T + second.bias
        torch.testing.assert_close(tokens, pool_manually(hidden.view(4, 4, -1), 2), atol=1e-6, rtol=1e-4)


def test_pooling_of_an_odd_grid_equals_a_manual_computation() -> None:
    """The grid of published models is pooled from 27 x 27 to 7 x 7."""
    from mmduet.model.network import Projector

    projector = Projector(SHAPES["0.5b"])
    projector.fc1, projector.fc2 = torch.nn.Identity(), torch.nn.Identity()
    features = torch.rand(1, 27 * 27, 3) + 20  # where GELU is the identity
    torch.testing.assert_close(projector(features)[0], pool_manually(features.view(27, 27, 3), 7), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("size", "tokens"), [("tiny", 4), ("nano", 16), ("0.5b", 49), ("7b", 49)])
def test_the_number_of_frame_tokens(size: str, tokens: int) -> None:
    assert random_config(size).frame_tokens == tokens


def test_a_frame_is_embedded_independently_of_its_batch(tiny: DuetModel) -> None:
    images = [np.random.default_rng(i).integers(0, 256, (30, 40, 3), np.uint8) for i in range(3)]
    together = embed_images(tiny, images)
    assert together.shape == (3, 4, 48)
    alone = embed_images(tiny, images[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-6, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-4


def test_the_tower_has_no_post_layernorm_and_no_pooling_head(tiny: DuetModel) -> None:
    names = dict(tiny.tower.named_parameters())
    assert not [n for n in names if "post_layernorm" in n or ".head." in n]
    assert {int(n.split("layers.")[1].split(".")[0]) for n in names if "layers." in n} == {0, 1}
    features = tiny.tower(torch.randn(1, 3, 28, 28))
    assert features.mean(-1).abs().max() > 1e-3  # a final norm would have centred every patch


def test_scores_are_softmax_probabilities_of_each_head(tiny: DuetModel) -> None:
    hidden = torch.randn(5, 48, generator=torch.Generator().manual_seed(2)) * 20
    found = tiny.score(hidden)
    assert HEADS == ("informative", "relevance")
    for i, name in enumerate(HEADS):
        no, yes = (hidden @ tiny.heads[name].weight.T).T
        torch.testing.assert_close(found[:, i], 1 / (1 + (no - yes).exp()), atol=1e-5, rtol=1e-4)
    assert found.std() > 0.1
    assert found.dtype == torch.float32


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("size", "language", "tower"), [("0.5b", 0.494e9, 0.413e9), ("7b", 7.616e9, 0.413e9)])
def test_parameter_counts_equal_those_of_published_models(size: str, language: float, tower: float) -> None:
    """Qwen2 0.5B and 7B (a tied head is counted once), and so400m's vision tower without its last layer."""
    config = random_config(size)
    with torch.device("meta"):
        model = DuetModel(config)
    head = 0 if config.text.tied else parameters(model.lm_head)
    assert parameters(model.lm) + head == pytest.approx(language, rel=0.01)
    assert parameters(model.tower) == pytest.approx(tower * 26 / 27, rel=0.02)
    assert config.kv_bytes_per_token(2) == {"0.5b": 12 * 1024, "7b": 56 * 1024}[size]


def test_the_same_seed_gives_the_same_weights_and_keeps_the_global_random_state() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (random_model(SHAPES["tiny"], seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])
    assert torch.get_default_dtype() == torch.float32


def test_random_models_have_the_requested_dtype() -> None:
    model = random_model(SHAPES["tiny"], dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32


def test_a_failing_build_restores_the_default_dtype() -> None:
    impossible = replace(SHAPES["tiny"].vision, heads=5)
    with pytest.raises(ValueError, match="divisible"):
        random_model(replace(SHAPES["tiny"], vision=impossible), dtype=torch.float16)
    assert torch.get_default_dtype() == torch.float32


def test_a_random_model_is_loaded_by_name() -> None:
    loaded = load_model("random:tiny")
    assert loaded.config == SHAPES["tiny"]
    assert not any(p.requires_grad for p in loaded.network.parameters())
    assert loaded.tokenizer.size <= loaded.config.text.vocab_size
