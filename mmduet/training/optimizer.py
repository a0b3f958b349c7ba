"""The optimizers of a training run behind one face: AdamW, and Muon for the hidden matrices where a run asks for it.

Muon (Jordan et al. 2024, as in PyTorch) makes every update of a matrix orthogonal; its rate is scaled so that it means what it
means to AdamW (Liu et al. 2025).
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
    """Linear warm-up and cosine decay. ``lr`` is AdamW's peak, ``muon`` that of the hidden matrices, None: AdamW for all."""

    steps: int
    lr: float
    muon: float | None = None
    warmup: float = 0.05  # share of the steps
    weight_decay: float = 0.05
    clip: float = 1.0  # largest gradient norm
    floor: float = 0.02  # share of the peak at the end

    @property
    def fingerprint(self) -> str:
        """The text stored in a run's state file; its format is fixed."""
        return (
            f"Schedule(steps={self.steps!r}, lr={self.lr!r}, muon={self.muon!r}, warmup={self.warmup!r}, "
            f"weight_decay={self.weight_decay!r}, clip={self.clip!r}, floor={self.floor!r})"
        )

    def lr_factor(self, step: int) -> float:
        """What share of the peak the learning rates have at ``step``."""
        warm = max(1, round(self.steps * self.warmup))
        if step < warm:
            return (step + 1) / warm
        done = (step - warm) / max(1, self.steps - warm)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done))


class Optimizer:
    """Steps every trainable parameter of ``modules``; ``hidden`` are those that Muon takes. Vectors do not decay."""

    def __init__(self, modules: nn.Module, schedule: Schedule, hidden: Sequence[nn.Parameter] = ()) -> None:
        self.schedule = schedule
        self.parameters = [p for p in modules.parameters() if p.requires_grad]
        taken = {id(p) for p in hidden} if schedule.muon is not None else set()
        rest = [p for p in self.parameters if id(p) not in taken]
        groups = [
            {"params": [p for p in rest if p.dim() > 1], "weight_decay": schedule.weight_decay},
            {"params": [p for p in rest if p.dim() <= 1], "weight_decay": 0.0},
        ]
        self._parts: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.AdamW(groups, lr=schedule.lr, betas=(0.9, 0.95)), schedule.lr)
        ]
        if schedule.muon is not None and hidden:
            muon = torch.optim.Muon(
                list(hidden), lr=schedule.muon, weight_decay=schedule.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
            self._parts.append((muon, schedule.muon))

    def step(self, step: int) -> float:
        """Apply the gradients at the rates of ``step``, clipped, and clear them. Returns their norm before clipping."""
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.schedule.clip))
        for part, peak in self._parts:
            for group in part.param_groups:
                group["lr"] = peak * self.schedule.lr_factor(step)
            part.step()
            part.zero_grad(set_to_none=True)
        return norm

    def state_dict(self) -> list[dict[str, Any]]:
        """Everything that the next step depends on."""
        return [part.state_dict() for part, _ in self._parts]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """The inverse of ``state_dict``."""
        for (part, _), state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)
