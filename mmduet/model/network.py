"""The duet network: vision tower, projector with pooling, Qwen language model and two heads. It holds no session state.

Source: MMDuet §3, based on LLaVA-OneVision. Tower and language model are Transformers classes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2Model, Qwen3Config, Qwen3Model

from mmduet.model.config import DuetConfig, TextShape
from mmduet.model.tower import VisionTower

HeadName = Literal["informative", "relevance"]
HEADS: tuple[HeadName, ...] = ("informative", "relevance")
HEAD_TENSORS = tuple(f"heads.{name}.weight" for name in HEADS)


class Projector(nn.Module):
    """Linear, GELU (erf), bilinear pooling of the patch grid to K tokens, Linear.

    The original pools after the second Linear. The pooling weights sum to one, so pooling before it gives the same result, and
    the Linear runs on K rows instead of G*G.
    """

    def __init__(self, config: DuetConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.vision.hidden_size, config.text.hidden_size)
        self.fc2 = nn.Linear(config.text.hidden_size, config.text.hidden_size)
        self.grid, self.side = config.vision.grid, config.pooled_side

    def forward(self, features: Tensor) -> Tensor:
        """Return the visual tokens [B, K, D], row by row, of patch features [B, G*G, V]."""
        hidden = nn.functional.gelu(self.fc1(features))  # [B, G*G, D]
        batch, _, width = hidden.shape
        grid = hidden.transpose(1, 2).reshape(batch, width, self.grid, self.grid)
        pooled = nn.functional.interpolate(grid, size=(self.side, self.side), mode="bilinear", align_corners=False)
        return self.fc2(pooled.flatten(2).transpose(1, 2))  # type: ignore[no-any-return]  # [B, K, D]


class Heads(nn.ModuleDict):
    """The heads ``informative`` and ``relevance``, each a linear layer to two classes."""

    def __init__(self, width: int) -> None:
        super().__init__({name: nn.Linear(width, 2, bias=False) for name in HEADS})

    def forward(self, hidden: Tensor) -> Tensor:
        """Return float32 probabilities [N, 2] in the order of ``HEADS``, from hidden states after the final norm [N, D]."""
        logits = torch.stack([self[name](hidden).float() for name in HEADS], dim=1)  # [N, 2, 2]
        return logits.softmax(-1)[..., 1]


class DuetModel(nn.Module):
    """All weights of a model. ``lm`` does not include the language head, because ``lm_head`` runs only on decoded tokens."""

    def __init__(self, config: DuetConfig) -> None:
        super().__init__()
        self.config = config
        self.tower = VisionTower(config.vision)
        self.projector = Projector(config)
        self.lm = build_language_model(config.text)
        self.lm_head = nn.Linear(config.text.hidden_size, config.text.vocab_size, bias=False)
        self.heads = Heads(config.text.hidden_size)
        if config.text.tied:
            self.lm_head.weight = self.lm.embed_tokens.weight

    def untie(self) -> None:
        """Give the language head a copy of the embedding's weight, so that either can change alone."""
        self.lm_head.weight = nn.Parameter(self.lm_head.weight.detach().clone(), requires_grad=False)
        self.config = replace(self.config, text=replace(self.config.text, tied=False))

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the language model, which the tower also runs in."""
        return self.lm_head.weight.dtype

    def features(self, pixels: Tensor) -> Tensor:
        """Return the tower's features [B, G*G, V] of normalised images [B, 3, S, S]."""
        return self.tower(pixels.to(self.device, self.dtype))  # type: ignore[no-any-return]

    def encode_images(self, images: Tensor) -> Tensor:
        """Return the tower's features [B, G*G, V] of letterboxed RGB images, uint8 [B, S, S, 3]."""
        return self.tower.encode_images(images.to(self.device))

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Return the embeddings [..., D] of token ids [...]."""
        return self.lm.embed_tokens(ids)  # type: ignore[no-any-return]

    def score(self, hidden: Tensor) -> Tensor:
        """Return the float32 probabilities [N, 2] of both heads, from hidden states after the final norm [N, D]."""
        return self.heads(hidden)  # type: ignore[no-any-return]


def build_language_model(shape: TextShape) -> Qwen2Model | Qwen3Model:
    """Build the Transformers model of a text shape. Qwen2.5 uses Qwen2's class; Qwen3 has query and key norms, no biases."""
    settings = {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.max_positions,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "rms_norm_eps": shape.rms_norm_eps,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "attn_implementation": "sdpa",
    }
    if shape.family == "qwen3":
        return Qwen3Model(Qwen3Config(**settings))
    return Qwen2Model(Qwen2Config(**settings))
