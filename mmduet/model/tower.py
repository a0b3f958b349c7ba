"""The vision tower: SigLIP or SigLIP2 without post-layernorm and without pooling head; weights only."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import Siglip2VisionConfig, Siglip2VisionModel, SiglipVisionConfig, SiglipVisionModel

from mmduet.model.config import VisionShape


class VisionTower(nn.Module):
    """Square pictures to patch features.

    SigLIP2 comes in two kinds. Its towers of one resolution are SigLIP's to the letter; its towers for any shape of picture
    (NaFlex) take patches and stretch a square of learned positions over them, and are what ``siglip2`` means here.
    """

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.shape = shape
        self.siglip = _siglip(shape)
        self.siglip.post_layernorm = nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, 3, S, S] to patch features [B, G*G, V]."""
        if self.shape.family == "siglip":
            features: Tensor = self.siglip(pixel_values=pixels).last_hidden_state
            return features
        sides = torch.full((len(pixels), 2), self.shape.grid, device=pixels.device)
        patches = patchify(pixels, self.shape.patch_size)
        features = self.siglip(patches, pixel_attention_mask=None, spatial_shapes=sides).last_hidden_state
        return features


def patchify(pixels: Tensor, side: int) -> Tensor:
    """Pictures [B, 3, S, S] as patches [B, G*G, side * side * 3], row by row, the colours of a pixel together."""
    batch, colours, size, _ = pixels.shape
    grid = size // side
    cut = pixels[:, :, : grid * side, : grid * side].reshape(batch, colours, grid, side, grid, side)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def _siglip(shape: VisionShape) -> SiglipVisionModel | Siglip2VisionModel:
    """The Transformers model of a tower's shape, without pooling head."""
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
