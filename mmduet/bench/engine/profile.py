"""Where the time of a step goes: stages, operations and Python, and a trace for a viewer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from mmduet.bench.engine.frames import FramePool
from mmduet.bench.engine.limits import MachineLimit, lm_operations, synchronize
from mmduet.bench.engine.measurement import open_streams, warm_up
from mmduet.bench.engine.operations import RANGE_PREFIX, OperationRecorder
from mmduet.bench.engine.options import EngineBenchOptions
from mmduet.bench.engine.streams import SaturatedStreams
from mmduet.engine import Engine
from mmduet.files import atomic_write

PROFILED_STEPS = 10  # of each kind, and as many without a recorder
TRACED_STEPS = 3
ATTENTION_CALLS = re.compile("scaled_dot_product|flash|varlen|baddbmm")
COPIES = re.compile("copy|scatter|index_put")
PROFILE_REPLY_TOKENS = 64  # so that replies are longer than what is profiled, unless the model ends them


@dataclass
class _StepProfile:
    """Wall times in seconds of steps without a recorder, and the recorders of others."""

    walls: list[float] = field(default_factory=list)
    recorders: list[OperationRecorder] = field(default_factory=list)

    def to_dict(self, load_operations: float, machine: MachineLimit | None) -> dict[str, Any]:
        """Return the fastest step of each kind, which another load of the machine has disturbed least.

        ``load_operations``: those of the language model's linear layers in one step.
        """
        wall = 1000 * min(self.walls)
        recorder = min(self.recorders, key=lambda recorder: recorder.total_milliseconds)
        operations, stages = recorder.total_milliseconds, recorder.milliseconds_by_stage()
        linear_flops = load_operations / (stages["lm_linear"] / 1000) if stages.get("lm_linear") else None
        of_limit = None if machine is None or linear_flops is None else linear_flops / machine.gemm_flops
        return {
            "wall_ms": wall,
            "operations_ms": operations,
            "python_ms": wall - operations,
            "python_fraction": 1 - operations / wall,
            "operations": recorder.total_calls,
            "stages_ms": stages,
            "lm_linear_flops": linear_flops,
            "lm_linear_fraction_of_limit": of_limit,
        }


def profile_steps(
    engine: Engine, options: EngineBenchOptions, pool: FramePool, count: int, machine: MachineLimit | None = None
) -> dict[str, Any]:
    """Break the time of a frame step and of a token step of ``count`` streams down by stages.

    Times of stages are those of their operations on the host, measured around each operation. What is left of the wall time of
    a step without a recorder is Python. On a CUDA device operations only start work, so its time is reported in addition; steps
    that are replayed as graphs dispatch no operations, so measure without ``graphs``.
    """
    network = engine.model.network
    frame, token = (count * lm_operations(network, tokens) for tokens in (network.config.frame_tokens, 1))
    with _profiled_streams(engine, options, pool, count) as streams:
        result = {
            "frame_step": _profile_frame_steps(streams).to_dict(frame, machine),
            "token_step": _profile_token_steps(streams, count).to_dict(token, machine),
        }
        if network.device.type == "cuda":
            result["frame_step"]["device_ms"] = _device_stages(streams, network.device)
    return result


def count_operations(engine: Engine, options: EngineBenchOptions, pool: FramePool, count: int) -> dict[str, Any]:
    """Count the dispatched operations of one frame step with a full window, and of one token step, of ``count`` streams."""
    with _profiled_streams(engine, options, pool, count) as streams:
        with OperationRecorder() as frame_step:
            streams.frame_step()
        streams.start_replies()
        with OperationRecorder() as token_step:
            streams.token_step()
        streams.cancel_replies()
    return {"frame_step": _counts(frame_step), "token_step": _counts(token_step)}


def write_trace(engine: Engine, options: EngineBenchOptions, pool: FramePool, count: int, path: Path) -> None:
    """Write a trace of some frame steps and token steps in Chrome's format. Raise ``OptionError`` if it cannot be written."""
    with _profiled_streams(engine, options, pool, count) as streams:
        with profile(activities=_activities(engine.model.network.device)) as trace:
            for _ in range(TRACED_STEPS):
                streams.frame_step()
            streams.start_replies()
            for _ in range(TRACED_STEPS):
                streams.token_step()
        streams.cancel_replies()
    with atomic_write(path) as part:
        trace.export_chrome_trace(str(part))


@contextmanager
def _profiled_streams(
    engine: Engine, options: EngineBenchOptions, pool: FramePool, count: int
) -> Iterator[SaturatedStreams]:
    """Open streams with full windows and long replies for the block."""
    options = replace(options, tokens_per_reply=max(options.tokens_per_reply, PROFILE_REPLY_TOKENS))
    if options.window is not None:
        options = replace(options, warm_up=max(options.warm_up_frames, options.window + 1))
    streams = open_streams(engine, options, pool, count)
    warm_up(streams, options)
    try:
        yield streams
    finally:
        streams.close()


def _profile_frame_steps(streams: SaturatedStreams) -> _StepProfile:
    found = _StepProfile()
    for _ in range(PROFILED_STEPS):
        _profile_pair(found, streams.frame_step)
    return found


def _profile_token_steps(streams: SaturatedStreams, count: int) -> _StepProfile:
    """Profile steps in which all streams sample; a stream whose reply has ended begins another one."""
    found = _StepProfile()
    for _ in range(PROFILED_STEPS):
        streams.frame_step()
        streams.start_replies()
        _profile_pair(found, streams.token_step)
        streams.cancel_replies()
    return found


def _profile_pair(found: _StepProfile, step: Callable[[], float]) -> None:
    """Run a step without a recorder and one with it."""
    found.walls.append(step())
    with OperationRecorder() as recorder:
        step()
    found.recorders.append(recorder)


def _device_stages(streams: SaturatedStreams, device: torch.device) -> dict[str, float]:
    """Return the time in milliseconds that the kernels of each stage take in one frame step."""
    with profile(activities=_activities(device)) as trace, OperationRecorder(ranges=True):
        for _ in range(PROFILED_STEPS):
            streams.frame_step()
        synchronize(device)
    ranges = [event for event in trace.key_averages() if event.key.startswith(RANGE_PREFIX)]
    return {e.key.removeprefix(RANGE_PREFIX): e.device_time_total / 1000 / PROFILED_STEPS for e in ranges}


def _activities(device: torch.device) -> list[ProfilerActivity]:
    return [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]


def _counts(recorder: OperationRecorder) -> dict[str, Any]:
    return {
        "total": recorder.total_calls,
        "attention_calls": recorder.count(ATTENTION_CALLS, "attention"),
        "cache_copies": recorder.count(COPIES, "cache_writes"),
        "stages": recorder.calls_by_stage(),
        "most_frequent": recorder.most_frequent(),
    }
