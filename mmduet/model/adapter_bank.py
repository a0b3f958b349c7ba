"""Several adapters on one base model, kept separate: one packed step serves sessions with different adapters.

LoRA matrices and biases stand beside the linear layers of the base and add their output to the rows of their own sessions. A
projector or heads that an adapter holds in full replace those of the base. ``AdapterBank.route_rows`` assigns the rows of one
forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.func import functional_call

from mmduet.errors import CheckpointError, EngineError, OptionError
from mmduet.model.adapted_linear import AdaptedLinear, Rows
from mmduet.model.adapter import Adapter, fit_adapter
from mmduet.model.network import DuetModel
from mmduet.text import did_you_mean

AdapterName = str | None  # None: the base alone


class AdapterBank:
    """The adapters of one model, by name. Creating it changes the model: its linear layers become ``AdaptedLinear``.

    Only one engine may use a model with adapters, because its layers hold the assignment of rows during a step.
    """

    def __init__(self, model: DuetModel, adapters: Mapping[str, Adapter]) -> None:
        """Raise ``CheckpointError`` for an adapter that does not fit or that changes shared parts of the model."""
        self._model, self._routing = model, Rows()
        adapters = {name: fit_adapter(adapter, model) for name, adapter in adapters.items()}  # before it is changed
        for adapter in adapters.values():
            check_changes_no_shared_part(adapter)
        like = model.lm_head.weight  # for type and device; the linear layers may be quantised
        for name, adapter in adapters.items():
            for path, pair in adapter.lora_pairs.items():
                self._adapt_layer(path).add(name, pair.down.to(like), (pair.scale * pair.up.float()).to(like))
            for path, bias in adapter.layer_biases.items():
                self._adapt_layer(path).add_bias(name, bias)
        self._replacements = {
            name: {key: tensor.to(like) for key, tensor in adapter.replacements.items()}
            for name, adapter in adapters.items()
        }
        parameters = (*model.projector.parameters(), *model.heads.parameters())
        self._base_is_incomplete = any(bool(parameter.isnan().all()) for parameter in parameters)  # NaN: not loaded

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters that a session may select."""
        return tuple(self._replacements)

    def check(self, name: AdapterName) -> None:
        """Raise ``OptionError`` for an unknown adapter, and for None if the base cannot be used alone."""
        if name is None and self._base_is_incomplete:
            raise OptionError(
                f"the base model has no heads or no projector of its own; select an adapter: {', '.join(self.names)}"
            )
        if name is not None and name not in self._replacements:
            suggestion = did_you_mean(name, self.names)
            raise OptionError(f"there is no adapter {name!r}{suggestion} loaded: {', '.join(self.names) or 'none'}")

    @contextmanager
    def route_rows(self, names: Sequence[AdapterName], counts: Sequence[int]) -> Iterator[None]:
        """Assign the rows of one packed forward, in order: ``counts[i]`` rows to adapter ``names[i]``.

        Raise ``EngineError`` if another engine is in a step of the same model.
        """
        if self._routing:
            raise EngineError("two engines use one model with separate adapters; load the model once for each")
        begin, rows = 0, dict[str, list[Tensor]]()
        for name, count in zip(names, counts, strict=True):
            if name is not None:
                rows.setdefault(name, []).append(torch.arange(begin, begin + count, device=self._model.device))
            begin += count
        self._routing.update({name: torch.cat(parts) for name, parts in rows.items()})
        try:
            yield
        finally:
            self._routing.clear()

    def project(self, features: Tensor, names: Sequence[AdapterName]) -> Tensor:
        """Project patch features [B, P, V] to visual tokens [B, K, D], frame ``i`` by the projector of ``names[i]``."""
        return self._apply_by_adapter("projector", features, names)

    def score(self, hidden: Tensor, names: Sequence[AdapterName]) -> Tensor:
        """Compute scores [N, 2] from final-norm hidden states [N, D], row ``i`` by the heads of ``names[i]``."""
        return self._apply_by_adapter("heads", hidden, names)

    def _apply_by_adapter(self, part: str, inputs: Tensor, names: Sequence[AdapterName]) -> Tensor:
        """Apply a part of the model to ``inputs`` [N, ...], row ``i`` with the weights of ``names[i]``."""
        if len(set(names)) == 1:
            return self._apply_part(part, inputs, names[0])
        outputs = dict[int, Tensor]()
        for name in dict.fromkeys(names):
            rows = [i for i, other in enumerate(names) if other == name]
            outputs.update(zip(rows, self._apply_part(part, inputs[rows], name), strict=True))
        return torch.stack([outputs[i] for i in range(len(names))])

    def _apply_part(self, part: str, inputs: Tensor, name: AdapterName) -> Tensor:
        """Apply a part of the model with the weights of one adapter.

        In training, float32 projector and heads stand beside frozen parts in bfloat16.
        """
        module, replacements = self._model.get_submodule(part), {} if name is None else self._replacements[name]
        inputs = inputs.to(next(module.parameters()).dtype)
        changed = {k.removeprefix(f"{part}."): v for k, v in replacements.items() if k.startswith(f"{part}.")}
        output: Tensor = functional_call(module, changed, (inputs,)) if changed else module(inputs)
        return output

    def _adapt_layer(self, path: str) -> AdaptedLinear:
        parent_path, _, attribute = path.rpartition(".")
        parent = self._model.get_submodule(parent_path)
        layer = getattr(parent, attribute)
        if isinstance(layer, AdaptedLinear):
            return layer
        adapted = AdaptedLinear(layer, self._routing)
        setattr(parent, attribute, adapted)
        return adapted


def check_changes_no_shared_part(adapter: Adapter) -> None:
    """Raise ``CheckpointError`` if an adapter changes more than the language model's layers, the projector and the heads."""
    shared = [path for path in adapter.lora_pairs if not path.startswith("lm.layers.")]
    own = tuple(f"{path}.bias" for path in adapter.layer_biases)
    shared += [name for name in adapter.replacements if not name.startswith(("projector.", "heads.", *own))]
    if shared:
        raise CheckpointError(
            f"adapter {adapter.path} changes {', '.join(sorted(shared))}, which all sessions share; "
            "merge it into the base model instead"
        )
