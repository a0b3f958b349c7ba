"""What a training run reports: metrics of every step, statistics of the heads, validation, and when it stops early."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch

from mmduet.training.dataset import BadSample
from mmduet.training.progress_metrics import HeadStatistics
from mmduet.training.recipe import Recipe
from mmduet.training.run_directory import MetricsLog
from mmduet.training.training_module import LABELS, loss_weights

VALIDATION = "validation/"  # begins the names of its figures
STATISTICS_STEPS = 50  # steps between two statistics of the heads
RunProgress = Callable[[str, int, int, Mapping[str, float]], None]
"""Called with the name of a stage, the finished and all of its items, and metrics."""
OnValidation = Callable[[int], dict[str, float]]
"""Called with the number of steps; returns figures by name. A recipe's ``patience`` uses the one named ``loss``."""


def ignore_progress(stage: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
    """Report nothing."""


class RunReport:
    """Reports to ``progress`` and, in the first process of a run, to ``log`` and to TensorBoard if it is installed."""

    def __init__(
        self,
        recipe: Recipe,
        steps: int,
        statistics: HeadStatistics,
        device: torch.device,
        log: MetricsLog | None,
        progress: RunProgress = ignore_progress,
        on_validation: OnValidation | None = None,
        tensorboard: Path | None = None,
    ) -> None:
        self._recipe, self._steps, self._statistics, self._device = recipe, steps, statistics, device
        self._log, self._progress, self._on_validation = log, progress, on_validation
        self._writer = None if tensorboard is None else open_tensorboard(tensorboard)
        self._weights = loss_weights(recipe.losses)
        self._started = self._last = time.perf_counter()
        self._first: int | None = None  # number of the first step of this process

    def __call__(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Report the metrics of a step, summed over the processes. Return whether training should stop."""
        values = self._describe(step, metrics)
        if step % STATISTICS_STEPS == 0 or step == self._steps:
            gathered = gather_statistics(self._statistics)
            values |= gathered.compute()
            self._statistics.reset()
        self._write(step, values)
        self._progress("steps", step, self._steps, values)
        stops = self._validate(step) if self._is_validated(step) else False
        return is_true_anywhere(stops, self._device)

    @property
    def validation_figures(self) -> dict[str, float]:
        """The figures of the last validation by name; empty without one."""
        rows = [
            row for row in (self._log.rows if self._log else []) if any(name.startswith(VALIDATION) for name in row)
        ]
        last = rows[-1] if rows else {}
        return {name.removeprefix(VALIDATION): value for name, value in last.items() if name.startswith(VALIDATION)}

    def report_bad(self, sample: BadSample) -> None:
        """Report a sample that is skipped."""
        if self._log is not None:
            self._log.write(self._log.last_step, {"bad_sample": sample.id, "reason": sample.reason})

    def close(self) -> None:
        """Close the files."""
        if self._log is not None:
            self._log.close()
        if self._writer is not None:
            self._writer.close()

    def _describe(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return the losses that have labels, their weighted sum, speed and memory."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        self._first = step if self._first is None else self._first
        per_step = (now - self._started) / (step - self._first + 1)
        losses = {name: metrics[name] for name in LABELS if metrics[f"{name}_labels"]}
        return {
            "loss": sum(self._weights[name] * value for name, value in losses.items()),
            **losses,
            "grad_norm": metrics["grad_norm"],
            "learning_rate": metrics["learning_rate"],
            "tokens": metrics["tokens"],
            "samples": metrics["samples"],
            "tokens_per_second": metrics["tokens"] / seconds,
            "samples_per_second": metrics["samples"] / seconds,
            "eta_seconds": per_step * (self._steps - step),
            "memory_mb": used_memory(self._device) / 2**20,
        }

    def _write(self, step: int, values: Mapping[str, Any], prefix: str = "") -> None:
        if self._log is not None:
            self._log.write(step, {f"{prefix}{name}": value for name, value in values.items()})
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{prefix or 'train/'}{name}", value, step)

    def _is_validated(self, step: int) -> bool:
        return self._on_validation is not None and (step % self._recipe.validation.every == 0 or step == self._steps)

    def _validate(self, step: int) -> bool:
        """Validate, and return whether the loss has not become lower for as many validations as the recipe allows."""
        if self._log is None or self._on_validation is None:
            return False
        values = self._on_validation(step)
        self._write(step, values, VALIDATION)
        self._progress("validation", step, self._steps, values)
        self._last = time.perf_counter()
        return has_lost_patience(
            [row["validation/loss"] for row in self._log.rows if "validation/loss" in row],
            self._recipe.validation.patience,
        )


def has_lost_patience(losses: list[float], patience: int | None) -> bool:
    """Return whether none of the last ``patience`` losses is lower than all before them."""
    return patience is not None and len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])


def gather_statistics(statistics: HeadStatistics) -> HeadStatistics:
    """Return the statistics of all processes, which must call this at the same step."""
    if not torch.distributed.is_initialized():
        return statistics
    found: list[HeadStatistics] = [HeadStatistics()] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, statistics)
    merged = HeadStatistics()
    for each in found:
        merged.merge(each)
    return merged


def is_true_anywhere(value: bool, device: torch.device) -> bool:
    """Return whether ``value`` is true in one of the processes."""
    if not torch.distributed.is_initialized():
        return value
    flag = torch.tensor(float(value), device=device)
    torch.distributed.all_reduce(flag)
    return bool(flag)


def used_memory(device: torch.device) -> int:
    """Return the bytes that the process has used at most on a CUDA device, or uses on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def open_tensorboard(folder: Path) -> Any:
    """Return a writer of TensorBoard's files; None if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
