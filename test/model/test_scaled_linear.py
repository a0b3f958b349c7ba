"""Linear layers with weights in 8-bit floating point or 8-bit integers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmduet.model import int8
from mmduet.model.fp8 import FP8, FP8_MAX, Fp8Linear, fp8_product, round_to_fp8
from mmduet.model.int8 import Int8Linear, round_to_int8
from mmduet.model.scaled_linear import ScaledLinear

KINDS = [Fp8Linear, Int8Linear]


def linear(outputs: int = 48, inputs: int = 64, *, bias: bool = True, dtype: torch.dtype = torch.float32) -> nn.Linear:
    """Return a random layer whose rows have very different sizes."""
    generator = torch.Generator().manual_seed(outputs)
    layer = nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, inputs, generator=generator))
        layer.weight.mul_(torch.logspace(-4, 3, outputs)[:, None])
        if bias:
            layer.bias.copy_(torch.randn(outputs, generator=generator))
    return layer.to(dtype)


def random_rows(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def error_per_row(found: Tensor, expected: Tensor) -> Tensor:
    """Return the relative error of each row."""
    return (found.double() - expected.double()).norm(dim=-1) / expected.double().norm(dim=-1)


def test_rows_rounded_to_fp8_lose_at_most_their_fourth_bit() -> None:
    rows = linear().weight.detach()
    codes, scale = round_to_fp8(rows)
    restored = codes.float() * scale[:, None]
    normal = rows.abs() > rows.abs().amax(-1, keepdim=True) * 2**-13
    relative = ((restored - rows) / rows).abs()[normal]
    assert 0.03 < relative.max() <= 2**-4
    assert (codes.float().abs().amax(-1) >= FP8_MAX / 2).all()
    assert (torch.frexp(scale).mantissa == 0.5).all()


@pytest.mark.parametrize("largest", [0.0, 1e-30, 447.9, 448.0, 448.1, 512.0, 1e30])
def test_the_largest_value_of_a_row_does_not_overflow(largest: float) -> None:
    codes, scale = round_to_fp8(torch.tensor([[largest, -largest, 0.0]]))
    restored = codes.float() * scale[:, None]
    assert restored[0, 0] == pytest.approx(largest, rel=2**-4)
    assert restored[0, 2] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_in_fp8_are_the_same_in_every_number_type(dtype: torch.dtype) -> None:
    layer = Fp8Linear.from_linear(linear())
    exact = layer.weight.double() * layer.scale.double()[:, None]
    normal = exact.abs() > torch.finfo(dtype).tiny
    assert torch.equal(layer.dequantize(dtype).double()[normal], exact[normal])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_an_fp8_layer_without_fp8_products_multiplies_with_its_dequantised_weight(
    bias: bool, dtype: torch.dtype
) -> None:
    layer = Fp8Linear.from_linear(linear(bias=bias, dtype=dtype))
    inputs = random_rows(1, 5, 64, dtype=dtype)
    found = layer(inputs)
    assert found.dtype == dtype
    assert torch.equal(found, F.linear(inputs, layer.dequantize(dtype), layer.bias))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_product_in_fp8_rounds_inputs_and_weights(dtype: torch.dtype, bias: bool) -> None:
    """PyTorch also computes on CPUs what CUDA devices compute."""
    layer = Fp8Linear.from_linear(linear(bias=bias, dtype=dtype))
    rows = random_rows(50, 64, dtype=dtype) * torch.logspace(-3, 3, 50, dtype=dtype)[:, None]
    scale = rows.abs().amax(-1, keepdim=True).float() / FP8_MAX
    inputs = (rows / scale).to(FP8).float() * scale
    expected = F.linear(inputs, layer.dequantize(torch.float32))  # [50, 48]
    if layer.bias is not None:
        expected += layer.bias.float()
    found = fp8_product(rows, layer.weight, layer.scale, layer.bias)
    assert found.dtype == dtype
    assert error_per_row(found, expected).max() < 0.01  # bfloat16
    assert 0.01 < error_per_row(found, layer(rows)).median() < 0.1  # the inputs are rounded as well


def test_the_product_in_fp8_of_zeros_is_the_bias() -> None:
    layer = Fp8Linear.from_linear(linear())
    found = fp8_product(torch.zeros(2, 64), layer.weight, layer.scale, layer.bias)
    assert torch.equal(found, layer.bias.expand(2, 48))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("has_products", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_an_int8_layer_multiplies_rounded_inputs_if_the_device_has_the_product(
    bias: bool, has_products: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: has_products)
    layer, rows = Int8Linear.from_linear(linear(bias=bias, dtype=dtype)), random_rows(20, 64, dtype=dtype)
    codes, scale = round_to_int8(rows)
    inputs = codes.float() * scale if has_products else rows.float()
    expected = F.linear(inputs, layer.dequantize(torch.float32), None if layer.bias is None else layer.bias.float())
    found = layer(rows)
    assert found.dtype == dtype
    assert error_per_row(found, expected).max() < (1e-5 if dtype == torch.float32 else 0.01)


def test_integer_products_on_cpus_need_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, codes = torch.zeros(3, 64), torch.zeros(48, 64, dtype=torch.int8)
    for has_vnni in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda found=has_vnni: found)
        assert int8.has_int8_products(rows, codes) is has_vnni
        assert not int8.has_int8_products(rows[:0], codes)
        assert not int8.has_int8_products(rows.to("meta"), codes)


@pytest.mark.parametrize(("kind", "max_error"), [(Fp8Linear, 0.04), (Int8Linear, 0.02)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_outputs_are_close_to_those_of_the_layer(
    kind: type[ScaledLinear], dtype: torch.dtype, max_error: float
) -> None:
    plain, rows = linear(bias=False), random_rows(50, 64)
    found = kind.from_linear(plain.to(dtype))(rows.to(dtype))
    expected = plain.float()(rows)
    error = error_per_row(found.T, expected.T)  # per output, so that outputs with small weights count as well
    assert found.dtype == dtype
    assert 0 < error.max() < max_error


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_same_outputs_in_every_batch(kind: type[ScaledLinear]) -> None:
    layer, rows = kind.from_linear(linear()), random_rows(20, 64)
    others = torch.cat([rows[:1], 1000 * rows[1:]])
    assert error_per_row(layer(others)[:1], layer(rows[:1])) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_accepts_no_rows(kind: type[ScaledLinear]) -> None:
    assert kind.from_linear(linear())(torch.zeros(1, 0, 64)).shape == (1, 0, 48)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_takes_8_bits_per_weight_and_32_per_row(kind: type[ScaledLinear]) -> None:
    layer = kind.from_linear(linear(bias=False))
    assert sum(parameter.nbytes for parameter in layer.parameters()) == 48 * 64 + 48 * 4
    assert not any(parameter.requires_grad for parameter in layer.parameters())
