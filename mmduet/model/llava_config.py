"""Reads what a LLaVA-OneVision directory contains, original or Transformers layout, into our description of a model.

What its ``config.json`` leaves open is decided by its weights: how many tower layers run, whether the language head is the
embedding.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmduet.errors import CheckpointError
from mmduet.model.config import DuetConfig, Recommended, TextShape, VisionShape
from mmduet.model.tensor_files import Shape

CONFIG = "config.json"
LM_HEAD = "lm_head.weight"
PATCHES = "tower.siglip.embeddings.patch_embedding.weight"
POSITIONS = "tower.siglip.embeddings.position_embedding.weight"
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
        check_supported(path, values, text)
        return DuetConfig(
            name=root.resolve().name,
            vision=_vision(path, values, tensors),
            text=_text(text, values, tensors),
            pooling_stride=int(values.get("video_pooling_stride", POOLING_STRIDE)),
            recommended=RECOMMENDED,
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} does not describe a LLaVA-OneVision model ({type(error).__name__}: {error})"
        ) from error


def _text(text: dict[str, Any], values: dict[str, Any], tensors: Mapping[str, Shape]) -> TextShape:
    heads, width = int(text["num_attention_heads"]), int(text["hidden_size"])
    rope = text.get("rope_parameters") or {}
    norms = next(
        (shape for name, shape in tensors.items() if name.endswith(".q_norm.weight")), ()
    )  # over a head's width
    said = [part["tie_word_embeddings"] for part in (values, text) if "tie_word_embeddings" in part]
    return TextShape(
        vocab_size=int(text["vocab_size"]),
        hidden_size=width,
        intermediate_size=int(text["intermediate_size"]),
        layers=int(text["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(text.get("num_key_value_heads") or heads),
        head_dim=norms[0] if norms else int(text.get("head_dim") or width // heads),
        max_positions=int(text.get("max_position_embeddings", 32768)),
        rope_theta=float(rope.get("rope_theta", text.get("rope_theta", 1e4))),
        rms_norm_eps=float(text.get("rms_norm_eps", 1e-6)),
        tied=LM_HEAD not in tensors and (any(said) or not said),  # one that is stored is always used
        family="qwen3" if norms else "qwen2",
    )


def _vision(path: Path, values: dict[str, Any], tensors: Mapping[str, Shape]) -> VisionShape:
    vision, so400m = values.get("vision_config") or {}, VisionShape()
    patch = int(vision.get("patch_size", so400m.patch_size))
    naflex = len(tensors.get(PATCHES, ())) == 2  # a matrix, where SigLIP has a convolution
    side = math.isqrt(tensors[POSITIONS][0]) if naflex and POSITIONS in tensors else 0
    return VisionShape(
        image_size=int(vision.get("image_size", side * patch or so400m.image_size)),
        patch_size=patch,
        hidden_size=int(vision.get("hidden_size", so400m.hidden_size)),
        intermediate_size=int(vision.get("intermediate_size", so400m.intermediate_size)),
        layers=_active_layer_count(path, values, tensors),
        heads=int(vision.get("num_attention_heads", so400m.heads)),
        family="siglip2" if naflex else "siglip",
        position_side=side,
    )


def _active_layer_count(path: Path, values: dict[str, Any], tensors: Mapping[str, Shape]) -> int:
    """How many of the tower's layers run. ``vision_feature_layer`` -2, or no ``vision_config``: the last does not.

    The original layout is written after the last layer has been dropped, whichever number its config gives.
    """
    stored = 1 + max((int(m[1]) for name in tensors if (m := TOWER_LAYER.fullmatch(name))), default=-1)
    if not values.get("vision_config"):
        said, dropped = VisionShape().layers + 1, 1
    else:
        said, dropped = (
            int(values["vision_config"].get("num_hidden_layers", VisionShape().layers + 1)),
            -1 - values.get("vision_feature_layer", -1),
        )
    if stored not in (said, said - 1):
        raise CheckpointError(
            f"{path}: a tower of {said} layers is described, the weights hold {stored}; fetch them again"
        )
    return min(stored, said - dropped)


def check_supported(path: Path, values: dict[str, Any], text: dict[str, Any]) -> None:
    """Raise ``CheckpointError`` naming every setting with which such a model computes something else than ours."""
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    layer = values.get("vision_feature_layer", -1)
    found = {
        "rope_type": (rope.get("rope_type", rope.get("type", "default")), "default"),
        "use_sliding_window": (bool(text.get("use_sliding_window", False)), False),
        "hidden_act": (text.get("hidden_act", "silu"), "silu"),
        "projector_hidden_act": (values.get("projector_hidden_act", "gelu"), "gelu"),
        "mm_projector_type": (values.get("mm_projector_type", "mlp2x_gelu"), "mlp2x_gelu"),
        "vision_feature_layer": (layer if isinstance(layer, int) and layer < 0 else repr(layer), layer),
    }
    odd = [f"{name} {value!r}" for name, (value, known) in found.items() if value != known]
    if odd:
        raise CheckpointError(f"{path}: {', '.join(odd)} cannot be computed here; such a checkpoint is not supported")
