"""A training loop that can be interrupted at any step and resumed with identical results.

A step is a pure function of its number, so a resumed run computes what an uninterrupted one would have.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmduet.errors import TrainingError
from mmduet.training.losses import Losses
from mmduet.training.optimizer import Optimizer, Schedule

StepLoss = Callable[[int], Losses]
Report = Callable[[int, dict[str, float]], None]


class Trainer:
    """Drives ``loss_at(step)`` down over the trainable parameters of ``modules``; state lives in ``run / state.pt``."""

    def __init__(
        self,
        modules: nn.Module,
        loss_at: StepLoss,
        schedule: Schedule,
        run: Path,
        *,
        hidden: Sequence[nn.Parameter] = (),
        save_every: int = 200,
        recipe: str = "",
    ) -> None:
        """``hidden``: the matrices for Muon, where the schedule has it.

        ``recipe`` says what else the steps depend on; a run directory of another recipe or schedule is refused.
        """
        self.modules, self.loss_at, self.schedule, self.run = modules, loss_at, schedule, run
        self.save_every = save_every
        self.optimizer = Optimizer(modules, schedule, hidden)
        self.step = 0
        self._recipe = f"{schedule.fingerprint} {recipe}".strip()

    def train(self, report: Report) -> None:
        """Run to the last step, from where the run directory left off. ``report(step, figures)`` after every step."""
        self._resume()
        while self.step < self.schedule.steps:
            began = time.perf_counter()
            figures = self._one_step()
            self.step += 1
            if self.step % self.save_every == 0 or self.step == self.schedule.steps:
                self._save()
            report(self.step, {**figures, "seconds": time.perf_counter() - began})

    def _one_step(self) -> dict[str, float]:
        losses = self.loss_at(self.step)
        if not torch.isfinite(losses.total):
            raise TrainingError(
                f"the loss of step {self.step} is {float(losses.total.detach())} ({losses.components}); lower the learning rate"
            )
        losses.total.backward()  # type: ignore[no-untyped-call]
        norm = self.optimizer.step(self.step)
        return {**losses.components, "norm": norm}

    def _save(self) -> None:
        self.run.mkdir(parents=True, exist_ok=True)
        state = {
            "recipe": self._recipe,
            "step": self.step,
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        temporary = self.run / "state.tmp"
        torch.save(state, temporary)
        temporary.replace(self.run / "state.pt")

    def _resume(self) -> None:
        path = self.run / "state.pt"
        if not path.exists():
            return
        state: dict[str, Any] = torch.load(path, weights_only=True)
        if state.get("recipe") != self._recipe:
            raise TrainingError(
                f"{path} was made by another recipe ({state.get('recipe')}), not by {self._recipe}; use an empty run directory"
            )
        try:
            self.modules.load_state_dict(state["modules"])
        except RuntimeError as error:
            raise TrainingError(f"{path} belongs to another model: {error}; use an empty run directory") from error
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
