"""How large the KV pool of a model is."""

from __future__ import annotations

import sys

from mmduet.engine.defaults import recommended_options, slot_tokens
from mmduet.engine.kv_pool import CacheShape, KVPool
from mmduet.engine.memory import free_bytes
from mmduet.model import DuetConfig
from mmduet.model.network import DuetModel

SHARE_OF_FREE_MEMORY = {"cpu": 0.5}
ADDRESS_FACTOR = 4
DEFAULT_SHARE = 0.85
"""Of the free memory of a GPU, after the weights: the rest is for the tensors of a step."""


def cache_shape(network: DuetModel, *, fp8: bool = False) -> CacheShape:
    """Return the shape of the keys and values of a model, stored in its own type or in 8 bits."""
    text = network.config.text
    return CacheShape(text.layers, text.kv_heads, text.head_dim, text.rope_theta, network.dtype, network.device, fp8)


def create_pool(shape: CacheShape, config: DuetConfig, kv_bytes: int | None) -> KVPool:
    """Return a pool that takes at most ``kv_bytes``, or a share of the memory that is free on the device.

    On a CPU under Linux unused memory costs nothing, so any session may pin all its tokens, and the pool has addresses for
    several times as many tokens as memory: sessions of different sizes then leave no gaps that are too small. Elsewhere pinned
    tokens have the share that they have in a session with the recommended options.
    """
    if kv_bytes is None:
        kv_bytes = int(free_bytes(shape.device) * SHARE_OF_FREE_MEMORY.get(shape.device.type, DEFAULT_SHARE))
    if shape.device.type == "cpu" and sys.platform == "linux":
        tokens = ADDRESS_FACTOR * kv_bytes // shape.token_bytes
        return KVPool(shape, tokens, tokens, kv_bytes)
    options = recommended_options(config.recommended)
    share = min(options.text_tokens / slot_tokens(config, options), 1.0)
    tokens = int(kv_bytes / (shape.token_bytes + share * shape.pin_bytes))
    return KVPool(shape, tokens, int(tokens * share), kv_bytes)
