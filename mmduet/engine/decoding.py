"""From logits to the next token of one reply, and from tokens to text that may be shown; knows no model and no session."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mmduet.options import DecodeOptions


class TokenSampler(Protocol):
    """Chooses the tokens of one reply."""

    def next(self, logits: Tensor) -> int:
        """Return the next token, from logits [V]."""


class SamplerFactory(Protocol):
    """Makes the sampler of a reply."""

    def __call__(self, options: DecodeOptions, reply: int) -> TokenSampler:
        """Return a sampler for reply number ``reply`` of its session."""


class Sampler:
    """Chooses tokens of one reply; greedy at temperature 0. The repetition penalty counts this reply's tokens only."""

    def __init__(self, options: DecodeOptions, reply: int) -> None:
        self._options = options
        self._tokens: list[int] = []
        self._generator = torch.Generator().manual_seed(options.seed * 1_000_003 + reply)

    def next(self, logits: Tensor) -> int:
        """The next token, from logits [V]."""
        scores = self._penalised(logits.float().cpu())
        token = int(scores.argmax()) if self._options.temperature == 0 else self._draw(scores)
        self._tokens.append(token)
        return token

    def _penalised(self, logits: Tensor) -> Tensor:
        penalty = self._options.repetition_penalty
        if penalty == 1.0 or not self._tokens:
            return logits
        seen = torch.tensor(sorted(set(self._tokens)))
        chosen = logits[seen]
        return logits.index_put((seen,), torch.where(chosen > 0, chosen / penalty, chosen * penalty))

    def _draw(self, logits: Tensor) -> int:
        probabilities = (logits / self._options.temperature).softmax(-1)
        ordered, order = probabilities.sort(descending=True)
        ordered[ordered.cumsum(0) - ordered >= self._options.top_p] = 0  # the smallest set that holds top_p
        return int(order[torch.multinomial(ordered, 1, generator=self._generator)])


class RepeatFilter:
    """Hold text back while it may still turn out to repeat a recent reply."""

    def __init__(self, recent: tuple[str, ...]) -> None:
        self._recent = recent
        self._held = ""
        self._open = False

    def push(self, delta: str) -> str:
        """The text that may be shown now."""
        self._held += delta
        if not self._open and any(text.startswith(self._held) for text in self._recent):
            return ""
        self._open = True
        shown, self._held = self._held, ""
        return shown

    def finish(self) -> tuple[str, bool]:
        """What is left to show, and whether the whole reply was a repeat (then nothing is)."""
        if not self._open and self._held in self._recent:
            return "", True
        return self._held, False
