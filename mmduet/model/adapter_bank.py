"""Several adapters over one base, kept apart: each is applied to the rows of the sessions that chose it, all in one step.

LoRA matrices stand beside the base's linear layers and add their share to their own rows; a projector or heads that an
adapter holds whole are used in the base's place. Which rows are whose comes in with every forward, through ``routed``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mmduet.errors import CheckpointError, EngineError, OptionError
from mmduet.model.adapter import Adapter, check_adapter
from mmduet.model.network import DuetModel

Owner = str | None  # an adapter's name, or None for the base alone
Rows = dict[str, Tensor]  # adapter to the numbers of its rows


class AdaptedLinear(nn.Module):
    """A linear layer of the base and, for each adapter that changes it, A [r, in] and scale * B [out, r]."""

    def __init__(self, base: nn.Linear, routing: Rows) -> None:
        super().__init__()
        self.base, self._routing = base, routing
        self._pairs: dict[str, tuple[Tensor, Tensor]] = {}

    def add(self, name: str, down: Tensor, up: Tensor) -> None:
        """Let adapter ``name`` add its share from now on."""
        self._pairs[name] = (down, up)

    def forward(self, rows: Tensor) -> Tensor:
        """[1, N, in] to [1, N, out]."""
        out: Tensor = self.base(rows)
        for name, own in self._routing.items():
            if name in self._pairs:
                down, up = self._pairs[name]
                out[:, own] += rows[:, own] @ down.T @ up.T
        return out


class AdapterBank:
    """The adapters of one model, by name. Making it changes the model: its linear layers become ``AdaptedLinear``.

    A model with adapters serves one engine: whose rows are whose is known to its layers, a step at a time.
    """

    def __init__(self, model: DuetModel, adapters: Mapping[str, Adapter]) -> None:
        """Raises ``CheckpointError`` for an adapter that does not fit, or changes what cannot be kept apart."""
        self._model, self._routing = model, Rows()
        for adapter in adapters.values():  # all of them first: then nothing is changed if one does not fit
            check_adapter(adapter, model)
            check_not_shared(adapter)
        like = model.lm_head.weight  # the base's own matrices may be quantised
        for name, adapter in adapters.items():
            for path, (down, up) in adapter.pairs.items():
                self._adapted(path).add(name, down.to(like), (adapter.scale * up.float()).to(like))
        self._whole = {name: {k: v.to(like) for k, v in adapter.whole.items()} for name, adapter in adapters.items()}
        parts = (*model.projector.parameters(), *model.heads.parameters())
        self._needed = any(bool(parameter.isnan().all()) for parameter in parts)  # as ``fill`` leaves what is not there

    @property
    def names(self) -> tuple[str, ...]:
        """What a session may choose."""
        return tuple(self._whole)

    def check(self, owner: Owner) -> None:
        """Raise ``OptionError`` for an adapter that is not here, and for none where the base is not whole."""
        if owner is None and self._needed:
            raise OptionError(
                f"the base has no heads or no projector of its own; choose an adapter: {', '.join(self.names)}"
            )
        if owner is not None and owner not in self._whole:
            raise OptionError(f"there is no adapter {owner!r}; loaded: {', '.join(self.names) or 'none'}")

    @contextmanager
    def route_rows(self, owners: Sequence[Owner], counts: Sequence[int]) -> Iterator[None]:
        """For one packed forward: ``counts[i]`` rows belong to ``owners[i]``, in order.

        Raises ``EngineError`` while another engine is in its own.
        """
        if self._routing:
            raise EngineError("two engines step over one model that keeps adapters apart; load the model once for each")
        begin, rows = 0, dict[str, list[Tensor]]()
        for owner, count in zip(owners, counts, strict=True):
            if owner is not None:
                rows.setdefault(owner, []).append(torch.arange(begin, begin + count, device=self._model.device))
            begin += count
        self._routing.update({name: torch.cat(parts) for name, parts in rows.items()})
        try:
            yield
        finally:
            self._routing.clear()

    def project(self, features: Tensor, owners: Sequence[Owner]) -> Tensor:
        """Patch features [B, P, V] to visual tokens [B, K, D], each picture by its owner's projector."""
        return self._by_owner("projector", features, owners)

    def score(self, hidden: Tensor, owners: Sequence[Owner]) -> Tensor:
        """Final-norm hidden states [N, D] to probabilities [N, 2], each row by its owner's heads."""
        return self._by_owner("heads", hidden, owners)

    def _by_owner(self, part: str, inputs: Tensor, owners: Sequence[Owner]) -> Tensor:
        """``part`` of the model over ``inputs`` [N, ...], each by its owner's weights."""
        if len(set(owners)) == 1:
            return self._project_part(owners[0], part, inputs)
        outputs = dict[int, Tensor]()
        for owner in dict.fromkeys(owners):
            own = [i for i, other in enumerate(owners) if other == owner]
            outputs.update(zip(own, self._project_part(owner, part, inputs[own]), strict=True))
        return torch.stack([outputs[i] for i in range(len(owners))])

    def _project_part(self, owner: Owner, part: str, inputs: Tensor) -> Tensor:
        """``part`` of the model by one owner's weights."""
        module, whole = self._model.get_submodule(part), {} if owner is None else self._whole[owner]
        changed = {k.removeprefix(f"{part}."): v for k, v in whole.items() if k.startswith(f"{part}.")}
        output: Tensor = functional_call(module, changed, (inputs,)) if changed else module(inputs)
        return output

    def _adapted(self, path: str) -> AdaptedLinear:
        parent, _, leaf = path.rpartition(".")
        owner = self._model.get_submodule(parent)
        layer = getattr(owner, leaf)
        if isinstance(layer, AdaptedLinear):
            return layer
        adapted = AdaptedLinear(layer, self._routing)
        setattr(owner, leaf, adapted)
        return adapted


def check_not_shared(adapter: Adapter) -> None:
    """Raise ``CheckpointError`` where an adapter changes more than the LM's layers, the projector and the heads."""
    odd = [path for path in adapter.pairs if not path.startswith("lm.layers.")]
    odd += [name for name in adapter.whole if not name.startswith(("projector.", "heads."))]
    if odd:
        raise CheckpointError(
            f"adapter {adapter.path} changes {', '.join(sorted(odd))}, which all share; merge it instead"
        )
