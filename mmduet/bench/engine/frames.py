"""Random frames as the input of a measurement, and when streams reply."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mmduet.bench.engine.options import FrameInput
from mmduet.engine import Engine
from mmduet.engine.session import PreparedFrame
from mmduet.events import Frame

FPS = 2.0  # of the times of frames, which do not matter for speed
POOL_FRAMES = 64  # different frames; streams take them in different orders
BLOCKS = 8  # random squares along a side of an image
STREAM_OFFSET = 13  # distance of two streams in the pool, coprime to its size


class FramePool:
    """Different frames, prepared before the measurement, from which all streams take theirs."""

    def __init__(self, engine: Engine, frame_input: FrameInput, seed: int = 0) -> None:
        """Prepare the frames: random images, or random visual tokens of the scale of token embeddings."""
        generator = np.random.default_rng(seed)
        if frame_input == "pixels":
            self._frames = [engine.prepare(_random_frame(engine, generator)) for _ in range(POOL_FRAMES)]
            return
        network, config = engine.model.network, engine.model.config
        scale = float(network.lm.embed_tokens.weight[:256].float().std())
        torch_generator = torch.Generator().manual_seed(seed)
        empty, pixels = Frame(0, 0.0, np.zeros((0, 0, 3), np.uint8)), torch.empty(0, dtype=torch.uint8)
        shape = (POOL_FRAMES, config.frame_tokens, config.text.hidden_size)
        embeds = torch.randn(shape, generator=torch_generator).mul(scale).to(network.device, network.dtype)
        self._frames = [PreparedFrame(empty, pixels, embeds=rows) for rows in embeds]

    def frame(self, stream: int, index: int) -> PreparedFrame:
        """Return frame ``index`` of a stream, which the engine receives at ``index / FPS`` seconds."""
        prepared = self._frames[(index + STREAM_OFFSET * stream) % POOL_FRAMES]
        return replace(prepared, frame=replace(prepared.frame, index=index, time=index / FPS))


def _random_frame(engine: Engine, generator: np.random.Generator) -> Frame:
    size = engine.model.config.vision.image_size
    coarse = generator.integers(0, 256, (BLOCKS, BLOCKS, 3), np.uint8)
    repeats = -(-size // BLOCKS)
    return Frame(0, 0.0, coarse.repeat(repeats, 0).repeat(repeats, 1)[:size, :size])


def reply_indices(frames: int, replies: int, phase: float) -> frozenset[int]:
    """Return after which of ``frames`` frames a stream replies: evenly distributed, shifted by ``phase`` in [0, 1)."""
    return frozenset(int((number + phase) * frames / replies) for number in range(replies))
