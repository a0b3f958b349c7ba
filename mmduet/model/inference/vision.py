"""The layers of SigLIP and SigLIP2 on a batch of patches, for inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmduet.errors import EngineError
from mmduet.model.config import VisionShape
from mmduet.model.inference.linear import from_weight, fuse
from mmduet.model.inference.packed import Activation, Packing

MAX_PATCHES = 16_384  # per chunk: bounds the memory of intermediate results
_ACTIVATIONS: dict[str, Activation] = {"gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}


class VisionEncoder:
    """Computes patch features with the weights of a Transformers tower. It has no backward pass.

    Build it when the weights are loaded and on their device. The patch embedding and packed weights are copies.
    """

    def __init__(self, siglip: Any, shape: VisionShape, *, packing: Packing = "auto") -> None:
        """Fuse the weights of ``siglip`` as ``fuse`` does. Raises ``EngineError`` for another activation than GELU."""
        weight, bias = _patch_weight(siglip, shape)
        self._embed = from_weight(weight, bias, packing=packing)
        self._positions = _position_embedding(siglip, shape)  # [P, V]
        self._layers = [_Layer(layer, packing) for layer in siglip.encoder.layers]
        self._chunk = max(1, MAX_PATCHES // shape.grid**2)

    @torch.inference_mode()
    def forward(self, patches: Tensor) -> Tensor:
        """Return features [B, P, V] of normalised patches [B, P, patch_size**2 * 3] in the dtype of the weights."""
        if len(patches) <= self._chunk:
            return self._encode(patches)
        return torch.cat([self._encode(chunk) for chunk in torch.split(patches, self._chunk)])

    def _encode(self, patches: Tensor) -> Tensor:
        batch, count, _ = patches.shape
        hidden = self._embed(patches.flatten(0, 1)).view(batch, count, -1)  # [B, P, V]
        hidden = hidden.add_(self._positions).flatten(0, 1)  # [B * P, V]
        for layer in self._layers:
            hidden = layer.forward(hidden, batch)
        return hidden.view(batch, count, -1)


class _Layer:
    """One encoder layer."""

    def __init__(self, module: Any, packing: Packing) -> None:
        attention, mlp = module.self_attn, module.mlp
        self._norms = (module.layer_norm1, module.layer_norm2)
        self._heads, self._scale = int(attention.num_heads), float(attention.scale)
        self._qkv = fuse([attention.q_proj, attention.k_proj, attention.v_proj], packing=packing)
        self._out = fuse([attention.out_proj], packing=packing)
        # Packed, it also computes the activation: worth it in float32, too.
        self._fc1 = fuse([mlp.fc1], packing="always" if packing == "auto" else packing)
        self._fc2 = fuse([mlp.fc2], packing=packing)
        self._activation = _activation(mlp.config.hidden_act)

    def forward(self, hidden: Tensor, batch: int) -> Tensor:
        """Return hidden states [B * P, V] after attention and MLP."""
        hidden = self._out.add(self._attend(self._norm(0, hidden), batch), hidden)
        return self._fc2.add(self._fc1.activate(self._norm(1, hidden), self._activation), hidden)

    def _attend(self, normed: Tensor, batch: int) -> Tensor:
        """Return attention outputs [B * P, V]: every patch attends to all patches of its image."""
        rows, width = normed.shape
        qkv = self._qkv(normed).view(batch, rows // batch, 3, self._heads, width // self._heads)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4).unbind()  # each [B, heads, P, head_dim]
        attended = F.scaled_dot_product_attention(queries, keys, values, scale=self._scale)
        return attended.transpose(1, 2).reshape(rows, width)

    def _norm(self, index: int, hidden: Tensor) -> Tensor:
        norm = self._norms[index]
        return F.layer_norm(hidden, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _activation(name: str) -> Activation:
    if name not in _ACTIVATIONS:
        raise EngineError(
            f"the vision tower uses the activation {name!r}, which the engine does not implement; "
            f"use a tower with {' or '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]


def _patch_weight(siglip: Any, shape: VisionShape) -> tuple[Tensor, Tensor | None]:
    """Return weight [V, patch_size**2 * 3] and bias of the patch embedding, with the channel as last axis of a patch."""
    embedding = siglip.embeddings.patch_embedding
    weight = embedding.weight.detach()
    if shape.family == "siglip":
        weight = weight.permute(0, 2, 3, 1).flatten(1)  # of a convolution [V, 3, patch_size, patch_size]
    return weight, embedding.bias


@torch.inference_mode()
def _position_embedding(siglip: Any, shape: VisionShape) -> Tensor:
    """Return the learned positions [P, V]. Those of SigLIP2 are interpolated to the grid, which is the same for all images."""
    embeddings = siglip.embeddings
    learned: Tensor = embeddings.position_embedding.weight.detach()
    if shape.family == "siglip":
        return learned
    side = embeddings.position_embedding_size
    grid = torch.full((1, 2), shape.grid, device=learned.device)
    resized = embeddings.resize_positional_embeddings(learned.view(side, side, -1), grid, max_length=shape.grid**2)
    return resized[0]  # type: ignore[no-any-return]
