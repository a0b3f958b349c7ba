"""Options of an engine: how much it computes in one step, with which attention, and how much memory it keeps for sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AttentionName = Literal["auto", "loop", "padded", "varlen"]


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Options of an engine.

    Attributes:
        attention: How attention over the sessions of a step is computed; ``auto`` chooses for the device.
        max_step_tokens: Bound of the tokens of one step; at least one session takes part in a step in any case.
        kv_bytes: Memory for keys and values of all sessions; None: from the memory that the device has free.
        graphs: Replay steps as CUDA graphs, where ``varlen`` computes attention.
    """

    attention: AttentionName = "auto"
    max_step_tokens: int = 4096
    kv_bytes: int | None = None
    graphs: bool = True
