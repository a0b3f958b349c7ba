"""The exponential moving average of trained weights, which is saved in their place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class WeightAverage:
    """``average = decay * average + (1 - decay) * weights`` after every step, from the initial weights on.

    While fewer than ``1 / (1 - decay)`` steps have been taken, the decay is lower, so that the initial weights do not dominate.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
        self._decay = decay

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Add the weights after ``step`` steps."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, average in self.weights.items():
            average.lerp_(weights[name].detach(), 1 - decay)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Restore a saved average."""
        for name, average in self.weights.items():
            average.copy_(weights[name])
