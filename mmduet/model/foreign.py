"""Reads what a LLaVA-OneVision directory says of itself, original or Transformers layout, into our description of a model.

What its ``config.json`` leaves open is decided by its weights: how many tower layers run, whether the language head is the
embedding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmduet.errors import CheckpointError
from mmduet.model.config import DuetConfig, Recommended, TextShape, VisionShape
from mmduet.model.tensor_files import Shape

CONFIG = "config.json"
POOLING_STRIDE = 4  # MMDuet §3: 27 x 27 patches to 7 x 7 tokens
TOWER_LAYER = re.compile(r"tower\.siglip\.encoder\.layers\.(\d+)\..+")
#: MMDuet §4: the settings that its published checkpoints were trained for.
RECOMMENDED = Recommended(fps=2.0, speak="threshold:0.5", score_heads=("informative", "relevance"))


def read_config(root: Path, tensors: Mapping[str, Shape]) -> DuetConfig:
    """The model in ``root``; ``tensors``: the shapes of its tensors, by our names. Raises ``CheckpointError``."""
    path = root / CONFIG
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        text = values.get("text_config") or values
        dropped = _layers_dropped(path, values)
        return DuetConfig(
            name=root.resolve().name,
            vision=_vision(path, values.get("vision_config") or {}, dropped, tensors),
            text=_text(text, values, tensors),
            pooling_stride=int(values.get("video_pooling_stride", POOLING_STRIDE)),
            recommended=RECOMMENDED,
        )
    except FileNotFoundError:
        raise CheckpointError(f"{root} holds neither a manifest nor a {CONFIG}; it is no checkpoint") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} does not describe a LLaVA-OneVision model ({type(error).__name__}: {error})"
        ) from error


def _text(text: dict[str, Any], values: dict[str, Any], tensors: Mapping[str, Shape]) -> TextShape:
    heads, width = int(text["num_attention_heads"]), int(text["hidden_size"])
    rope = text.get("rope_parameters") or {}
    tied = values.get("tie_word_embeddings", text.get("tie_word_embeddings"))
    return TextShape(
        vocab_size=int(text["vocab_size"]),
        hidden_size=width,
        intermediate_size=int(text["intermediate_size"]),
        layers=int(text["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(text.get("num_key_value_heads") or heads),
        head_dim=int(text.get("head_dim") or width // heads),
        max_positions=int(text.get("max_position_embeddings", 32768)),
        rope_theta=float(rope.get("rope_theta", text.get("rope_theta", 1e6))),
        rms_norm_eps=float(text.get("rms_norm_eps", 1e-6)),
        tied=bool(tied) if tied is not None else "lm_head.weight" not in tensors,
    )


def _vision(path: Path, vision: dict[str, Any], dropped: int, tensors: Mapping[str, Shape]) -> VisionShape:
    so400m = VisionShape()
    said = int(vision.get("num_hidden_layers", so400m.layers + 1))
    return VisionShape(
        image_size=int(vision.get("image_size", so400m.image_size)),
        patch_size=int(vision.get("patch_size", so400m.patch_size)),
        hidden_size=int(vision.get("hidden_size", so400m.hidden_size)),
        intermediate_size=int(vision.get("intermediate_size", so400m.intermediate_size)),
        layers=_layers_that_run(path, said, dropped, tensors),
        heads=int(vision.get("num_attention_heads", so400m.heads)),
    )


def _layers_dropped(path: Path, values: dict[str, Any]) -> int:
    """How many of the tower's stored layers its features come before: ``vision_feature_layer`` -1 means none."""
    layer = values.get("vision_feature_layer", -1)
    if not isinstance(layer, int) or layer >= 0:
        raise CheckpointError(f"{path}: vision_feature_layer is {layer!r}; only one layer counted from the end is read")
    return -1 - layer


def _layers_that_run(path: Path, said: int, dropped: int, tensors: Mapping[str, Shape]) -> int:
    """Checkpoints are written after the last layer has been dropped, whichever number their config gives."""
    stored = 1 + max((int(m[1]) for name in tensors if (m := TOWER_LAYER.fullmatch(name))), default=-1)
    if stored not in (said, said - 1):
        raise CheckpointError(
            f"{path} says that the tower has {said} layers, the weights hold {stored}; fetch them again"
        )
    return stored - dropped
