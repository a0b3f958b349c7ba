"""The contract of attention backends: plan a step once, then attend in each layer."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from mmduet.engine.kv_pool import KVPool
from mmduet.engine.step_batch import StepBatch


class Attention(Protocol):
    """Attention of one step, planned for its queries."""

    def attend(self, layer: int, queries: Tensor) -> Tensor:
        """Return outputs [N, heads, head_dim] of the rotated ``queries`` [N, heads, head_dim] in a layer.

        The keys and values of the step's tokens are in the pool. The queries of a session are its last tokens: each attends to
        the session's context up to itself.
        """


class Backend(Protocol):
    """A way to compute attention. ``loop`` defines the results; the others equal it within rounding."""

    @property
    def name(self) -> str:
        """The name by which options select it."""

    def plan(self, batch: StepBatch, pool: KVPool) -> Attention:
        """Prepare the attention of a step."""
