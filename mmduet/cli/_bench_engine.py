"""``mmduet bench engine``: speed of the engine next to reference engines and to the limit of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from mmduet.cli._loading import MODEL_HELP, MODEL_METAVAR, ComputeOptions, Quantized, QuantizedTower, Threads
from mmduet.cli._options import takes_options
from mmduet.cli._output_files import check_output_files

if TYPE_CHECKING:
    from mmduet.bench.engine.options import EngineBenchOptions


@dataclass(frozen=True, kw_only=True)
class EngineOptions(ComputeOptions):
    """The options of ``mmduet bench engine``."""

    model: Annotated[str, Option(metavar=MODEL_METAVAR, help=MODEL_HELP)] = "nano"
    streams: Annotated[str, Option(metavar="N,N,…", help="Numbers of streams; each is measured separately.")] = (
        "1,4,16,64"
    )
    frames: Annotated[int, Option(min=1, help="Measured frames of each stream.")] = 40
    rounds: Annotated[
        int, Option(min=1, help="Number of parts of a measurement, in which the engine and the references take turns.")
    ] = 5
    warm_up: Annotated[
        int | None,
        Option(min=0, help="Frames of each stream before the measurement.", show_default="until the window is full"),
    ] = None
    queued: Annotated[
        int, Option(min=1, help="Frames that each stream has in its queue at all times: 1 like a live stream.")
    ] = 8
    window: Annotated[
        str, Option(metavar="N|none", help="Frames that are kept in the context; none keeps every frame.")
    ] = "16"
    speak_rate: Annotated[float, Option(min=0, max=1, help="Replies per frame; at least one per round above 0.")] = 0.05
    tokens_per_reply: Annotated[int, Option(min=1, help="Largest number of tokens of a reply.")] = 16
    embeds: Annotated[
        bool, Option("--embeds/--pixels", help="Give frames as visual tokens, or as pixels for the vision tower.")
    ] = False
    quantized: Quantized = None
    quantized_tower: QuantizedTower = None
    graphs: Annotated[bool, Option(help="Replay steps as CUDA graphs where that is possible.")] = True
    threads: Threads = None
    references: Annotated[
        str, Option(metavar="NAME,…", help="Reference engines to compare with: paper, tight, or none.")
    ] = "paper,tight"
    max_step_tokens: Annotated[int, Option(min=1, help="Bound of the tokens of one step.")] = 4096
    seed: Annotated[int, Option(help="Seed of the frames.")] = 0
    speed: Annotated[
        bool, Option(help="Measure speed, latency and memory; --no-speed leaves --profile, --operations and --trace.")
    ] = True
    profile: Annotated[bool, Option("--profile", help="Break the time of a step down by stages.")] = False
    operations: Annotated[bool, Option("--operations", help="Count the dispatched operations of a step.")] = False
    trace: Annotated[
        Path | None, Option(help="Write a trace of some steps in Chrome's format, for the largest number of streams.")
    ] = None
    json_path: Annotated[Path | None, Option("--json", help="Write the report to this file as well.")] = None
    plot: Annotated[Path | None, Option(help="Draw the figures into this .png, .pdf or .svg file.")] = None


@takes_options(EngineOptions)
def engine(options: EngineOptions) -> None:
    """Measure the engine with random frames, as fast as possible, for some numbers of streams.

    Every stream has frames in its queue at all times. Two plain engines on unmodified Transformers modules, which serve one
    stream at a time, process the same frames in turns: `paper` encodes the whole video first and applies the language head to
    every frame token, `tight` does neither. `python -m mmduet.bench.engine` is the same without the packages of the command.
    """
    from mmduet.bench.engine.output import write_outputs
    from mmduet.bench.engine.run import Extras, run_engine_bench

    check_output_files({"--json": options.json_path, "--trace": options.trace, "--plot": options.plot})
    extras = Extras(speed=options.speed, profile=options.profile, operations=options.operations, trace=options.trace)
    report = run_engine_bench(_bench_options(options), extras, lambda line: typer.echo(line, err=True))
    typer.echo(write_outputs(report, options.json_path, options.plot))


def _bench_options(options: EngineOptions) -> EngineBenchOptions:
    from mmduet.bench.engine.options import EngineBenchOptions, parse_references, parse_streams, parse_window

    return EngineBenchOptions(
        model=options.model,
        device=options.device,
        dtype=options.dtype,
        attention=options.attention,
        kv_dtype=options.kv_dtype,
        quantized=options.quantized,
        quantized_tower=options.quantized_tower,
        graphs=options.graphs,
        streams=parse_streams(options.streams),
        frames=options.frames,
        rounds=options.rounds,
        warm_up=options.warm_up,
        queued=options.queued,
        window=parse_window(options.window),
        speak_rate=options.speak_rate,
        tokens_per_reply=options.tokens_per_reply,
        frame_input="embeds" if options.embeds else "pixels",
        threads=options.threads,
        references=parse_references(options.references),
        max_step_tokens=options.max_step_tokens,
        seed=options.seed,
    )
