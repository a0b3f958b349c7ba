"""Sampling of the next tokens of many replies from their logits, on the device of the logits. It depends on no session."""

from __future__ import annotations

from collections.abc import Sequence, Set
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

    The repetition penalty counts the tokens of this reply and the ``earlier`` ones. Random numbers are drawn on the CPU, so
    they are the same on every device.
    """

    def __init__(self, options: DecodeOptions, reply: int, earlier: Set[int] = frozenset()) -> None:
        self.options = options
        self._tokens = set(earlier)
        self._drawn: float | None = None  # until the token is accepted
        self._generator = torch.Generator().manual_seed((options.seed * 1_000_003 + reply) % SEED_RANGE)

    def next(self, logits: Tensor) -> int:
        """Return the next token, from logits [V]."""
        token = int(sample_together(logits[None], [self])[0])
        self.accept(token)
        return token

    @property
    def has_penalty(self) -> bool:
        """Whether earlier tokens matter."""
        return self.options.repetition_penalty != 1.0

    def accept(self, token: int) -> None:
        """Count a token of the reply in the repetition penalty, and use another random number for the next one."""
        self._tokens.add(token)
        self._drawn = None

    @property
    def tokens(self) -> Set[int]:
        """The tokens that the repetition penalty counts."""
        return self._tokens

    def draw(self) -> float:
        """Return the random number in [0, 1) for the next token."""
        if self._drawn is None:
            self._drawn = float(torch.rand((), generator=self._generator, dtype=torch.float64))
        return self._drawn


def sample_next(logits: Tensor, samplers: Sequence[TokenSampler]) -> Tensor:
    """Return the next token of each reply, int64 [J], from logits [J, V], on their device.

    The replies of ``Sampler`` are sampled together; a sampler of another type gets its row of the logits.
    """
    batched = [(row, sampler) for row, sampler in enumerate(samplers) if type(sampler) is Sampler]
    if len(batched) == len(samplers):
        return sample_together(logits, [sampler for _, sampler in batched])
    tokens = [sampler.next(row) for sampler, row in zip(samplers, logits, strict=True)]
    return torch.tensor(tokens, device=logits.device)


def sample_together(logits: Tensor, samplers: Sequence[Sampler]) -> Tensor:
    """Return the next token of each reply, int64 [J], from logits [J, V].

    Nothing changes until ``Sampler.accept`` gets the token, so that a failed step can be repeated.
    """
    scores = _penalize(logits.float(), samplers)
    tokens = scores.argmax(-1)
    rows = [row for row, sampler in enumerate(samplers) if sampler.options.temperature > 0]
    if rows:
        index = torch.tensor(rows, device=logits.device)
        tokens = tokens.index_copy(0, index, _sample(scores[index], [samplers[row] for row in rows]))
    return tokens


def _penalize(logits: Tensor, samplers: Sequence[Sampler]) -> Tensor:
    """Divide the positive logits of earlier tokens by the penalty, and multiply the negative ones. Source: CTRL §4.1."""
    used = [
        (row, token, sampler.options.repetition_penalty)
        for row, sampler in enumerate(samplers)
        if sampler.has_penalty
        for token in sampler.tokens
    ]
    if not used:
        return logits
    rows, tokens, penalties = zip(*used, strict=True)
    index = torch.tensor([rows, tokens], device=logits.device)
    penalty = torch.tensor(penalties, dtype=logits.dtype, device=logits.device)
    scores = logits[index[0], index[1]]
    return logits.index_put((index[0], index[1]), torch.where(scores > 0, scores / penalty, scores * penalty))


def _sample(scores: Tensor, samplers: Sequence[Sampler]) -> Tensor:
    """Sample a token [J] of each row of ``scores`` [J, V] at its temperature, from the smallest set with probability top_p."""
    settings = [(sampler.options.temperature, sampler.options.top_p, sampler.draw()) for sampler in samplers]
    columns = torch.tensor(settings, dtype=torch.float32, device=scores.device)  # [J, 3]
    temperature, top_p, drawn = torch.split(columns, 1, dim=1)
    ordered, order = (scores / temperature).softmax(-1).sort(descending=True)
    below = ordered.cumsum(-1) - ordered  # probability of the tokens before each one
    ordered = ordered.masked_fill(below >= top_p, 0.0)
    total = ordered.cumsum(-1)
    chosen = (total <= drawn * total[:, -1:]).sum(-1, keepdim=True)
    last = (ordered > 0).sum(-1, keepdim=True) - 1  # rounding must not lead beyond the kept tokens
    token: Tensor = order.gather(1, torch.minimum(chosen, last))[:, 0]
    return token
