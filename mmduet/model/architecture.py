"""Check what kind of model a directory holds, from ``config.json`` alone, before its weights are looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmduet.errors import CheckpointError
from mmduet.model.config_files import read_json_object

#: LLaVA-OneVision's own classes, MMDuet's subclass of them, and the port to Transformers.
ARCHITECTURE = re.compile(r"(VideoHeadLive)?LlavaQwen\d*ForCausalLM|LlavaOnevisionForConditionalGeneration")
MODEL_TYPES = ("llava", "llava_qwen", "llava_qwen2", "llava_qwen3", "llava_onevision")  # where no class is named
TEXT_TYPES = ("qwen2", "qwen3")
VISION_TYPES = ("siglip", "siglip_vision_model", "siglip2", "siglip2_vision_model")
SUPPORTED = (
    "Supported are LLaVA-OneVision models (LlavaQwenForCausalLM or LlavaOnevisionForConditionalGeneration) with a Qwen2, "
    "Qwen2.5 or Qwen3 language model and a SigLIP or SigLIP2 tower, adapters for them, and checkpoints in mmduet's format"
)
DISPLAY_NAMES = {
    "qwen2_vl": "Qwen2-VL", "qwen2_5_vl": "Qwen2.5-VL", "qwen3_vl": "Qwen3-VL", "qwen3_vl_moe": "Qwen3-VL",
    "internvl": "InternVL", "internvl_chat": "InternVL", "llava_next_video": "LLaVA-NeXT-Video",
    "llavaonevision1_5": "LLaVA-OneVision-1.5",
}  # fmt: skip
#: What directories without a known description contain, and what that means.
OTHER_CONTENTS = (
    ("*.gguf", "it holds GGUF files, which are not supported; use the model's safetensors files"),
    ("model_index.json", "it holds a Diffusers pipeline, which is not supported"),
    ("snapshots", "it is a folder of the Hugging Face cache; give the name OWNER/NAME, or a folder in snapshots/"),
    ("*/config.json", "the folders in it have one; give one of them"),
)


def check_architecture(path: Path, name: str | None = None) -> None:
    """Raise ``CheckpointError`` if ``path``, a ``config.json``, describes a model that is not supported, naming what is.

    ``name`` is that of the model in the message, its directory by default.
    """
    problems = list(_problems(read_json_object(path)))
    if problems:
        raise CheckpointError(
            f"{name or path.parent} holds {', with '.join(problems)}, which is not supported. {SUPPORTED}. The "
            "files are not damaged; downloading them again does not help"
        )


def describe_other_contents(root: Path) -> str:
    """Return why a directory may have no description that can be read, beginning with a separator; empty if not known."""
    return next((f"; {meaning}" for pattern, meaning in OTHER_CONTENTS if _contains(root, pattern)), "; check the path")


def _contains(root: Path, pattern: str) -> bool:
    """Return whether a file or folder below ``root`` matches; hidden ones are left out."""
    found = (path.relative_to(root) for path in root.glob(pattern))
    return any(not any(part.startswith(".") for part in path.parts) for path in found)


def _problems(values: dict[str, Any]) -> Iterator[str]:
    """Yield the parts of the model that are not supported."""
    classes, kind = _strings(values.get("architectures")), values.get("model_type")
    if not any(map(ARCHITECTURE.fullmatch, classes)) and (classes or kind not in (*MODEL_TYPES, None)):
        named = ", ".join([*classes[:1], *([f"model_type {kind!r}"] if kind is not None else [])])
        yield f"{DISPLAY_NAMES.get(str(kind), 'another kind of model')} ({named})"
    for part, types in (("text_config", TEXT_TYPES), ("vision_config", VISION_TYPES)):
        found = _table(values, part).get("model_type")
        if found not in (*types, None):
            yield f"{part} of model_type {found!r}"
    tower = str(values.get("mm_vision_tower"))
    if "clip" in tower.lower() and "siglip" not in tower.lower():
        yield f"the vision tower {tower}"
    if quantization := _table(values, "quantization_config"):
        yield f"weights quantized by {quantization.get('quant_method', 'another library')!r} (use --quantized instead)"


def _strings(value: Any) -> list[str]:
    return [str(entry) for entry in value] if isinstance(value, list) else []


def _table(values: dict[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}
