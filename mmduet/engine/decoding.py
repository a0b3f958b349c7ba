"""Sampling of tokens from logits, and suppression of repeated replies. It depends on no model and no session."""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol

import torch
from torch import Tensor

from mmduet.options import DecodeOptions

SEED_RANGE = 1 << 63
"""Seeds are reduced to this range, because PyTorch's generators accept no larger ones."""


class TokenSampler(Protocol):
    """Chooses the tokens of one reply."""

    def next(self, logits: Tensor) -> int:
        """Return the next token, from logits [V]."""


class SamplerFactory(Protocol):
    """Makes the sampler of a reply."""

    def __call__(self, options: DecodeOptions, reply: int, earlier: Set[int] = frozenset()) -> TokenSampler:
        """Return a sampler for reply number ``reply`` of its session. A repetition penalty counts ``earlier`` tokens too."""


class Sampler:
    """Samples the tokens of one reply; greedy at temperature 0.

    The repetition penalty counts the tokens of this reply and the ``earlier`` ones.
    """

    def __init__(self, options: DecodeOptions, reply: int, earlier: Set[int] = frozenset()) -> None:
        self._options = options
        self._tokens = set(earlier)
        self._generator = torch.Generator().manual_seed((options.seed * 1_000_003 + reply) % SEED_RANGE)

    def next(self, logits: Tensor) -> int:
        """Return the next token, from logits [V]."""
        scores = self._penalize(logits.float().cpu())
        token = int(scores.argmax()) if self._options.temperature == 0 else self._sample(scores)
        self._tokens.add(token)
        return token

    def _penalize(self, logits: Tensor) -> Tensor:
        penalty = self._options.repetition_penalty
        if penalty == 1.0 or not self._tokens:
            return logits
        used = torch.tensor(sorted(self._tokens))
        scores = logits[used]
        return logits.index_put((used,), torch.where(scores > 0, scores / penalty, scores * penalty))

    def _sample(self, logits: Tensor) -> int:
        probabilities = (logits / self._options.temperature).softmax(-1)
        ordered, order = probabilities.sort(descending=True)
        ordered[ordered.cumsum(0) - ordered >= self._options.top_p] = 0  # keep the smallest set with probability top_p
        return int(order[torch.multinomial(ordered, 1, generator=self._generator)])


class RepeatFilter:
    """Holds text back while the reply may still turn out to repeat a recent one."""

    def __init__(self, recent: tuple[str, ...]) -> None:
        self._recent = recent
        self._held = ""
        self._is_new = False

    def push(self, delta: str) -> str:
        """Add text and return what may be emitted now."""
        self._held += delta
        if not self._is_new and any(text.startswith(self._held) for text in self._recent):
            return ""
        self._is_new = True
        released, self._held = self._held, ""
        return released

    def finish(self) -> tuple[str, bool]:
        """Return the text that is left to emit, and whether the reply repeats a recent one; then nothing is left."""
        if not self._is_new and self._held in self._recent:
            return "", True
        return self._held, False
