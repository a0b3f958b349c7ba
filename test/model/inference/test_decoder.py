from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from causal_attention import CausalAttention
from device_option import device
from torch import Tensor, nn

from mmduet.errors import EngineError
from mmduet.model.adapted_linear import AdaptedLinear
from mmduet.model.config import TextShape
from mmduet.model.inference.decoder import Decoder
from mmduet.model.inference.packed import is_packing_supported
from mmduet.model.network import build_language_model

QWEN2 = TextShape(64, 48, 96, 3, heads=4, kv_heads=2, head_dim=12, max_positions=512, rope_theta=1e4)
QWEN3 = replace(QWEN2, family="qwen3", head_dim=16)  # 4 heads of 16 are wider than the hidden states
ONE_LAYER = replace(QWEN2, layers=1, kv_heads=4)
LENGTHS = (9, 1, 5)
POSITIONS = torch.cat([torch.arange(9) + 7, torch.tensor([300]), torch.arange(5)]).to(device())
ROWS = torch.tensor([8, 9, 14, 2]).to(device())

needs_packing = pytest.mark.skipif(not is_packing_supported(torch.float32), reason="oneDNN does not pack weights here")
packings = pytest.mark.parametrize("packing", ["never", pytest.param("always", marks=needs_packing)])
shapes = pytest.mark.parametrize("shape", [QWEN2, QWEN3, ONE_LAYER], ids=["qwen2", "qwen3", "one-layer"])


def language_model(shape: TextShape, dtype: torch.dtype = torch.float32):
    lm = build_language_model(shape).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in lm.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return lm.to(device(), dtype)


def row(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(sum(LENGTHS), 48, generator=torch.Generator().manual_seed(0)).to(device(), dtype)


def of_module(lm, embeds: Tensor) -> Tensor:
    """Hidden states of every sequence, computed alone by the Transformers module."""
    pairs = zip(embeds.split(LENGTHS), POSITIONS.split(LENGTHS), strict=True)
    alone = [lm(inputs_embeds=part[None], position_ids=place[None], use_cache=False) for part, place in pairs]
    return torch.cat([output.last_hidden_state[0] for output in alone])


@torch.inference_mode()
def of_decoder(decoder: Decoder, embeds: Tensor, rows: Tensor | None = None) -> Tensor:
    return decoder.forward(embeds, decoder.rotary(POSITIONS), CausalAttention(LENGTHS, rows), rows)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@shapes
@packings
@torch.no_grad()
def test_hidden_states_equal_those_of_the_module(shape: TextShape, packing) -> None:
    lm, embeds = language_model(shape), row()
    expected = of_module(lm, embeds)
    decoder = Decoder(lm, packing=packing)
    close(of_decoder(decoder, embeds), expected)
    close(of_decoder(decoder, embeds, ROWS), expected[ROWS])
    close(of_module(lm, embeds), expected)  # the module stays usable


@packings
def test_the_last_layer_attends_only_from_the_requested_rows(packing) -> None:
    decoder = Decoder(language_model(QWEN2), packing=packing)
    attention = CausalAttention(LENGTHS, ROWS)
    decoder.forward(row(), decoder.rotary(POSITIONS), attention, ROWS)
    assert attention.query_counts == [15, 15, 4]


@shapes
@packings
@torch.no_grad()
def test_bfloat16_is_as_close_to_float32_as_the_module(shape: TextShape, packing) -> None:
    exact = of_module(language_model(shape), row(torch.bfloat16).float())
    lm = language_model(shape, torch.bfloat16)
    expected = of_module(lm, row(torch.bfloat16)).float()
    actual = of_decoder(Decoder(lm, packing=packing), row(torch.bfloat16)).float()
    assert (actual - exact).norm() < 1.3 * (expected - exact).norm()


@torch.no_grad()
def test_layers_without_biases_and_with_an_output_bias() -> None:
    lm, embeds = language_model(QWEN2), row()
    for layer in lm.layers:
        layer.self_attn.k_proj.bias = None
        layer.self_attn.o_proj.bias = nn.Parameter(
            torch.randn(48, generator=torch.Generator().manual_seed(2)).to(device())
        )
    expected = of_module(lm, embeds)
    for packing in ("never", "always"):
        close(of_decoder(Decoder(copy.deepcopy(lm), packing=packing), embeds), expected)


@torch.no_grad()
def test_two_decoders_of_one_model_share_its_weights() -> None:
    lm, embeds = language_model(QWEN2), row()
    first, second = Decoder(lm, packing="never"), Decoder(lm, packing="never")
    before = of_decoder(first, embeds)
    lm.layers[0].mlp.up_proj.weight.mul_(2)
    lm.layers[1].self_attn.k_proj.weight.mul_(2)
    assert torch.equal(of_decoder(first, embeds), of_decoder(second, embeds))
    assert not torch.allclose(of_decoder(first, embeds), before)


@packings
@torch.no_grad()
def test_an_adapter_changes_only_its_own_rows_in_every_layer(packing) -> None:
    lm, embeds, routing = language_model(QWEN2), row(), {"a": torch.arange(9, 15, device=device())}
    plain = of_decoder(Decoder(lm, packing="never"), embeds)
    for layer in lm.layers:
        for part, name in ((layer.self_attn, "q_proj"), (layer.self_attn, "o_proj"), (layer.mlp, "down_proj")):
            adapted = AdaptedLinear(getattr(part, name), routing)
            down, up = torch.randn(2, adapted.base.in_features), torch.randn(adapted.base.out_features, 2)
            adapted.add("a", down.to(device()), up.to(device()))
            setattr(part, name, adapted)
    decoder = Decoder(lm, packing=packing)
    changed = of_decoder(decoder, embeds)
    close(changed[:9], plain[:9])
    assert not torch.allclose(changed[9:], plain[9:], rtol=0.1)
    close(of_decoder(decoder, embeds, ROWS), changed[ROWS])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, "type 'linear'"),
        ({"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "sliding-window attention"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
    ],
)
def test_an_unsupported_configuration_is_an_error(change: dict, message: str) -> None:
    lm = language_model(QWEN2)
    for name, value in change.items():
        setattr(lm.config, name, value)
    with pytest.raises(EngineError, match=message):
        Decoder(lm)
