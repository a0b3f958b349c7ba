"""The vision tower: SigLIP or SigLIP2 without post-layernorm and pooling head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Siglip2VisionConfig, Siglip2VisionModel, SiglipVisionConfig, SiglipVisionModel

from mmduet.model.config import VisionShape
from mmduet.model.inference.packed import Packing
from mmduet.model.inference.vision import VisionEncoder
from mmduet.model.preprocess import normalize_values, split_patches


class VisionTower(nn.Module):
    """Encodes square images to patch features.

    SigLIP2 has two variants. Its fixed-resolution towers have SigLIP's architecture (family ``siglip``); its NaFlex towers take
    patches of images of any aspect ratio and interpolate a square grid of learned positions over them (family ``siglip2``).
    """

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.shape = shape
        self.siglip = _build_siglip(shape)
        self.siglip.post_layernorm = nn.Identity()
        self._encoder: VisionEncoder | None = None

    def optimize(self, packing: Packing = "auto") -> None:
        """Compute with fused operations in inference mode, until the weights move or training starts.

        Call this again after other changes of the weights, because parts of them are copied.
        """
        self._encoder = VisionEncoder(self.siglip, self.shape, packing=packing)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the patch features [B, G*G, V] of normalised images [B, 3, S, S]."""
        if self._encoder is not None and torch.is_inference_mode_enabled():
            return self._encoder.forward(patchify(pixels, self.shape.patch_size))
        if self.shape.family == "siglip":
            features: Tensor = self.siglip(pixel_values=pixels).last_hidden_state
            return features
        grids = torch.full((len(pixels), 2), self.shape.grid, device=pixels.device)
        patches = patchify(pixels, self.shape.patch_size)
        features = self.siglip(patches, pixel_attention_mask=None, spatial_shapes=grids).last_hidden_state
        return features

    def encode_images(self, images: Tensor) -> Tensor:
        """Return the patch features [B, G*G, V] of letterboxed RGB images, uint8 [B, S, S, 3] on the tower's device."""
        dtype = self.siglip.dtype
        if self._encoder is None or not torch.is_inference_mode_enabled():
            return self(normalize_values(images.permute(0, 3, 1, 2)).to(dtype))  # type: ignore[no-any-return]
        # Bytes are split before they become floats, which are four times as large.
        patches = normalize_values(split_patches(images, self.shape.patch_size))
        return self._encoder.forward(patches.to(dtype))

    def train(self, mode: bool = True) -> VisionTower:
        """Set the mode. Training changes the weights, so that it ends the effect of ``optimize``."""
        if mode:
            self._encoder = None
        super().train(mode)
        return self

    def _apply(self, *args: Any, **kwargs: Any) -> VisionTower:
        self._encoder = None  # its tensors do not move with the module
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_encoder": None}  # a copy would not share the copied module's weights


def patchify(pixels: Tensor, patch_size: int) -> Tensor:
    """Split images [B, 3, S, S] into patches [B, G*G, patch_size**2 * 3], row by row, with the channel as last axis."""
    return split_patches(pixels.permute(0, 2, 3, 1), patch_size)


def _build_siglip(shape: VisionShape) -> SiglipVisionModel | Siglip2VisionModel:
    """Build the Transformers model of a tower's shape, without pooling head."""
    settings = {
        "patch_size": shape.patch_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "vision_use_head": False,
        "attn_implementation": "sdpa",
    }
    if shape.family == "siglip2":
        positions = (shape.position_side or shape.grid) ** 2
        return Siglip2VisionModel(Siglip2VisionConfig(**settings, num_patches=positions))
    return SiglipVisionModel(SiglipVisionConfig(**settings, image_size=shape.image_size))
