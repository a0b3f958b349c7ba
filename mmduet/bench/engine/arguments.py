"""The command line of ``python -m mmduet.bench.engine``, with the options of ``mmduet bench engine``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from mmduet.bench.engine.options import (
    EngineBenchOptions,
    parse_references,
    parse_streams,
    parse_window,
)
from mmduet.bench.engine.output import check_output_files, write_outputs
from mmduet.bench.engine.run import Extras, run_engine_bench
from mmduet.engine.config import AttentionName, KVDtypeName
from mmduet.errors import MmduetError
from mmduet.model.devices import DEVICE_FORMS, DtypeName
from mmduet.model.quantize import Quantization, TowerQuantization

DEFAULTS = EngineBenchOptions()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the results, and return the exit status."""
    parsed = build_parser().parse_args(arguments)
    try:
        check_output_files(parsed.json, parsed.trace, parsed.plot)
        report = run_engine_bench(parse_options(parsed), parse_extras(parsed), _notify)
        sys.stdout.write(write_outputs(report, parsed.json, parsed.plot) + "\n")
    except MmduetError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    return 0


def build_parser() -> ArgumentParser:
    """Return the parser of the command line."""
    parser = ArgumentParser("mmduet.bench.engine", description="Measure the engine with some numbers of streams.")
    add = parser.add_argument
    add("--model", default=DEFAULTS.model, help="nano, random:SIZE or a directory")
    add("--device", default=DEFAULTS.device, help=DEVICE_FORMS)
    add("--dtype", default=DEFAULTS.dtype, choices=get_args(DtypeName))
    add("--attention", default=DEFAULTS.attention, choices=get_args(AttentionName))
    add("--kv-dtype", default=DEFAULTS.kv_dtype, choices=get_args(KVDtypeName), help="type of stored keys and values")
    add("--quantized", choices=get_args(Quantization), help="quantise the language model")
    add("--quantized-tower", choices=get_args(TowerQuantization), help="quantise the vision tower")
    add("--graphs", action=BooleanOptionalAction, default=True, help="replay steps as CUDA graphs where possible")
    add("--streams", default="1,4,16,64", help="numbers of streams, each measured separately")
    add("--frames", type=int, default=DEFAULTS.frames, help="measured frames of each stream")
    add("--rounds", type=int, default=DEFAULTS.rounds, help="parts in which the engine and the references take turns")
    add("--warm-up", type=int, help="frames before the measurement; by default until the window is full")
    add(
        "--queued",
        type=int,
        default=DEFAULTS.queued,
        help="frames that each stream has in its queue; 1 is a live stream",
    )
    add("--window", default=str(DEFAULTS.window), help="frames that are kept in the context, or none")
    add("--speak-rate", type=float, default=DEFAULTS.speak_rate, help="replies per frame")
    add("--tokens-per-reply", type=int, default=DEFAULTS.tokens_per_reply, help="largest number of tokens of a reply")
    add(
        "--embeds",
        dest="frame_input",
        action="store_const",
        const="embeds",
        default="pixels",
        help="give visual tokens",
    )
    add("--pixels", dest="frame_input", action="store_const", const="pixels", help="give pixels (default)")
    add("--threads", type=int, help="CPU threads")
    add("--references", default="paper,tight", help="reference engines to compare with, or none")
    add("--max-step-tokens", type=int, default=DEFAULTS.max_step_tokens, help="bound of the tokens of one step")
    add("--seed", type=int, default=DEFAULTS.seed, help="seed of the frames")
    add("--speed", action=BooleanOptionalAction, default=True, help="measure speed, latency and memory")
    add("--profile", action="store_true", help="break the time of a step down by stages")
    add("--operations", action="store_true", help="count the dispatched operations of a step")
    add("--trace", type=Path, help="write a trace in Chrome's format to this file")
    add("--json", type=Path, help="write the report to this file")
    add("--plot", type=Path, help="draw the figures into this file; needs matplotlib")
    return parser


def parse_options(parsed: Namespace) -> EngineBenchOptions:
    """Return the options of a parsed command line. Raise ``OptionError`` for invalid values."""
    return EngineBenchOptions(
        model=parsed.model,
        device=parsed.device,
        dtype=parsed.dtype,
        attention=parsed.attention,
        kv_dtype=parsed.kv_dtype,
        quantized=parsed.quantized,
        quantized_tower=parsed.quantized_tower,
        graphs=parsed.graphs,
        streams=parse_streams(parsed.streams),
        frames=parsed.frames,
        rounds=parsed.rounds,
        warm_up=parsed.warm_up,
        queued=parsed.queued,
        window=parse_window(parsed.window),
        speak_rate=parsed.speak_rate,
        tokens_per_reply=parsed.tokens_per_reply,
        frame_input=parsed.frame_input,
        threads=parsed.threads,
        references=parse_references(parsed.references),
        max_step_tokens=parsed.max_step_tokens,
        seed=parsed.seed,
    )


def parse_extras(parsed: Namespace) -> Extras:
    """Return what is done besides the measurement of speed."""
    return Extras(speed=parsed.speed, profile=parsed.profile, operations=parsed.operations, trace=parsed.trace)


def _notify(line: str) -> None:
    sys.stderr.write(line + "\n")
