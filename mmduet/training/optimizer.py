"""The optimizer of a training run: AdamW, optionally with Muon for hidden weight matrices.

Muon (Jordan et al. 2024, PyTorch's implementation) orthogonalises the updates of a matrix. Its learning rate is scaled to match
the size of AdamW's updates (Liu et al. 2025).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up and cosine decay. ``lr`` is AdamW's peak rate, ``muon_lr`` Muon's; with None, AdamW trains everything."""

    steps: int
    lr: float
    muon_lr: float | None = None
    warmup_share: float = 0.05  # share of the steps
    weight_decay: float = 0.05
    max_grad_norm: float = 1.0
    min_lr_share: float = 0.02  # share of the peak rate at the end

    @property
    def fingerprint(self) -> str:
        """The text that identifies the schedule in a run's state file; its format and names must not change."""
        return (
            f"Schedule(steps={self.steps!r}, lr={self.lr!r}, muon={self.muon_lr!r}, warmup={self.warmup_share!r}, "
            f"weight_decay={self.weight_decay!r}, clip={self.max_grad_norm!r}, floor={self.min_lr_share!r})"
        )

    def lr_factor(self, step: int) -> float:
        """Return the learning rate at ``step`` as a share of the peak."""
        warm = max(1, round(self.steps * self.warmup_share))
        if step < warm:
            return (step + 1) / warm
        progress = (step - warm) / max(1, self.steps - warm)
        return self.min_lr_share + (1 - self.min_lr_share) * 0.5 * (1 + math.cos(math.pi * progress))


class Optimizer:
    """Updates every trainable parameter of ``modules``; Muon trains ``muon_parameters``. Vectors have no weight decay."""

    def __init__(self, modules: nn.Module, schedule: Schedule, muon_parameters: Sequence[nn.Parameter] = ()) -> None:
        self.schedule = schedule
        self.parameters = [p for p in modules.parameters() if p.requires_grad]
        muon_ids = {id(p) for p in muon_parameters} if schedule.muon_lr is not None else set()
        adamw_parameters = [p for p in self.parameters if id(p) not in muon_ids]
        groups = [
            {"params": [p for p in adamw_parameters if p.dim() > 1], "weight_decay": schedule.weight_decay},
            {"params": [p for p in adamw_parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]
        self._optimizers: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.AdamW(groups, lr=schedule.lr, betas=(0.9, 0.95)), schedule.lr)
        ]
        if schedule.muon_lr is not None and muon_parameters:
            muon = torch.optim.Muon(
                list(muon_parameters),
                lr=schedule.muon_lr,
                weight_decay=schedule.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
            self._optimizers.append((muon, schedule.muon_lr))

    def step(self, step: int) -> float:
        """Clip the gradients, apply them with the learning rates of ``step``, clear them, and return their unclipped norm."""
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.schedule.max_grad_norm))
        for optimizer, peak_lr in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak_lr * self.schedule.lr_factor(step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norm

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the state of the optimizers."""
        return [optimizer.state_dict() for optimizer, _ in self._optimizers]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Restore a state that ``state_dict`` returned."""
        for (optimizer, _), state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(state)
