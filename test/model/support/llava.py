"""Small LLaVA-OneVision checkpoints in both layouts, and adapters for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedConfig,
    Qwen2Config,
    SiglipVisionConfig,
)

from mmduet.model.presets import byte_tokenizer

VISION: dict[str, Any] = {
    "image_size": 56, "patch_size": 7, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
    "num_attention_heads": 2,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 4096,
}  # fmt: skip
#: Prefixes of names in Transformers' layout and in the original layout.
ORIGINAL = (
    ("model.language_model.", "model."),
    ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
    ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
    ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
)


def random_llava(tied: bool = False, text: PreTrainedConfig | None = None) -> LlavaOnevisionForConditionalGeneration:
    torch.manual_seed(3)
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**VISION, vision_use_head=False),
        text_config=text or Qwen2Config(**TEXT, rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
        vision_feature_layer=-1,
        image_token_index=299,
        tie_word_embeddings=tied,
    )
    model = LlavaOnevisionForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.15)
    return model


def transformers_layout(model: LlavaOnevisionForConditionalGeneration, root: Path) -> Path:
    model.save_pretrained(root)
    byte_tokenizer().backend.save(str(root / "tokenizer.json"))
    return root


def original_layout(model: LlavaOnevisionForConditionalGeneration, root: Path) -> Path:
    """Save the model in the original layout, in two shards with an index."""
    root.mkdir(parents=True)
    state = {original(name): tensor.clone() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    names = sorted(state)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, inside in shards.items():
        save_file({name: state[name] for name in inside}, root / file)
    index = {"weight_map": {name: file for file, inside in shards.items() for name in inside}}
    (root / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        **TEXT, "rope_theta": 1e6, "rms_norm_eps": 1e-6, "vision_config": {**VISION, "num_hidden_layers": 4},
        "mm_hidden_size": 32, "mm_projector_type": "mlp2x_gelu", "model_type": "llava",
        "tie_word_embeddings": model.config.tie_word_embeddings,
    }  # fmt: skip
    (root / "config.json").write_text(json.dumps(config))
    byte_tokenizer().backend.save(str(root / "tokenizer.json"))
    return root


def original(name: str) -> str:
    for theirs, plain in ORIGINAL:
        if name.startswith(theirs):
            name = plain + name.removeprefix(theirs)
            break
    return name.replace("vision_model.vision_model.", "vision_model.")


def heads(root: Path, base: Path | str | None = None, **names: str) -> Path:
    """Save an adapter of ``base`` with heads only; the values of ``names`` are their names in its file."""
    root.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "base_model_name_or_path": None if base is None else str(base),
    }
    (root / "adapter_config.json").write_text(json.dumps(config))
    tensors = {name: torch.full((2, 48), 0.1 * (k + 1)) for k, name in enumerate(names.values())}
    for k, tensor in enumerate(tensors.values()):
        tensor[k] *= -1
    save_file(tensors, root / "adapter_model.safetensors")
    return root


def published(root: Path) -> dict[str, Path]:
    """Save a small base and an adapter of it in the layout and under the names in which MMDuet is published."""
    base_name = "lmms-lab/llava-onevision-qwen2-7b-ov"
    base, duet = original_layout(random_llava(), root / "base"), heads(root / "duet", base_name, **PLAIN)
    return {base_name: base, "wangyueqian/MMDuet": duet}


PLAIN = {
    "informative": "base_model.model.informative_head.weight",
    "relevance": "base_model.model.relevance_head.weight",
}
SAVED = {
    "informative": "base_model.model.response_head.modules_to_save.default.weight",
    "relevance": "base_model.model.related_head.modules_to_save.default.weight",
}
