"""Run a whole measurement: load the model, measure each number of streams, and return the report."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

import mmduet
from mmduet.bench.engine.frames import FramePool
from mmduet.bench.engine.limits import MachineLimit, frame_load, measure_machine, token_load
from mmduet.bench.engine.measurement import device_name, measure_streams, open_streams
from mmduet.bench.engine.options import EngineBenchOptions
from mmduet.bench.engine.profile import count_operations, profile_steps, write_trace
from mmduet.bench.engine.report import limit_dict, measurement_dict
from mmduet.bench.reference_engines import plain_copy
from mmduet.engine import Engine
from mmduet.engine.config import EngineConfig
from mmduet.engine.cpu_threads import set_threads
from mmduet.model import DuetModel, LoadedModel, load_model

Notify = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What is done besides the measurement of speed.

    Attributes:
        speed: Measure speed, latency, memory and the ratios to the references.
        profile: Break the time of a step down by stages.
        operations: Count the dispatched operations of a step.
        trace: File for a trace of a few steps in Chrome's format.
    """

    speed: bool = True
    profile: bool = False
    operations: bool = False
    trace: Path | None = None


@dataclass(frozen=True)
class _Setup:
    """What all numbers of streams share."""

    engine: Engine
    options: EngineBenchOptions
    extras: Extras
    pool: FramePool
    plain: LoadedModel | None
    machine: MachineLimit | None
    notify: Notify


def run_engine_bench(
    options: EngineBenchOptions, extras: Extras | None = None, notify: Notify | None = None
) -> dict[str, Any]:
    """Measure as ``options`` say, and return the report as JSON values. ``notify`` receives lines on the progress.

    Raises what ``load_model`` and ``Engine`` raise, and an ``EngineError`` if a session fails, for example because the context
    exceeds the positions of a model without a window.
    """
    extras, notify = extras or Extras(), notify or (lambda line: None)
    model = load(options)
    plain = plain_copy(model) if options.references and extras.speed else None  # before the engine changes the modules
    engine = Engine(model, engine_config(options))
    report = _describe(options, model)
    machine = _measure_limit(report, options, model, notify) if extras.speed else None
    pool = FramePool(engine, options.frame_input, options.seed)
    setup = _Setup(engine, options, extras, pool, plain, machine, notify)
    _run_once(setup)
    report["runs"] = [_measure_count(setup, count) for count in options.streams]
    return report


def _run_once(setup: _Setup) -> None:
    """Let one stream score a frame and reply, so that what happens at first use only is not measured."""
    streams = open_streams(setup.engine, setup.options, setup.pool, 1)
    streams.run(1, 1)
    streams.close()


def _measure_count(setup: _Setup, count: int) -> dict[str, Any]:
    """Return the figures of ``count`` streams."""
    network, options, run = setup.engine.model.network, setup.options, dict[str, Any](streams=count)
    _use_threads(options, network, count)
    if setup.machine is not None:
        setup.notify(f"{count} streams: speed")
        frame, token = frame_load(network, options.frame_input == "pixels"), token_load(network)
        found = measure_streams(setup.engine, setup.plain, options, setup.pool, count)
        run = measurement_dict(found, setup.machine, frame, token)
    run["threads"] = torch.get_num_threads()
    _run_extras(run, setup, count)
    return run


def engine_config(options: EngineBenchOptions) -> EngineConfig:
    """Return the options of the engine that is measured."""
    return EngineConfig(
        attention=options.attention,
        kv_dtype=options.kv_dtype,
        max_step_tokens=options.max_step_tokens,
        graphs=options.graphs,
    )


def load(options: EngineBenchOptions) -> LoadedModel:
    """Load the model. Raises what ``load_model`` raises."""
    return load_model(
        options.model,
        options.dtype,
        options.device,
        quantized=options.quantized,
        quantized_tower=options.quantized_tower,
    )


def _use_threads(options: EngineBenchOptions, network: DuetModel, streams: int) -> None:
    """Set the number of CPU threads as the ``mmduet`` command does; on another device only if it is given."""
    if network.device.type == "cpu" or options.threads is not None:
        set_threads(network, streams, options.threads)


def _describe(options: EngineBenchOptions, model: LoadedModel) -> dict[str, Any]:
    network, config = model.network, model.config
    return {
        "options": options.to_dict(),
        "model": config.name,
        "frame_tokens": config.frame_tokens,
        "device": str(network.device),
        "device_name": device_name(network.device),
        "dtype": str(network.dtype).removeprefix("torch."),
        "versions": {
            "mmduet": mmduet.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def _measure_limit(
    report: dict[str, Any], options: EngineBenchOptions, model: LoadedModel, notify: Notify
) -> MachineLimit:
    notify("limit of this machine")
    _use_threads(options, model.network, max(options.streams))
    machine = measure_machine(model.network, max(options.streams) * model.config.frame_tokens)
    frame = frame_load(model.network, options.frame_input == "pixels")
    report["limit"] = limit_dict(machine, frame, token_load(model.network))
    report["limit"]["threads"] = torch.get_num_threads()
    return machine


def _run_extras(run: dict[str, Any], setup: _Setup, count: int) -> None:
    """Do what is requested besides the measurement of speed, and add its results to ``run``."""
    extras, arguments = setup.extras, (setup.engine, setup.options, setup.pool, count)
    if extras.profile:
        setup.notify(f"{count} streams: profile")
        run["profile"] = profile_steps(*arguments, setup.machine)
    if extras.operations:
        setup.notify(f"{count} streams: operations")
        run["operations"] = count_operations(*arguments)
    if extras.trace is not None and count == max(setup.options.streams):
        setup.notify(f"{count} streams: trace")
        write_trace(*arguments, extras.trace)
