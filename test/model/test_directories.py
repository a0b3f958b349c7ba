"""What directories hold besides a model, or instead of one: other models, hidden files, byte order marks."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

import pytest
import torch
from llava import PLAIN, heads, original_layout, random_llava
from safetensors.torch import save_file

from mmduet.errors import CheckpointError
from mmduet.model import load_model
from mmduet.model.checkpoint import save_checkpoint
from mmduet.model.inspection import fingerprint, inspect_model
from mmduet.model.presets import byte_tokenizer, random_config, random_model
from mmduet.model.source import FoundFiles

OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "Qwen2.5-VL": (
        {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl", "hidden_size": 3584},
        r"holds Qwen2\.5-VL \(Qwen2_5_VLForConditionalGeneration, model_type 'qwen2_5_vl'\)",
    ),
    "Qwen3-VL": (
        {
            "architectures": ["Qwen3VLForConditionalGeneration"],
            "model_type": "qwen3_vl",
            "text_config": {"model_type": "qwen3_vl_text"},
            "vision_config": {"model_type": "qwen3_vl"},
        },
        r"holds Qwen3-VL \(Qwen3VLForConditionalGeneration, model_type 'qwen3_vl'\), with text_config of model_type 'qwen3",
    ),
    "InternVL": (
        {"architectures": ["InternVLChatModel"], "model_type": "internvl_chat"},
        r"holds InternVL \(InternVLChat",
    ),
    "a language model": ({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}, "Qwen2ForCausalLM"),
    "LLaVA-1.5": (
        {
            "architectures": ["LlavaForConditionalGeneration"],
            "model_type": "llava",
            "text_config": {"model_type": "llama"},
            "vision_config": {"model_type": "clip_vision_model"},
        },
        r"LlavaForConditionalGeneration.*text_config of model_type 'llama'.*vision_config of model_type 'clip_vision_model'",
    ),
    "LLaVA-NeXT with Llama": (
        {"architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava"},
        "LlavaLlamaForCausalLM",
    ),
    "LLaVA-OneVision with CLIP": (
        {"architectures": ["LlavaQwenForCausalLM"], "mm_vision_tower": "openai/clip-vit-large-patch14-336"},
        "the vision tower openai/clip-vit-large-patch14-336",
    ),
    "a model type alone": ({"model_type": "whisper"}, "model_type 'whisper'"),
    "quantized": (
        {"architectures": ["LlavaQwenForCausalLM"], "quantization_config": {"quant_method": "awq"}},
        r"weights quantized by 'awq' \(use --quantized instead\)",
    ),
    "odd values": ({"architectures": "x", "model_type": ["y"], "text_config": 3}, r"model_type \['y'\]"),
}


@pytest.mark.parametrize(("config", "words"), OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("weights", ["safetensors", "pickle", "none"])
def test_another_kind_of_model_is_named_before_its_weights_are_looked_at(
    config: dict[str, Any], words: str, weights: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    if weights == "safetensors":
        save_file({"visual.patch_embed.proj.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    elif weights == "pickle":
        torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    for attempt in (inspect_model, load_model):
        with pytest.raises(CheckpointError, match=words) as caught:
            attempt(str(tmp_path))
        assert "Supported are LLaVA-OneVision models" in str(caught.value)
        assert "downloading them again does not help" in str(caught.value)


def test_published_descriptions_are_supported(tmp_path: Path) -> None:
    base = original_layout(random_llava(), tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    for names in (
        {"architectures": ["LlavaQwenForCausalLM"], "mm_vision_tower": "google/siglip-so400m-patch14-384"},
        {"architectures": ["VideoHeadLiveLlavaQwenForCausalLM"], "model_type": "llava_qwen"},
        {"architectures": None, "model_type": None},
    ):
        (base / "config.json").write_text(json.dumps({**config, **names}))
        assert inspect_model(base, heads(tmp_path / "heads", **PLAIN)).problem is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model-Q4_K_M.gguf", "GGUF files, which are not supported"),
        ("model_index.json", "a Diffusers pipeline"),
        ("snapshots/0123/config.json", r"a folder of the Hugging Face cache; give the name OWNER/NAME"),
        ("seven-b/config.json", "the folders in it have one"),
        ("readme.txt", "check the path"),
        ("._model-Q4_K_M.gguf", "check the path"),
        (".ipynb_checkpoints/config.json", "check the path"),
    ],
)
def test_a_directory_without_a_description_says_what_it_seems_to_be(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=f"is not a checkpoint: it contains neither .*{words}"):
        inspect_model(tmp_path)


def add_hidden_files(root: Path) -> None:
    """Add what macOS and notebooks leave in folders: files whose names look right and whose content is something else."""
    for file in list(root.iterdir()):
        (root / f"._{file.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    (root / "._pytorch_model.bin").write_bytes(b"\0\5\x16\7")
    (root / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (root / ".ipynb_checkpoints").mkdir()
    (root / ".ipynb_checkpoints" / "config-checkpoint.json").write_text("{}")
    (root / "copies.safetensors").mkdir()


def add_byte_order_marks(root: Path) -> None:
    for file in [*root.glob("*.json"), *root.glob("*.txt")]:
        file.write_bytes(BOM_UTF8 + file.read_bytes())


@pytest.mark.parametrize("change", [add_hidden_files, add_byte_order_marks])
def test_hidden_files_and_byte_order_marks_make_no_difference(change: Any, tmp_path: Path) -> None:
    base, adapter = original_layout(random_llava(), tmp_path / "base"), heads(tmp_path / "heads", **PLAIN)
    own = save_checkpoint(tmp_path / "own", random_model(random_config("tiny")), byte_tokenizer())
    expected = load_model(str(base), adapter=adapter).network.state_dict()
    before = fingerprint(FoundFiles(own))
    for folder in (base, adapter, own):
        change(folder)
    found = load_model(str(base), adapter=adapter).network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert inspect_model(base, adapter).problem is None
    assert inspect_model(adapter).kind == "adapter"
    assert inspect_model(own).problem is None
    assert load_model(str(own)).config.text.vocab_size == 512
    if change is add_hidden_files:
        assert fingerprint(FoundFiles(own)) == before


def test_a_byte_order_mark_in_a_vocabulary_is_accepted(tmp_path: Path) -> None:
    """A vocabulary and merges are converted by Transformers, which does not accept the mark."""
    base, adapter = original_layout(random_llava(), tmp_path / "base"), heads(tmp_path / "heads", **PLAIN)
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    vocabulary = {token: k for token, k in tokenizer["model"]["vocab"].items() if token not in special}
    expected = load_model(str(base), adapter=adapter).tokenizer.encode("Abc<|im_end|>")
    (base / "tokenizer.json").unlink()
    (base / "vocab.json").write_text(json.dumps(vocabulary))
    (base / "merges.txt").write_text("#version: 0.2\n")
    added = {str(k): {"content": token, "special": True} for token, k in special.items()}
    (base / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added})
    )
    for change in (lambda _: None, add_byte_order_marks):
        change(base)
        assert load_model(str(base), adapter=adapter).tokenizer.encode("Abc<|im_end|>") == expected
