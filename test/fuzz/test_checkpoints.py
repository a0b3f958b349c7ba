"""Checkpoint and adapter directories with damaged descriptions and tensors: they load, or are errors of the project."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
from fuzzing import apply_edits, apply_json_edits, edits, fuzz, json_edits, only_own_errors
from hypothesis import strategies as st
from llava import random_llava, transformers_layout
from peft import LoraConfig, get_peft_model

from mmduet.model import load_model
from mmduet.model.checkpoint import save_checkpoint
from mmduet.model.inspection import inspect_model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of mmduet's, one of LLaVA-OneVision's, and an adapter."""
    root = tmp_path_factory.mktemp("intact")
    tiny = load_model("random:tiny")
    save_checkpoint(root / "mmduet", tiny.network, tiny.tokenizer)
    (root / "llava").mkdir()
    transformers_layout(random_llava(), root / "llava")
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["informative", "relevance", "fc2"])
    get_peft_model(load_model("random:tiny").network, config).save_pretrained(root / "adapter")
    return {path.name: path for path in root.iterdir()}


def damage(path: Path, json_changes: list, byte_changes: list) -> None:
    """Change a JSON file as JSON, any other file (and sometimes JSON) as bytes. Tensors are damaged in their header."""
    if path.suffix == ".json" and json_changes:
        value = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(apply_json_edits(copy.deepcopy(value), json_changes)), encoding="utf-8")
    else:
        path.write_bytes(apply_edits(path.read_bytes(), byte_changes))


def load(kind: str, folder: Path) -> None:
    with only_own_errors():
        inspect_model(folder)
    with only_own_errors():
        if kind == "adapter":
            load_model("random:tiny", adapter=folder)
        else:
            load_model(str(folder))
    if kind == "adapter":
        with only_own_errors():
            load_model("random:tiny", adapters={"a": folder})


def test_checkpoints(folders: dict[str, Path], tmp_path: Path, share: float) -> None:
    def check(case: tuple[str, int, list, list]) -> None:
        kind, number, json_changes, byte_changes = case
        folder = tmp_path / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(folders[kind], folder)
        files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
        damage(files[number % len(files)], json_changes, byte_changes)
        load(kind, folder)

    cases = st.tuples(st.sampled_from(sorted(folders)), st.integers(0, 20), st.just([]) | json_edits(), edits())
    fuzz("checkpoints", share, cases, check, 10)
