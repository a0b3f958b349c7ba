"""Save what was trained: an adapter or a checkpoint, with a manifest of its base, its settings and its recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mmduet.duet import SYSTEM_PROMPT
from mmduet.model.adapter_files import Base, save_adapter
from mmduet.model.checkpoint import save_checkpoint
from mmduet.model.config import DuetConfig, Recommended
from mmduet.model.network import HEADS
from mmduet.training.recipe import LowRank, Recipe
from mmduet.training.trainable import LORA_PART, TrainableModel, lora_settings

#: Paths of the modules that ``saved_modules`` name. PEFT does not store a container such as ``heads`` as a whole.
SAVED_MODULES = {"projector": ("projector",), "heads": tuple(f"heads.{name}" for name in HEADS)}


def recommended_for(config: DuetConfig, recipe: Recipe) -> Recommended:
    """Return the settings that a model trained with ``recipe`` should run with: those of its base, at the recipe's rate."""
    sampling, own = recipe.sampling, config.recommended
    return replace(
        own,
        fps=own.fps if sampling.fps is None else sampling.fps,
        window=own.window if sampling.window is None else sampling.window,
        query=own.query or sampling.instructions[0],
    )


def save_trained(
    directory: str | Path, trainable: TrainableModel, recommended: Recommended, extra: dict[str, Any] | None = None
) -> Path:
    """Write what was trained: a checkpoint for method ``full``, otherwise an adapter; ``load_model`` reads either.

    An existing directory is replaced. ``extra`` is added to the manifest's section ``training``. Raises ``OptionError`` if it
    cannot be written.
    """
    recipe = trainable.recipe
    base = Base.of(recipe.model, trainable.loaded.source)
    sections = {
        "prompts": {"system": SYSTEM_PROMPT, "query": recommended.query},
        "training": {"recipe": recipe.model_dump(mode="json"), **(extra or {})},
    }
    if recipe.method.kind == "full":
        return _save_full(Path(directory), trainable, recommended, {"base": base.to_dict(), **sections})
    lora = recipe.method if isinstance(recipe.method, LowRank) else None
    modules = lora.saved_modules if lora else ("heads",)
    return save_adapter(
        directory,
        {name.replace(LORA_PART, ""): tensor for name, tensor in trainable.trained_state().items()},
        base,
        recommended,
        lora=lora_settings(lora) if lora else None,
        saved_modules=[path for name in modules for path in SAVED_MODULES[name]],
        extra=sections,
    )


def _save_full(directory: Path, trainable: TrainableModel, recommended: Recommended, extra: dict[str, Any]) -> Path:
    """Write a checkpoint in the number type of the base. It is of no domain that the base's manifest describes."""
    network = trainable.network
    previous = network.config
    network.config = replace(previous, recommended=recommended, domain=None)
    try:
        return save_checkpoint(directory, network, trainable.loaded.tokenizer, extra, dtype=trainable.dtype)
    finally:
        network.config = previous
