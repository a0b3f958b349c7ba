"""The loss of one head on labelled frames, with options for rare positives and for labels that are uncertain in time.

Without options it is the mean cross-entropy. Everything here is on two logits per frame: negative, positive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from mmduet.duet import IGNORE
from mmduet.errors import OptionError, TrainingError
from mmduet.options import HEAD_NAMES

Balanced = Literal["balanced"]


@dataclass(frozen=True)
class HeadLossOptions:
    """How the loss of the heads deals with few positive frames and with uncertain times; the defaults change nothing.

    Attributes:
        positive_weight: Weight of positive frames; that of negative ones is 1. ``balanced`` is the number of negative frames
            per positive frame in the batch, so that each class contributes half of the loss; 1 if the batch has one class only.
        focal_gamma: Exponent of the focal loss (Lin et al. 2017): frames that are already predicted with probability p weigh
            (1 - p) ** gamma. 0: no focal loss.
        smoothing_seconds: Within this time of a change of labels the target moves linearly towards 0.5, which it reaches
            halfway between the two frames. No target crosses 0.5. 0: no smoothing.
        heads: The heads that the options apply to; the relevance head has many positive frames and needs none.
    """

    positive_weight: float | Balanced = 1.0
    focal_gamma: float = 0.0
    smoothing_seconds: float = 0.0
    heads: tuple[str, ...] = ("informative",)

    def __post_init__(self) -> None:
        """Raise ``OptionError`` for invalid values."""
        weight: object = self.positive_weight  # a recipe or a caller without type checks may pass anything
        if weight != "balanced" and not (isinstance(weight, int | float) and 0 < weight < math.inf):
            raise OptionError(f"positive_weight must be a number above 0, or balanced, got {weight!r}")
        for name, value in {"focal_gamma": self.focal_gamma, "smoothing_seconds": self.smoothing_seconds}.items():
            if not 0 <= value < math.inf:
                raise OptionError(f"{name} must be a number of at least 0, got {value}")
        if unknown := [head for head in self.heads if head not in HEAD_NAMES]:
            raise OptionError(f"loss options apply to the heads {', '.join(HEAD_NAMES)}, got {unknown[0]!r}")

    def apply_to(self, head: str) -> bool:
        """Return whether the loss of ``head`` differs from the plain cross-entropy."""
        plain = self.positive_weight == 1 and not self.focal_gamma and not self.smoothing_seconds
        return head in self.heads and not plain


def head_loss(
    head: str, logits: Tensor, labels: Tensor, times: Tensor | None = None, options: HeadLossOptions | None = None
) -> Tensor:
    """Return the mean loss of one head over the labelled frames.

    Args:
        head: Name of the head.
        logits: Of the labelled frames only, [N, 2], in the order of ``labels``.
        labels: 1, 0 or ``IGNORE`` of all frames [B, F], N of which are labelled.
        times: Times of all frames in seconds [B, F]; only needed for ``smoothing_seconds``.
        options: None: the plain cross-entropy.

    Raises:
        TrainingError: ``smoothing_seconds`` is set, but the times are unknown.
    """
    labelled = labels != IGNORE
    if options is None or not options.apply_to(head):
        return cross_entropy(logits, labels[labelled])
    targets = _soft_targets(labels, times, options.smoothing_seconds)[labelled]
    return _weighted_focal_loss(logits, targets, _positive_weight(labels, options), options.focal_gamma)


def soften_transitions(labels: Tensor, times: Tensor, seconds: float) -> Tensor:
    """Return the probability of the positive class as target of every frame [B, F]; values at ``IGNORE`` have no meaning.

    A change of labels lies halfway between two adjacent labelled frames. The target of a frame at distance d from the nearest
    change is 0.5 + 0.5 * d / ``seconds`` for the frame's own label, and 1 from ``seconds`` on.
    """
    before, after = labels[:, :-1], labels[:, 1:]
    changes = (before != after) & (before != IGNORE) & (after != IGNORE)  # [B, F - 1]
    middles = (times[:, :-1] + times[:, 1:]) / 2
    distances = (times[:, :, None] - middles[:, None, :]).abs().masked_fill(~changes[:, None, :], math.inf)
    never = distances.new_full((*labels.shape, 1), math.inf)  # a single frame has no change
    nearest = torch.cat([distances, never], dim=-1).amin(-1)
    certainty = 0.5 + 0.5 * (nearest / seconds).clamp(max=1)
    return torch.where(labels == 1, certainty, 1 - certainty)


def _soft_targets(labels: Tensor, times: Tensor | None, seconds: float) -> Tensor:
    if not seconds:
        return (labels == 1).float()
    if times is None:
        raise TrainingError(
            "smoothing_seconds needs the times of the frames, but the batch has none; build its sequences with build_sequence"
        )
    return soften_transitions(labels, times, seconds)


def _positive_weight(labels: Tensor, options: HeadLossOptions) -> Tensor | float:
    if options.positive_weight != "balanced":
        return float(options.positive_weight)
    positives, negatives = (labels == 1).sum(), (labels == 0).sum()
    return torch.where((positives > 0) & (negatives > 0), negatives / positives.clamp(min=1), 1.0)


def _weighted_focal_loss(logits: Tensor, targets: Tensor, positive_weight: Tensor | float, gamma: float) -> Tensor:
    """Return the weighted mean over frames [N] of the focal cross-entropy with soft targets."""
    log_probabilities = log_softmax(logits, dim=-1)  # [N, 2]
    # The probability of the other class is 1 - p; its logarithm keeps the gradient finite where p rounds to 1.
    modulation = (gamma * log_probabilities.flip(-1)).exp() if gamma else 1.0
    weights = torch.stack([1 - targets, targets * positive_weight], dim=-1)
    return -(weights * modulation * log_probabilities).sum() / weights.sum()
