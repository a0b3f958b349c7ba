"""Validate during training: losses and head figures of held-out samples, and what the model replies to some of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from mmduet.errors import TrainingError
from mmduet.training.batch_plan import BatchPlan
from mmduet.training.dataset import DuetDataset
from mmduet.training.item_collation import collate_items
from mmduet.training.live_validation import LiveValidation
from mmduet.training.progress_metrics import HeadStatistics
from mmduet.training.recipe import Recipe
from mmduet.training.training_module import TrainingModule, count_labels, loss_weights, remove_unused_labels

Save = Callable[[Path], object]
"""Writes the model in training, as at the end of a run."""


class Validation:
    """Computes figures of the same samples each time; the training continues as if it had not been called.

    With ``ema``, the figures are those of the weights in training, not of their average.
    """

    def __init__(
        self,
        recipe: Recipe,
        module: TrainingModule,
        dataset: DuetDataset,
        live: LiveValidation | None = None,
        save: Save | None = None,
    ) -> None:
        """``dataset`` has the samples. ``live`` measures a model that ``save`` has written into a temporary directory.

        Raises ``TrainingError`` for a sample that cannot be used.
        """
        self._recipe, self._module, self._dataset, self._live, self._save = recipe, module, dataset, live, save
        self._weights = loss_weights(recipe.losses)
        lengths, options = dataset.lengths(0), recipe.optimization
        if 0 in lengths:
            raise TrainingError(f"validation {dataset.prepare(0, lengths.index(0))}; repair or remove it")
        equal = [1.0] * len(lengths)
        plan = BatchPlan(lengths, equal, recipe.seed, options.max_tokens_per_batch, options.max_samples_per_batch)
        self._batches = plan.batches(0)

    def __call__(self, step: int) -> dict[str, float]:
        """Return the weighted ``loss``, its parts, the figures of the heads, and those of ``LiveValidation``."""
        device = self._module.network.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            figures = self._measure_losses()
            if self._live is not None and self._save is not None:
                with TemporaryDirectory(prefix="mmduet-validation-") as folder:
                    self._save(Path(folder) / "model")
                    figures |= self._live(Path(folder) / "model")
        return figures

    def _measure_losses(self) -> dict[str, float]:
        statistics, self._module.statistics = self._module.statistics, HeadStatistics()
        self._module.eval()
        try:
            with torch.no_grad():
                return self._sum_losses() | self._module.statistics.compute()
        finally:
            self._module.statistics = statistics
            self._module.train()

    def _sum_losses(self) -> dict[str, float]:
        """Return the mean of each part over all its labels, and their weighted sum."""
        sums, counts = dict.fromkeys(self._weights, 0.0), dict.fromkeys(self._weights, 0)
        for numbers in self._batches:
            items = collate_items([self._dataset[0, number] for number in numbers])
            if items.bad or items.batch is None:
                raise TrainingError(f"validation {items.bad[0]}; repair or remove it")
            batch = remove_unused_labels(items.batch.to(self._module.network.device), self._weights)
            own = count_labels(batch)
            for name, part in self._module(batch).items():
                sums[name] += float(part) * own[name]
                counts[name] += own[name]
        parts = {name: sums[name] / counts[name] for name in sums if counts[name]}
        return {"loss": sum(self._weights[name] * value for name, value in parts.items()), **parts}
