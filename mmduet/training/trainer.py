"""A training loop that can be interrupted at any step and resumed with identical results.

The loss of a step is a pure function of the step's number, so a resumed run computes what an uninterrupted run would have.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmduet.errors import OptionError, TrainingError
from mmduet.files import as_option_error, atomic_write
from mmduet.training.losses import Losses
from mmduet.training.optimizer import Optimizer, Schedule

StepLoss = Callable[[int], Losses]
Report = Callable[[int, dict[str, float]], None]


class Trainer:
    """Minimises ``loss_at(step)`` over the trainable parameters of ``modules``; saves its state in ``state.pt``.

    The modules may be on any device, and a state may be resumed on another one.
    """

    def __init__(
        self,
        modules: nn.Module,
        loss_at: StepLoss,
        schedule: Schedule,
        run_directory: Path,
        *,
        muon_parameters: Sequence[nn.Parameter] = (),
        save_every: int = 200,
        recipe: str = "",
    ) -> None:
        """Create a trainer whose state is kept in ``run_directory``.

        ``muon_parameters`` are the matrices that Muon trains, if the schedule has it. ``recipe`` identifies what else the steps
        depend on; a run directory of another recipe or schedule is rejected.
        """
        self.modules, self.loss_at, self.schedule = modules, loss_at, schedule
        self._state_path = run_directory / "state.pt"
        self.save_every = save_every
        self.optimizer = Optimizer(modules, schedule, muon_parameters)
        self.step = 0
        self._recipe = f"{schedule.fingerprint} {recipe}".strip()

    def train(self, report: Report) -> None:
        """Train up to the last step, resuming from a saved state. Calls ``report(step, metrics)`` after every step."""
        self._resume()
        while self.step < self.schedule.steps:
            started = time.perf_counter()
            metrics = self._train_step()
            self.step += 1
            if self.step % self.save_every == 0 or self.step == self.schedule.steps:
                self._save()
            report(self.step, {**metrics, "seconds": time.perf_counter() - started})

    def _train_step(self) -> dict[str, float]:
        losses = self.loss_at(self.step)
        if not torch.isfinite(losses.total):
            raise TrainingError(
                f"the loss of step {self.step} is {float(losses.total.detach())} ({losses.components}); lower the learning rate"
            )
        losses.total.backward()  # type: ignore[no-untyped-call]
        norm = self.optimizer.step(self.step)
        return {**losses.components, "norm": norm}

    def _save(self) -> None:
        state = {
            "recipe": self._recipe,
            "step": self.step,
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with as_option_error(self._state_path):
            self._state_path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._state_path) as part:
            try:
                torch.save(state, part)
            except RuntimeError as error:  # how torch reports that a file cannot be written
                raise OptionError(f"{self._state_path} cannot be written; check that the disk is not full") from error

    def _resume(self) -> None:
        path = self._state_path
        if not path.exists():
            return
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state.get("recipe") != self._recipe:
            raise TrainingError(
                f"{path} belongs to another recipe ({state.get('recipe')}), not to {self._recipe}; use an empty run directory"
            )
        try:
            self.modules.load_state_dict(state["modules"])
        except RuntimeError as error:
            raise TrainingError(f"{path} belongs to another model: {error}; use an empty run directory") from error
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
