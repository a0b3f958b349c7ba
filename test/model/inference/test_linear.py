from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from mmduet.model.adapted_linear import AdaptedLinear
from mmduet.model.fp8 import Fp8Linear
from mmduet.model.inference.linear import DenseLinear, SeparateLinears, fuse, fuse_gated
from mmduet.model.inference.packed import PackedLinear, is_packing_supported, should_pack
from mmduet.model.int8 import Int8Linear
from mmduet.model.scaled_linear import ScaledLinear

needs_packing = pytest.mark.skipif(not is_packing_supported(torch.float32), reason="oneDNN does not pack weights here")
packings = pytest.mark.parametrize("packing", ["never", pytest.param("always", marks=needs_packing)])


class Doubled(nn.Linear):
    """A layer of another type, as quantised layers are."""

    def forward(self, inputs: Tensor) -> Tensor:
        assert inputs.dim() == 3
        return 2 * super().forward(inputs)


def linears(*widths: int, bias: bool = True, kind: type[nn.Linear] = nn.Linear) -> list[nn.Linear]:
    torch.manual_seed(0)
    return [kind(24, width, bias=bias).requires_grad_(False) for width in widths]


def inputs(rows: int = 7) -> Tensor:
    return torch.randn(rows, 24, generator=torch.Generator().manual_seed(1))


def concatenated(layers: list[nn.Linear], x: Tensor) -> Tensor:
    return torch.cat([layer(x[None])[0] for layer in layers], -1)


@packings
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_the_product_is_that_of_the_layers(packing, bias: bool, rows: int) -> None:
    layers, x = linears(40, 8, 16, bias=bias), inputs(rows)
    expected = concatenated(layers, x)
    residual = torch.ones_like(expected)
    fused = fuse(layers, packing=packing)
    assert isinstance(fused, DenseLinear if packing == "never" else PackedLinear)
    torch.testing.assert_close(fused(x), expected)
    torch.testing.assert_close(fused.add(x, residual), expected + 1)
    torch.testing.assert_close(residual, torch.ones_like(residual))
    for name, function in {
        "gelu": F.gelu,
        "gelu_tanh": lambda y: F.gelu(y, approximate="tanh"),
        "silu": F.silu,
    }.items():
        torch.testing.assert_close(fused.activate(x, name), function(expected))
    torch.testing.assert_close(concatenated(layers, x), expected)


@packings
def test_inputs_may_be_strided(packing) -> None:
    layers, x = linears(40, 8), torch.cat([inputs(), inputs()], 1)[:, :24]
    torch.testing.assert_close(fuse(layers, packing=packing)(x), concatenated(layers, x.contiguous()))


@packings
@pytest.mark.parametrize("kind", [nn.Linear, Doubled])
def test_a_gated_product(packing, kind: type[nn.Linear]) -> None:
    gate, up = linears(40, 40, bias=False, kind=kind)
    expected = F.silu(gate(inputs()[None])) * up(inputs()[None])
    torch.testing.assert_close(fuse_gated(gate, up, packing=packing)(inputs()), expected[0])


def test_layers_of_other_types_are_applied_one_by_one() -> None:
    layers = [*linears(40), *linears(8, kind=Doubled)]
    fused = fuse(layers, packing="always")
    assert isinstance(fused, SeparateLinears)
    expected = concatenated(layers, inputs())
    torch.testing.assert_close(fused(inputs()), expected)
    torch.testing.assert_close(fused.add(inputs(), torch.ones_like(expected)), expected + 1)
    torch.testing.assert_close(fused.activate(inputs(), "silu"), F.silu(expected))


@packings
def test_adapters_are_added_to_the_fused_product(packing) -> None:
    routing: dict[str, Tensor] = {}
    layers = [AdaptedLinear(layer, routing) for layer in linears(40, 8, 16)]
    layers[1] = layers[1].base
    layers[0].add("a", torch.randn(2, 24), torch.randn(40, 2))
    layers[2].add("b", torch.randn(3, 24), torch.randn(16, 3))
    layers[2].add_bias("b", torch.randn(16))
    fused = fuse(layers, packing=packing)
    assert not isinstance(fused, SeparateLinears)
    plain = concatenated(layers, inputs())
    for rows in ({"a": torch.tensor([0, 4])}, {"a": torch.tensor([2]), "b": torch.tensor([1, 6])}, {}):
        routing.clear()
        routing.update(rows)
        expected = concatenated(layers, inputs())
        assert bool(rows) == (not torch.allclose(expected, plain))
        torch.testing.assert_close(fused(inputs()), expected)
        torch.testing.assert_close(fused.add(inputs(), torch.ones_like(expected)), expected + 1)
        torch.testing.assert_close(fused.activate(inputs(), "silu"), F.silu(expected))


@packings
def test_adapters_are_added_to_a_gated_product(packing) -> None:
    routing = {"a": torch.tensor([0, 4])}
    gate, up = (AdaptedLinear(layer, routing) for layer in linears(40, 40, bias=False))
    up.add("a", torch.randn(2, 24), torch.randn(40, 2))
    expected = F.silu(gate(inputs()[None])) * up(inputs()[None])
    torch.testing.assert_close(fuse_gated(gate, up, packing=packing)(inputs()), expected[0])


@pytest.mark.parametrize("kind", [Fp8Linear, Int8Linear])
@pytest.mark.parametrize("bias", [True, False])
def test_layers_with_scales_are_one_product_and_share_one_storage(kind: type[ScaledLinear], bias: bool) -> None:
    layers = [kind.from_linear(layer) for layer in linears(40, 8, 16, bias=bias)]
    expected = concatenated(layers, inputs())
    fused = fuse(layers)
    assert isinstance(fused, SeparateLinears)
    (joined,) = fused.layers
    storages = {layer.weight.untyped_storage().data_ptr() for layer in [joined, *layers]}
    assert len(storages) == 1
    torch.testing.assert_close(fused(inputs()), expected)
    torch.testing.assert_close(concatenated(layers, inputs()), expected)


def test_layers_with_different_kinds_of_scaled_weights_are_applied_one_by_one() -> None:
    first, second, third = linears(40, 8, 16)
    mixed = [Fp8Linear.from_linear(first), second, Int8Linear.from_linear(third)]
    fused = fuse(mixed)
    assert isinstance(fused, SeparateLinears)
    assert len(fused.layers) == 3
    torch.testing.assert_close(fused(inputs()), concatenated(mixed, inputs()))


@pytest.mark.parametrize("kind", [Fp8Linear, Int8Linear])
def test_a_gated_product_of_layers_with_scales(kind: type[ScaledLinear]) -> None:
    gate, up = (kind.from_linear(layer) for layer in linears(40, 40, bias=False))
    expected = F.silu(gate(inputs())) * up(inputs())
    torch.testing.assert_close(fuse_gated(gate, up)(inputs()), expected)


def test_dense_layers_share_one_storage_and_are_saved_as_before(tmp_path: Path) -> None:
    layers = nn.ModuleList(linears(40, 8))
    before = {name: tensor.clone() for name, tensor in layers.state_dict().items()}
    fused = fuse(list(layers), packing="never")
    assert layers[0].weight.untyped_storage().data_ptr() == fused.weight.untyped_storage().data_ptr()
    assert layers[1].weight.untyped_storage().data_ptr() == fused.weight.untyped_storage().data_ptr()
    save_file(layers.state_dict(), tmp_path / "weights")
    after = load_file(tmp_path / "weights")
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_second_fusion_copies_nothing() -> None:
    layers = linears(40, 8)
    first, second = fuse(layers, packing="never"), fuse(layers, packing="never")
    assert first.weight.data_ptr() == second.weight.data_ptr()
    assert first.bias.data_ptr() == second.bias.data_ptr()
    reversed_order = fuse(layers[::-1], packing="never")
    torch.testing.assert_close(reversed_order(inputs()), concatenated(layers[::-1], inputs()))


@packings
@pytest.mark.parametrize("built_in", [True, False])
@pytest.mark.parametrize("fused_in", [True, False])
def test_layers_may_be_built_and_fused_in_inference_mode(packing, built_in: bool, fused_in: bool) -> None:
    with torch.inference_mode(built_in):
        layers = linears(40, 8)
    with torch.inference_mode(fused_in):
        fused = fuse(layers, packing=packing)
    with torch.inference_mode():
        torch.testing.assert_close(fused(inputs()), concatenated(layers, inputs()))
    if not built_in:  # the parameters can still be trained
        layers[0].requires_grad_(True)(inputs()).sum().backward()
        assert layers[0].weight.grad is not None


def test_a_single_dense_layer_keeps_its_tensors() -> None:
    (layer,) = linears(40)
    assert fuse([layer], packing="never").weight.data_ptr() == layer.weight.data_ptr()


@needs_packing
def test_released_weights_are_freed_and_their_modules_raise() -> None:
    layers = linears(40, 8)
    expected = concatenated(layers, inputs())
    fused = fuse(layers, packing="always", release=True)
    torch.testing.assert_close(fused(inputs()), expected)
    assert [layer.weight.numel() for layer in layers] == [0, 0]
    with pytest.raises(RuntimeError):
        layers[0](inputs())


def test_weights_that_cannot_be_packed_are_fused_dense() -> None:
    assert not should_pack(torch.empty(4, 4, device="meta"), "always")
    assert not is_packing_supported(torch.float64)
    assert isinstance(fuse(linears(40, 8), packing="auto"), DenseLinear)  # float32 is packed only on request
    wide = [layer.double() for layer in linears(40, 8)]
    assert isinstance(fuse(wide, packing="always"), DenseLinear)


def test_packing_is_unsupported_where_the_operators_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("not implemented")

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", broken)
    is_packing_supported.cache_clear()
    try:
        assert not is_packing_supported(torch.float32)
        assert isinstance(fuse(linears(40, 8), packing="always"), DenseLinear)
    finally:
        is_packing_supported.cache_clear()
