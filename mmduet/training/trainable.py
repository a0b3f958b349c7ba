"""Prepare a loaded model for training: what a recipe's method trains is float32 and requires gradients, nothing else does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmduet.errors import OptionError, TrainingError
from mmduet.model.adapter_files import LoraSettings
from mmduet.model.config import DuetConfig
from mmduet.model.loading import LoadedModel
from mmduet.model.network import HEADS, DuetModel
from mmduet.model.quantize import quantize
from mmduet.text import did_you_mean
from mmduet.training.branch_attention import use_branch_attention
from mmduet.training.recipe import LowRank, Recipe

#: Linear layers of the language model, and the part of a decoder layer that holds each.
LINEAR_LAYERS = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), "self_attn"),
    **dict.fromkeys(("gate_proj", "up_proj", "down_proj"), "mlp"),
}
LORA_PART = ".default"  # what PEFT adds to the names of an adapter's tensors in a network
HEAD_STD = 0.02
MAX_LISTED = 8


@dataclass(frozen=True)
class TrainableModel:
    """A network whose trained parameters are exactly those that the recipe's method names.

    Attributes:
        network: The network; LoRA layers stand in place of linear layers that are adapted.
        loaded: What was loaded. Its network is this one, so an engine of it scores with the weights of the moment. Call
            ``train`` after using one.
        recipe: What it was prepared for.
        dtype: Number type that the weights had when they were loaded.
    """

    network: DuetModel
    loaded: LoadedModel
    recipe: Recipe
    dtype: torch.dtype

    def named_trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the trained parameters by their names in the network."""
        return ((name, p) for name, p in self.network.named_parameters() if p.requires_grad)

    def trained_state(self) -> dict[str, Tensor]:
        """Return the trained weights by their names in the network. They are not copied."""
        return {name: parameter.detach() for name, parameter in self.named_trained()}

    @torch.no_grad()
    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Set the trained weights to those of ``trained_state``. Raises ``TrainingError`` for other names or shapes."""
        own = dict(self.named_trained())
        _check_names("the saved state", set(state), set(own))
        for name, parameter in own.items():
            if parameter.shape != state[name].shape:
                raise TrainingError(
                    f"the saved state has {name} of shape {tuple(state[name].shape)}, expected {tuple(parameter.shape)}; "
                    "use the recipe that it was saved with"
                )
            parameter.copy_(state[name])

    def train(self) -> None:
        """Set the mode of training: dropout and gradient checkpointing. A frozen tower stays in the mode of inference."""
        self.network.train()
        self.network.tower.train(_trains_tower(self.recipe))

    def eval(self) -> None:
        """Set the mode of inference."""
        self.network.eval()


def prepare_model(loaded: LoadedModel, recipe: Recipe) -> TrainableModel:
    """Change the network of ``loaded`` in place so that it can be trained as ``recipe.method`` defines.

    Raises ``OptionError`` for an unknown target, for a missing library, or for frozen weights that ``recipe.precision`` cannot
    compute with, and ``TrainingError`` for a model that cannot be trained so.
    """
    network, dtype = loaded.network, loaded.network.dtype
    _check_trainable(loaded, recipe)
    network.requires_grad_(False)
    _initialise_heads(network, recipe)
    if recipe.method.kind == "qlora":
        _quantize_to_nf4(network)
    if isinstance(recipe.method, LowRank):
        _add_lora(network, recipe.method, recipe.seed)
    _select_parameters(network, recipe)
    use_branch_attention(network.lm)
    if recipe.gradient_checkpointing:
        for part in (network.lm, *([network.tower.siglip] if _trains_tower(recipe) else [])):
            part.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    trainable = TrainableModel(network, loaded, recipe, dtype)
    check_trained_parameters(network, expected_trainable(recipe, network))
    trainable.train()
    return trainable


def expected_trainable(recipe: Recipe, model: DuetModel) -> set[str]:
    """Return the names of the parameters that ``recipe.method`` trains, from the description of ``model`` alone.

    For LoRA these are names in a network that has the LoRA layers.
    """
    method = recipe.method
    if method.kind == "full":
        tied = {"lm_head.weight"} if model.config.text.tied else set()
        frozen = () if method.train_tower else ("tower.",)
        names = (name for name, _ in model.named_parameters() if not name.startswith(frozen))
        return {*names} - tied
    if method.kind == "heads":
        return {f"heads.{name}.weight" for name in HEADS}
    layers = lora_paths(method.targets, model.config)
    lora = {f"{path}.lora_{side}{LORA_PART}.weight" for path in layers for side in "AB"}
    return lora | set(_parameters_of(model, method.saved_modules))


def lora_paths(targets: Iterable[str], config: DuetConfig) -> list[str]:
    """Return the module paths of a language model's linear layers with the names ``targets``.

    Raises ``OptionError`` for an unknown name.
    """
    paths = []
    for target in targets:
        if target not in LINEAR_LAYERS:
            raise OptionError(
                f"method.targets has {target!r}, which is not a linear layer of the language model"
                f"{did_you_mean(target, LINEAR_LAYERS)} known: {', '.join(LINEAR_LAYERS)}"
            )
        paths += [f"lm.layers.{index}.{LINEAR_LAYERS[target]}.{target}" for index in range(config.text.layers)]
    return paths


def check_trained_parameters(model: DuetModel, expected: set[str]) -> None:
    """Raise ``TrainingError`` unless exactly the ``expected`` parameters require gradients and all of them are float32."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    _check_names("the network", set(trained), expected)
    wrong = [f"{name} ({p.dtype})" for name, p in trained.items() if p.dtype != torch.float32]
    if wrong:
        raise TrainingError(f"trained parameters must be float32, got {_list(wrong)}; prepare the model again")


def _check_names(what: str, found: set[str], expected: set[str]) -> None:
    parts = [f"lacks {_list(sorted(expected - found))}"] if expected - found else []
    parts += [f"also has {_list(sorted(found - expected))}"] if found - expected else []
    if parts:
        raise TrainingError(
            f"the trained parameters of {what} are not those of the recipe: it {' and '.join(parts)}; "
            "use another method or model"
        )


def _list(names: list[str]) -> str:
    more = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def _check_trainable(loaded: LoadedModel, recipe: Recipe) -> None:
    method, source = recipe.method, loaded.source
    if loaded.adapters is not None:
        raise TrainingError("the model has separate adapters; load it without them")
    if method.kind != "full" and source is not None and source.adapter is not None:
        raise TrainingError(
            f"{recipe.model} is an adapter, on which no other adapter can be based; write the merged model with "
            "`mmduet convert` and use that"
        )
    if recipe.precision == "float32" and loaded.network.dtype != torch.float32:
        raise OptionError(
            f"precision float32 cannot be computed with weights in {str(loaded.network.dtype).removeprefix('torch.')}; "
            "set dtype to float32, or precision to bfloat16"
        )
    if isinstance(method, LowRank) and "heads" not in method.saved_modules and _lacks_heads(loaded.network):
        raise TrainingError(
            f"{recipe.model} has no heads, and the recipe trains none; add heads to method.saved_modules"
        )


def _lacks_heads(network: DuetModel) -> bool:
    return any(bool(parameter.isnan().any()) for parameter in network.heads.parameters())


@torch.no_grad()
def _initialise_heads(network: DuetModel, recipe: Recipe) -> None:
    """Give the heads new weights if the recipe resets them or the base has none."""
    if _lacks_heads(network) or (recipe.method.kind == "heads" and recipe.method.reset):
        generator = torch.Generator().manual_seed(recipe.seed)
        for parameter in network.heads.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * HEAD_STD)


def _quantize_to_nf4(network: DuetModel) -> None:
    """Quantise the language model.

    On CPUs with AVX512-BF16, bitsandbytes rearranges the weights in the first forward pass without gradients, after which they
    cannot be trained with. This is turned off.
    """
    quantize(network, "nf4")
    for module in network.lm.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _add_lora(network: DuetModel, method: LowRank, seed: int) -> None:
    """Put PEFT's LoRA layers in place of the targets, with initial weights that depend on ``seed`` only."""
    lora_paths(method.targets, network.config)  # PEFT ignores unknown names beside known ones
    try:
        from peft import LoraConfig, inject_adapter_in_model  # takes 6 to 12 seconds
    except ImportError:
        raise OptionError("training an adapter needs PEFT; run: pip install 'mmduet[train]'") from None
    settings = lora_settings(method)
    alpha: Any = settings.alpha  # annotated as an integer there, but any number is right
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.targets,
    )
    devices = [network.device] if network.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, network)


def lora_settings(method: LowRank) -> LoraSettings:
    """Return the rank and scale of the LoRA layers, and a pattern of their module paths."""
    pattern = rf"lm\.layers\.\d+\.\w+\.({'|'.join(method.targets)})"
    return LoraSettings(method.rank, method.alpha, method.dropout, pattern)


def _select_parameters(network: DuetModel, recipe: Recipe) -> None:
    """Make the parameters that the method trains float32, and let them require gradients."""
    network.requires_grad_(False)
    method = recipe.method
    if method.kind == "full":
        parts: list[nn.Module] = [network.projector, network.lm, network.lm_head, network.heads]
        parts += [network.tower] if method.train_tower else []
    elif method.kind == "heads":
        parts = [network.heads]
    else:
        parts = [network.get_submodule(name) for name in method.saved_modules]
        _require_gradients(p for name, p in network.lm.named_parameters() if ".lora_" in name)
    for part in parts:
        _require_gradients(part.parameters())


def _require_gradients(parameters: Iterable[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.data = parameter.data.float()
        parameter.requires_grad_()


def _parameters_of(model: DuetModel, parts: Iterable[str]) -> Iterator[str]:
    for part in parts:
        yield from (f"{part}.{name}" for name, _ in model.get_submodule(part).named_parameters())


def _trains_tower(recipe: Recipe) -> bool:
    return recipe.method.kind == "full" and recipe.method.train_tower
