"""``mmduet bench``: measure memory, load and robustness on this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from mmduet.cli._bench_capacity import capacity
from mmduet.cli._bench_engine import engine as measure_engine
from mmduet.cli._bench_report import finish_report
from mmduet.cli._bench_serve import SCENE_SECONDS, serve
from mmduet.cli._bench_video import video
from mmduet.cli._loading import (
    MODEL_HELP,
    MODEL_METAVAR,
    Adapter,
    AllowPickle,
    ComputeOptions,
    Device,
    Dtype,
    LoadingOptions,
    find,
    load_engine,
)
from mmduet.cli._options import takes_options
from mmduet.cli._output_files import check_output_files
from mmduet.cli._progress import progress_bar

MEMORY_SECONDS = 6.0  # of a scene, which each session receives
CHAOS_SECONDS = 12  # of that scene, in each iteration of a well-behaved client

app = typer.Typer(help="Measure memory, load and robustness on this machine.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure memory, load and robustness on this machine."""


app.command()(measure_engine)
app.command()(serve)
app.command()(video)
app.command()(capacity)


@dataclass(frozen=True, kw_only=True)
class SoakOptions(LoadingOptions):
    """The options of ``mmduet bench soak``."""

    hours: Annotated[float, Option(help="Hours of video to process, as fast as possible.")] = 24.0
    fps: Annotated[float, Option(min=0.01, help="Frames per second of the stream.")] = 2.0
    model: Annotated[str, Option(metavar=MODEL_METAVAR, help=MODEL_HELP)] = "nano"
    lap_seconds: Annotated[float, Option(min=10.0, max=600.0, help="Seconds of the scene that is repeated.")] = 120.0
    query: Annotated[
        str | None, Option(metavar="TEXT", help="Query at the beginning; by default the model's recommended one.")
    ] = None
    window: Annotated[
        str | None,
        Option(metavar="N|SECONDSs", help="Frames kept in the context; by default the model's recommended window."),
    ] = None
    seed: Annotated[int, Option(help="Seed of the scene.")] = 0
    json_path: Annotated[Path | None, Option("--json", help="Write the report to this file as well.")] = None


@app.command()
@takes_options(SoakOptions)
def soak(options: SoakOptions) -> None:
    """Repeat one scene for hours. Memory, step time and decisions must not change; otherwise the exit status is 1."""
    from dataclasses import replace

    from mmduet.bench.scene_frames import prepared_scene_frames
    from mmduet.bench.soak import run_soak
    from mmduet.engine import recommended_options
    from mmduet.errors import OptionError
    from mmduet.options import parse_window

    check_output_files({"--json": options.json_path})
    hours, fps = options.hours, options.fps
    if not math.isfinite(hours):
        raise OptionError(f"--hours must be a finite number, got {hours}")
    engine = load_engine(options.model, options)
    recommended = engine.model.config.recommended
    session = recommended_options(recommended)
    if options.window is not None:
        session = replace(session, window=parse_window(options.window, fps))
    query = options.query or recommended.query or "Narrate."
    lap = prepared_scene_frames(engine, options.lap_seconds, fps, options.seed)
    with progress_bar("processing") as bar:
        report = run_soak(engine, lap, session, query, fps, round(hours * 3600 * fps), bar)
    finish_report(report.to_dict(), options.json_path)


@app.command("load")
def measure_loading(
    model: Annotated[str, typer.Argument(metavar=MODEL_METAVAR, help=MODEL_HELP)],
    adapter: Adapter = None,
    allow_pickle: AllowPickle = False,
    device: Device = "auto",
    dtype: Dtype = "stored",
) -> None:
    """Load MODEL in a separate process and show peak memory and time. Exit status 1 above 1.2 times the weights.

    The memory is that of the device that the model is on.
    """
    from mmduet.bench.load import MAX_RATIO, measure_load_cost
    from mmduet.model.devices import dtype_name
    from mmduet.model.placement import resolve_placement

    source = find(model, adapter, allow_pickle)
    placement = resolve_placement(source, device, dtype, pickles=allow_pickle)
    cost = measure_load_cost(source, placement, allow_pickle)
    typer.echo(
        f"{cost.weight_bytes / 2**20:.0f} MiB of weights in {dtype_name(placement.dtype)} on {cost.device}, at most "
        f"{cost.device_peak_bytes / 2**20:.0f} MiB while loading: {cost.ratio:.2f} times, {cost.seconds:.1f} s"
    )
    if cost.ratio > MAX_RATIO:
        typer.echo(f"more than {MAX_RATIO} times the weights", err=True)
        raise typer.Exit(1)


@dataclass(frozen=True, kw_only=True)
class ChaosOptions(ComputeOptions):
    """The options of ``mmduet bench chaos``."""

    minutes: Annotated[float, Option(help="Minutes to run.")] = 30.0
    honest: Annotated[int, Option(help="Number of well-behaved clients, whose results are compared.")] = 24
    hostile: Annotated[int, Option("--villains", help="Number of clients that break the protocol.")] = 8
    fps: Annotated[float, Option(help="Frames per second of each well-behaved client.")] = 2.0
    journal: Annotated[
        Path | None, Option(metavar="DIR", help="Journal of the server; for faults of the disk on a small file system.")
    ] = None
    full_disk: Annotated[bool, Option("--full-disk", help="Fill the journal's file system repeatedly.")] = False
    blocked_disk: Annotated[
        bool, Option("--blocked-disk", help="Freeze the journal's file system repeatedly; needs root.")
    ] = False
    clock_jumps: Annotated[
        bool, Option("--clock-jumps", help="Let the server's clock jump by an hour, with libfaketime.")
    ] = False
    dying_source: Annotated[
        bool, Option("--dying-source", help="Let the server read a camera that fails and returns.")
    ] = False
    key_limits: Annotated[
        bool, Option("--key-limits", help="Give each group of clients a key with a limit of sessions.")
    ] = False
    all_faults: Annotated[bool, Option("--all-faults", help="All of these; needs --journal.")] = False
    model: Annotated[str, Option(help="Model of the server.")] = "nano"
    seed: Annotated[int, Option(help="Seed of the scene and of the hostile clients.")] = 0
    json_path: Annotated[Path | None, Option("--json", help="Write the report to this file as well.")] = None


@app.command()
@takes_options(ChaosOptions)
def chaos(options: ChaosOptions) -> None:
    """Run well-behaved clients beside hostile ones, and beside faults of the disk, the clock and a source.

    The clients' results must not change, memory must not grow, and the server must recover from each fault; otherwise the exit
    status is 1.
    """
    import asyncio

    from mmduet.bench.chaos import ChaosConfig, run_chaos
    from mmduet.bench.chaos.setup import DisturbanceOptions, disturbed_server
    from mmduet.bench.scene_frames import encoded_scene_frames
    from mmduet.bench.serve import recommended_query

    check_output_files({"--json": options.json_path})
    switches = ("full_disk", "blocked_disk", "clock_jumps", "dying_source", "key_limits")
    chosen = {name: options.all_faults or getattr(options, name) for name in switches}
    disturbances = DisturbanceOptions(options.journal, **chosen)
    arguments = ("--model", options.model, *options.compute_arguments)
    images = encoded_scene_frames(SCENE_SECONDS, options.fps, options.seed)[
        : max(round(CHAOS_SECONDS * options.fps), 1)
    ]
    with (
        disturbed_server(arguments, options.honest, images, options.fps, disturbances) as server,
        progress_bar("streaming") as bar,
    ):
        config = ChaosConfig(
            options.honest,
            options.hostile,
            options.fps,
            options.minutes,
            images,
            recommended_query(server.url, server.key),
            options.seed,
            server.key,
            server.hostile_key,
        )
        run = run_chaos(server.url, server.pid, config, lambda done: bar(round(done * 1000), 1000), server.disturbances)
        report = asyncio.run(run)
        report.disturbances["log"], faults = server.check_log()
        report.disturbance_faults += faults
    finish_report(report.to_dict(), options.json_path)


@dataclass(frozen=True, kw_only=True)
class MemoryOptions(ComputeOptions):
    """The options of ``mmduet bench memory``."""

    sessions: Annotated[int, Option(min=1, help="Number of sessions that are open at the same time.")] = 300
    rounds: Annotated[int, Option(min=1, help="Number of times that they are opened and closed.")] = 3
    model: Annotated[str, Option(help="Model of the server.")] = "nano"
    seed: Annotated[int, Option(help="Seed of the scene.")] = 0
    json_path: Annotated[Path | None, Option("--json", help="Write the report to this file as well.")] = None


@app.command()
@takes_options(MemoryOptions)
def memory(options: MemoryOptions) -> None:
    """Measure whether a server returns the memory of closed sessions.

    The exit status is 1 if it has more than 1.10 times the memory that it had after 20 sessions, or grows over the rounds.
    """
    import asyncio

    from mmduet.bench.returned_memory import measure_returned_memory
    from mmduet.bench.scene_frames import encoded_scene_frames
    from mmduet.bench.server_process import server_process

    check_output_files({"--json": options.json_path})
    images, arguments = encoded_scene_frames(MEMORY_SECONDS, 2.0, options.seed), options.compute_arguments
    with server_process("--model", options.model, *arguments) as (address, pid), progress_bar("rounds") as bar:
        measurement = measure_returned_memory(address, pid, options.sessions, options.rounds, images, bar)
        result = asyncio.run(measurement)
    finish_report(result.to_dict(), options.json_path)


@app.command()
def neighbours(
    video: Annotated[
        Path | None, Option(metavar="FILE", help="The video; by default a rendered scene of 60 seconds.")
    ] = None,
    runs: Annotated[int, Option(min=1, help="Number of runs under each condition.")] = 3,
    seed: Annotated[int, Option(help="Seed of the scene.")] = 0,
    json_path: Annotated[Path | None, Option("--json", help="Write the report to this file as well.")] = None,
) -> None:
    """Measure how much slower `mmduet caption` is beside one and four busy processes, and beside itself.

    The exit status is 1 if it is more than 1.5, 3 or 2.2 times slower: limits for two CPU cores.
    """
    from contextlib import nullcontext

    from mmduet.bench.neighbours import measure_slowdown
    from mmduet.bench.scene_frames import rendered_scene

    check_output_files({"--json": json_path})
    with (
        rendered_scene(SCENE_SECONDS, seed) if video is None else nullcontext(video) as path,
        progress_bar("measuring") as bar,
    ):
        result = measure_slowdown(path, runs, bar)
    finish_report(result.to_dict(), json_path)


@dataclass(frozen=True, kw_only=True)
class UpgradeOptions(ComputeOptions):
    """The options of ``mmduet bench upgrade``."""

    streams: Annotated[int, Option(help="Number of streams at the same time.")] = 20
    fps: Annotated[float, Option(help="Frames per second of each stream.")] = 2.0
    seconds: Annotated[float, Option(help="Seconds to stream before the upgrade, and after it.")] = 5.0
    model: Annotated[str, Option(help="Model of both servers.")] = "nano"
    seed: Annotated[int, Option(help="Seed of the scene that is streamed.")] = 0
    json_path: Annotated[Path | None, Option("--json", help="Write the report to this file as well.")] = None


@app.command()
@takes_options(UpgradeOptions)
def upgrade(options: UpgradeOptions) -> None:
    """Replace a server by another one on the same journal and port while clients stream.

    Every frame must have one outcome, no reply may come twice, and every stream must be resumed within 5 seconds; otherwise the
    exit status is 1.
    """
    import asyncio

    from mmduet.bench.scene_frames import encoded_scene_frames
    from mmduet.bench.serve import recommended_query
    from mmduet.bench.server_process import upgradable_server
    from mmduet.bench.upgrade import UpgradeConfig, measure_upgrade

    check_output_files({"--json": options.json_path})
    images = encoded_scene_frames(SCENE_SECONDS, options.fps, options.seed)
    with upgradable_server("--model", options.model, *options.compute_arguments) as (address, replace_server):
        config = UpgradeConfig(options.streams, options.fps, options.seconds, images, recommended_query(address))
        report = asyncio.run(measure_upgrade(address, config, lambda: asyncio.to_thread(replace_server)))
    finish_report(report.to_dict(), options.json_path)
