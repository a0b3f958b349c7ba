from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from device_option import device
from torch import Tensor, nn

from mmduet.errors import EngineError
from mmduet.model.config import VisionShape
from mmduet.model.inference import vision
from mmduet.model.inference.packed import is_packing_supported
from mmduet.model.preprocess import normalize_images
from mmduet.model.tower import VisionTower

SIGLIP = VisionShape(image_size=30, patch_size=7, hidden_size=32, intermediate_size=48, layers=2, heads=2)
NAFLEX = replace(
    SIGLIP, image_size=48, patch_size=8, family="siglip2", position_side=4
)  # 6 x 6 patches of 4 x 4 positions

needs_packing = pytest.mark.skipif(not is_packing_supported(torch.float32), reason="oneDNN does not pack weights here")
packings = pytest.mark.parametrize("packing", ["never", pytest.param("always", marks=needs_packing)])
shapes = pytest.mark.parametrize("shape", [SIGLIP, NAFLEX], ids=["siglip", "siglip2"])


def tower_of(shape: VisionShape, dtype: torch.dtype = torch.float32) -> VisionTower:
    tower = VisionTower(shape).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in tower.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return tower.to(device(), dtype)


def images_of(shape: VisionShape, count: int = 5) -> Tensor:
    size = (count, shape.image_size, shape.image_size, 3)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(device())


@torch.no_grad()
def of_module(tower: VisionTower, images: Tensor) -> Tensor:
    features: Tensor = tower(normalize_images(images).to(tower.siglip.dtype))
    return features


@torch.inference_mode()
def of_encoder(tower: VisionTower, images: Tensor) -> Tensor:
    return tower.encode_images(images)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@shapes
@packings
@pytest.mark.parametrize("count", [1, 5])
def test_features_equal_those_of_the_module(shape: VisionShape, packing, count: int) -> None:
    tower, images = tower_of(shape), images_of(shape, count)
    expected = of_module(tower, images)
    tower.optimize(packing)
    assert expected.shape == (count, shape.grid**2, 32)
    close(of_encoder(tower, images), expected)
    close(of_module(tower, images), expected)  # outside of inference mode the module computes
    with torch.inference_mode():
        close(tower(normalize_images(images)), expected)


@shapes
def test_images_are_encoded_in_chunks_of_bounded_size(shape: VisionShape, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "MAX_PATCHES", 2 * shape.grid**2)
    sizes, compute = [], vision.F.scaled_dot_product_attention

    def record(queries: Tensor, *args: Tensor, **kwargs: float) -> Tensor:
        sizes.append(len(queries))
        return compute(queries, *args, **kwargs)

    monkeypatch.setattr(vision.F, "scaled_dot_product_attention", record)
    tower, images = tower_of(shape), images_of(shape)
    expected = of_module(tower, images)
    sizes.clear()
    tower.optimize()
    close(of_encoder(tower, images), expected)
    assert sizes == [2, 2, 2, 2, 1, 1]  # two layers for each chunk


@shapes
@packings
def test_bfloat16_is_as_close_to_float32_as_the_module(shape: VisionShape, packing) -> None:
    images, tower = images_of(shape), tower_of(shape, torch.bfloat16)
    exact = of_module(tower_of(shape, torch.bfloat16).float(), images)
    expected = of_module(tower, images).float()
    tower.optimize(packing)
    assert (of_encoder(tower, images).float() - exact).norm() < 1.3 * (expected - exact).norm()


def test_images_are_encoded_without_optimize_and_outside_of_inference_mode() -> None:
    tower, images = tower_of(SIGLIP), images_of(SIGLIP)
    expected = of_module(tower, images)
    assert torch.equal(of_encoder(tower, images), expected)
    tower.optimize()
    with torch.no_grad():
        assert torch.equal(tower.encode_images(images), expected)


def double(tower: VisionTower) -> None:
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.mul_(1.5)


def train(tower: VisionTower) -> VisionTower:
    double(tower.train())
    return tower.eval()


def cast(tower: VisionTower) -> VisionTower:
    double(tower.double())
    return tower


def duplicate(tower: VisionTower) -> VisionTower:
    copied = copy.deepcopy(tower)
    double(copied)
    return copied


@packings
@pytest.mark.parametrize("change", [train, cast, duplicate])
def test_weights_that_change_are_not_computed_with_old_copies(change, packing) -> None:
    tower, images = tower_of(SIGLIP), images_of(SIGLIP)
    tower.optimize(packing)
    before = of_encoder(tower, images)
    tower = change(tower)
    after = of_encoder(tower, images)
    close(after, of_module(tower, images))
    assert not torch.allclose(after.float(), before, rtol=0.1)


def test_other_linear_modules_of_a_tower_are_used() -> None:
    class Scaled(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return 3 * super().forward(inputs)

    tower, images = tower_of(SIGLIP), images_of(SIGLIP)
    for layer in tower.siglip.encoder.layers:
        layer.mlp.fc1.__class__ = Scaled
        layer.self_attn.v_proj.__class__ = Scaled
    expected = of_module(tower, images)
    tower.optimize()
    close(of_encoder(tower, images), expected)


def test_another_activation_is_an_error() -> None:
    tower = tower_of(SIGLIP)
    tower.siglip.config.hidden_act = "relu"
    with pytest.raises(EngineError, match="activation 'relu'"):
        tower.optimize()
