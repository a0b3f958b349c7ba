"""Read the description of a model from a LLaVA-OneVision directory, in the original or the Transformers layout.

What ``config.json`` does not determine is derived from the tensors: the number of tower layers that run, and whether the
language head is tied to the embedding.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmduet.errors import CheckpointError
from mmduet.model.config import DuetConfig, Recommended, TextShape, VisionShape
from mmduet.model.config_files import read_json_object
from mmduet.model.tensor_files import Shape

CONFIG = "config.json"
LM_HEAD = "lm_head.weight"
PATCHES = "tower.siglip.embeddings.patch_embedding.weight"
POSITIONS = "tower.siglip.embeddings.position_embedding.weight"
POOLING_STRIDE = 4  # MMDuet §3: 27 x 27 patches to 7 x 7 tokens
TOWER_LAYER = re.compile(r"tower\.siglip\.encoder\.layers\.(\d+)\..+")
#: The settings that MMDuet's published checkpoints were trained for (§4).
RECOMMENDED = Recommended(fps=2.0, speak="threshold:0.5", score_heads=("informative", "relevance"))


def read_config(root: Path, tensors: Mapping[str, Shape]) -> DuetConfig:
    """Read the model's description; ``tensors`` has the shapes of its tensors by internal key. Raises ``CheckpointError``."""
    path = root / CONFIG
    values = read_json_object(path)
    try:
        text = values.get("text_config") or values
        check_supported(path, values, text)
        return DuetConfig(
            name=root.resolve().name,
            vision=_vision(path, values, tensors),
            text=_text(text, values, tensors),
            pooling_stride=int(values.get("video_pooling_stride", POOLING_STRIDE)),
            recommended=RECOMMENDED,
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise CheckpointError(
            f"{path} does not describe a LLaVA-OneVision model ({type(error).__name__}: {error}); check the directory"
        ) from error


def _text(text: dict[str, Any], values: dict[str, Any], tensors: Mapping[str, Shape]) -> TextShape:
    heads, width = int(text["num_attention_heads"]), int(text["hidden_size"])
    rope = text.get("rope_parameters") or {}
    query_norm = next((shape for key, shape in tensors.items() if key.endswith(".q_norm.weight")), ())  # (head_dim,)
    tie_settings = [part["tie_word_embeddings"] for part in (values, text) if "tie_word_embeddings" in part]
    return TextShape(
        vocab_size=int(text["vocab_size"]),
        hidden_size=width,
        intermediate_size=int(text["intermediate_size"]),
        layers=int(text["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(text.get("num_key_value_heads") or heads),
        head_dim=query_norm[0] if query_norm else int(text.get("head_dim") or width // heads),
        max_positions=int(text.get("max_position_embeddings", 32768)),
        rope_theta=float(rope.get("rope_theta", text.get("rope_theta", 1e4))),
        rms_norm_eps=float(text.get("rms_norm_eps", 1e-6)),
        tied=LM_HEAD not in tensors and (any(tie_settings) or not tie_settings),  # a stored head is always used
        family="qwen3" if query_norm else "qwen2",
    )


def _vision(path: Path, values: dict[str, Any], tensors: Mapping[str, Shape]) -> VisionShape:
    vision, defaults = values.get("vision_config") or {}, VisionShape()  # SigLIP so400m
    patch = int(vision.get("patch_size", defaults.patch_size))
    naflex = len(tensors.get(PATCHES, ())) == 2  # NaFlex embeds patches with a matrix, SigLIP with a convolution
    side = math.isqrt(tensors[POSITIONS][0]) if naflex and POSITIONS in tensors else 0
    return VisionShape(
        image_size=int(vision.get("image_size", side * patch or defaults.image_size)),
        patch_size=patch,
        hidden_size=int(vision.get("hidden_size", defaults.hidden_size)),
        intermediate_size=int(vision.get("intermediate_size", defaults.intermediate_size)),
        layers=_active_layer_count(path, values, tensors),
        heads=int(vision.get("num_attention_heads", defaults.heads)),
        family="siglip2" if naflex else "siglip",
        position_side=side,
    )


def _active_layer_count(path: Path, values: dict[str, Any], tensors: Mapping[str, Shape]) -> int:
    """Return how many of the tower's layers run. With ``vision_feature_layer`` -2, or no ``vision_config``, the last does not.

    The original layout is saved without the dropped layer, whatever number of layers its config declares.
    """
    stored = 1 + max((int(m[1]) for key in tensors if (m := TOWER_LAYER.fullmatch(key))), default=-1)
    declared, dropped = VisionShape().layers + 1, 1
    if vision := values.get("vision_config"):
        declared = int(vision.get("num_hidden_layers", declared))
        dropped = -1 - values.get("vision_feature_layer", -1)
    if stored not in (declared, declared - 1):
        raise CheckpointError(
            f"{path} declares a tower of {declared} layers, but the weights have {stored}; download the files again"
        )
    return min(stored, declared - dropped)


def check_supported(path: Path, values: dict[str, Any], text: dict[str, Any]) -> None:
    """Raise ``CheckpointError`` naming every setting that the network does not implement."""
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    layer = values.get("vision_feature_layer", -1)
    settings = {
        "rope_type": (rope.get("rope_type", rope.get("type", "default")), "default"),
        "use_sliding_window": (bool(text.get("use_sliding_window", False)), False),
        "hidden_act": (text.get("hidden_act", "silu"), "silu"),
        "projector_hidden_act": (values.get("projector_hidden_act", "gelu"), "gelu"),
        "mm_projector_type": (values.get("mm_projector_type", "mlp2x_gelu"), "mlp2x_gelu"),
        "mm_spatial_pool_mode": (values.get("mm_spatial_pool_mode") or "bilinear", "bilinear"),
        "vision_feature_layer": (layer if isinstance(layer, int) and layer < 0 else repr(layer), layer),
    }
    unsupported = [f"{name} {value!r}" for name, (value, supported) in settings.items() if value != supported]
    if unsupported:
        raise CheckpointError(f"{path}: unsupported settings {', '.join(unsupported)}; use another checkpoint")
