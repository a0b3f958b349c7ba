"""The module that a trainer wraps for several devices: its forward pass returns the parts of a batch's loss."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from mmduet.duet import IGNORE
from mmduet.training.autocast import autocast
from mmduet.training.collate import Batch
from mmduet.training.head_losses import HeadLossOptions
from mmduet.training.losses import duet_parts, forward_hidden
from mmduet.training.progress_metrics import HeadStatistics
from mmduet.training.recipe import LossOptions
from mmduet.training.trainable import TrainableModel

#: Parts of the loss, and the labels in a ``Batch`` that each is computed from.
LABELS: Mapping[str, str] = {"lm": "targets", "informative": "informative", "relevance": "relevance"}
NO_LABELS = "none"  # the part of a batch that has no samples


class TrainingModule(nn.Module):
    """Computes the losses of a prepared model in the precision of its recipe."""

    def __init__(self, trainable: TrainableModel) -> None:
        super().__init__()
        self.network = trainable.network
        self.statistics = HeadStatistics()
        self._trainable = trainable
        self._options = head_loss_options(trainable.recipe.losses)

    def train(self, mode: bool = True) -> TrainingModule:
        """Set the mode of training or of inference; a frozen tower stays in the mode of inference."""
        self.training = mode
        if mode:
            self._trainable.train()
        else:
            self._trainable.eval()
        return self

    def trained_state(self) -> dict[str, Tensor]:
        """Return the trained weights by their names in the network."""
        return self._trainable.trained_state()

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Set the trained weights."""
        self._trainable.load_trained_state(state)

    def forward(self, batch: Batch | None) -> dict[str, Tensor]:
        """Return the loss of every part that has labels; for None a loss of 0, from which a backward pass can start.

        The scores and labels of the frames are added to ``statistics``.
        """
        if batch is None:
            _, parameter = next(self._trainable.named_trained())
            return {NO_LABELS: parameter.sum() * 0}
        mixed = self._trainable.recipe.precision == "bfloat16"
        with autocast(self.network.device) if mixed else nullcontext():
            hidden = forward_hidden(self.network, batch)
            return duet_parts(self.network, batch, hidden, self._options, self.statistics)


def loss_weights(options: LossOptions) -> dict[str, float]:
    """Return the weight of every part."""
    return {name: getattr(options, name) for name in LABELS}


def head_loss_options(options: LossOptions) -> HeadLossOptions:
    """Return the options of the heads' losses."""
    return HeadLossOptions(options.positive_weight, options.focal_gamma, options.smoothing_seconds)


def remove_unused_labels(batch: Batch, weights: Mapping[str, float]) -> Batch:
    """Return the batch without the labels of parts whose weight is 0, so that these are not computed."""

    def used(part: str) -> Tensor:
        labels: Tensor = getattr(batch, LABELS[part])
        return labels if weights[part] else torch.full_like(labels, IGNORE)

    return replace(batch, targets=used("lm"), informative=used("informative"), relevance=used("relevance"))


def count_labels(batch: Batch | None) -> dict[str, int]:
    """Return the number of labels of every part."""
    if batch is None:
        return dict.fromkeys(LABELS, 0)
    return {part: int((getattr(batch, field) != IGNORE).sum()) for part, field in LABELS.items()}


def count_tokens(batch: Batch | None) -> int:
    """Return the number of tokens of a batch with a branch mask, without padding."""
    return 0 if batch is None or batch.branch_mask is None else int((batch.branch_mask.branches >= 0).sum())
