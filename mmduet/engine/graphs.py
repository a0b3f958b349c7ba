"""Replays steps as CUDA graphs: a step of many small kernels is launched at once.

Sessions that add one frame, and those that add one token, are computed by graphs of the next larger shape; all others, such as
those that read a query, by the packed forward. So are shapes that cannot be captured. A graph is captured when its shape is
first needed, which delays that step, or before by ``warm_up``.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from mmduet.engine.attention.varlen import Kernel, torch_kernel
from mmduet.engine.forward import Forward, PackedForward
from mmduet.engine.host_copy import to_device
from mmduet.engine.static_step import StaticStep, StepShape
from mmduet.engine.step_batch import Integers, StepBatch
from mmduet.model import DuetConfig

log = logging.getLogger(__name__)
SESSIONS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
CONTEXT_UNIT = 512
MAX_CONTEXT = 16_384
"""Longer contexts are rare, and their gathered copies large; the packed forward computes them."""

CapturedStep = tuple[StaticStep, Callable[[], None]]
Capture = Callable[[StaticStep], Callable[[], None]]
"""Returns a function that does what ``StaticStep.compute`` does."""


class GraphedForward:
    """Computes steps in static shapes where it can, see the module's docstring."""

    def __init__(self, packed: PackedForward, kernel: Kernel, frame_tokens: int, width: int, capture: Capture) -> None:
        """Use ``packed`` for other steps. ``width`` is the size of the embeddings."""
        self._packed, self._kernel, self._width, self._capture = packed, kernel, width, capture
        self._queries = (1, frame_tokens)
        self._scratch = packed.pool.open(frame_tokens, 0)
        self._steps: dict[StepShape, CapturedStep | None] = {}

    def __call__(self, embeds: Tensor, batch: StepBatch) -> Tensor:
        """Return final-norm hidden states [J, D], see ``Forward``."""
        hidden = embeds.new_empty(len(batch.counts), self._width)
        for members, shape in self._parts(batch):
            part, rows = batch.select(members)
            inputs = embeds if len(rows) == len(embeds) else embeds[to_device(rows, embeds.device)]
            captured = None if shape is None else self._captured(shape)
            outputs = self._packed(inputs, part) if captured is None else _replay(*captured, inputs, part)
            if len(members) == len(batch.counts):
                return outputs
            hidden[to_device(members, embeds.device)] = outputs
        return hidden

    def warm_up(self, sessions: int, context: int) -> None:
        """Capture the graphs for up to ``sessions`` sessions with contexts of ``context`` tokens."""
        for queries in self._queries:
            for count in SESSIONS[: bisect_left(SESSIONS, sessions) + 1]:
                self._captured(StepShape(count, queries, _rounded_context(context)))

    def _parts(self, batch: StepBatch) -> Iterator[tuple[Integers, StepShape | None]]:
        """Yield the sessions of each part of a step and its shape; None: the packed forward."""
        is_static = np.isin(batch.counts, self._queries) & (batch.kv_length <= MAX_CONTEXT)
        for queries in set(self._queries):
            members = np.flatnonzero(is_static & (batch.counts == queries))
            for begin in range(0, len(members), SESSIONS[-1]):
                part = members[begin : begin + SESSIONS[-1]]
                context = _rounded_context(int(batch.kv_length[part].max()))
                yield part, StepShape(SESSIONS[bisect_left(SESSIONS, len(part))], queries, context)
        if not is_static.all():
            yield np.flatnonzero(~is_static), None

    def _captured(self, shape: StepShape) -> CapturedStep | None:
        """Return the step of a shape and its replay; None if it cannot be captured."""
        if shape not in self._steps:
            packed = self._packed
            try:
                step = StaticStep(packed.decoder, packed.pool, shape, self._scratch, self._kernel, self._width)
                self._steps[shape] = step, self._capture(step)
            except RuntimeError:
                log.exception("no CUDA graph for %s; such steps are computed without one", shape)
                self._steps[shape] = None
        return self._steps[shape]


class CudaCapture:
    """Captures steps as CUDA graphs, which share their temporary memory since they are replayed one after the other."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._memory = device, torch.cuda.graph_pool_handle()

    def __call__(self, step: StaticStep) -> Callable[[], None]:
        """Return the replay of a step. Kernels and their workspaces are loaded by running it before."""
        with torch.cuda.device(self._device):
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(2):
                    step.compute()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._memory):
                step.compute()
        return graph.replay


def _replay(step: StaticStep, replay: Callable[[], None], embeds: Tensor, batch: StepBatch) -> Tensor:
    step.load(embeds, batch)
    replay()
    return step.hidden[: len(batch.counts)].clone()


def _rounded_context(tokens: int) -> int:
    return -(-tokens // CONTEXT_UNIT) * CONTEXT_UNIT


def create_forward(packed: PackedForward, config: DuetConfig, *, graphs: bool) -> Forward:
    """Return a forward that replays graphs, if ``graphs`` is set, with the kernel of ``varlen`` and without adapters."""
    if not graphs or packed.is_routed or packed.backend.name != "varlen":
        return packed
    return GraphedForward(
        packed, torch_kernel, config.frame_tokens, config.text.hidden_size, CudaCapture(packed.pool.shape.device)
    )
