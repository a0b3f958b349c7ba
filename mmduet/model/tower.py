"""The vision tower: SigLIP or SigLIP2 without post-layernorm and pooling head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import Siglip2VisionConfig, Siglip2VisionModel, SiglipVisionConfig, SiglipVisionModel

from mmduet.model.config import VisionShape


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

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the patch features [B, G*G, V] of normalised images [B, 3, S, S]."""
        if self.shape.family == "siglip":
            features: Tensor = self.siglip(pixel_values=pixels).last_hidden_state
            return features
        grids = torch.full((len(pixels), 2), self.shape.grid, device=pixels.device)
        patches = patchify(pixels, self.shape.patch_size)
        features = self.siglip(patches, pixel_attention_mask=None, spatial_shapes=grids).last_hidden_state
        return features


def patchify(pixels: Tensor, patch_size: int) -> Tensor:
    """Split images [B, 3, S, S] into patches [B, G*G, patch_size**2 * 3], row by row, with the channel as last axis."""
    batch, channels, size, _ = pixels.shape
    grid = size // patch_size
    side = grid * patch_size
    split = pixels[:, :, :side, :side].reshape(batch, channels, grid, patch_size, grid, patch_size)
    return split.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


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
