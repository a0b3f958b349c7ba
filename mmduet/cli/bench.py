"""``mmduet bench``: measure memory, load and robustness on this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from mmduet.cli._loading import MODEL_HELP, MODEL_METAVAR, Adapter, AllowPickle, Dtype, Threads, find, load
from mmduet.cli._options import takes_options
from mmduet.cli._output_files import check_output_files
from mmduet.cli._progress import progress_bar

if TYPE_CHECKING:
    from mmduet.bench.serve import ServeResult

SCENE_SECONDS = 60.0  # of the scene that clients stream
MEMORY_SECONDS = 6.0  # of a scene, which each session receives
CHAOS_SECONDS = 12  # of that scene, in each iteration of a well-behaved client

app = typer.Typer(help="Measure memory, load and robustness on this machine.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure memory, load and robustness on this machine."""


@app.command()
def soak(
    hours: Annotated[float, Option(help="Hours of video to process, as fast as possible.")] = 24.0,
    fps: Annotated[float, Option(min=0.01, help="Frames per second of the stream.")] = 2.0,
    model: Annotated[str, Option(metavar=MODEL_METAVAR, help=MODEL_HELP)] = "nano",
    adapter: Adapter = None,
    allow_pickle: AllowPickle = False,
    dtype: Dtype = "float32",
    threads: Threads = None,
    lap_seconds: Annotated[float, Option(min=10.0, max=600.0, help="Seconds of the scene that is repeated.")] = 120.0,
    query: Annotated[
        str | None, Option(metavar="TEXT", help="Query at the beginning; by default the model's recommended one.")
    ] = None,
    window: Annotated[
        str | None,
        Option(metavar="N|SECONDSs", help="Frames kept in the context; by default the model's recommended window."),
    ] = None,
    seed: Annotated[int, Option(help="Seed of the scene.")] = 0,
    json_path: Annotated[Path | None, Option("--json", help="Write the report to this file as well.")] = None,
) -> None:
    """Repeat one scene for hours. Memory, step time and decisions must not change; otherwise the exit status is 1."""
    from dataclasses import replace

    from mmduet.bench.scene_frames import prepared_scene_frames
    from mmduet.bench.soak import run_soak
    from mmduet.engine import Engine, recommended_options
    from mmduet.errors import OptionError
    from mmduet.options import parse_window

    check_output_files({"--json": json_path})
    if not math.isfinite(hours):
        raise OptionError(f"--hours must be a finite number, got {hours}")
    engine = Engine(load(model, adapter, allow_pickle, dtype, threads=threads))
    recommended = engine.model.config.recommended
    options = recommended_options(recommended)
    if window is not None:
        options = replace(options, window=parse_window(window, fps))
    lap = prepared_scene_frames(engine, lap_seconds, fps, seed)
    frame_count = round(hours * 3600 * fps)
    with progress_bar("processing") as bar:
        report = run_soak(engine, lap, options, query or recommended.query or "Narrate.", fps, frame_count, bar)
    _finish(report.to_dict(), json_path)


@app.command("load")
def measure_loading(
    model: Annotated[str, typer.Argument(metavar=MODEL_METAVAR, help=MODEL_HELP)],
    adapter: Adapter = None,
    allow_pickle: AllowPickle = False,
    dtype: Dtype = "stored",
) -> None:
    """Load MODEL in a separate process and show peak memory and time. Exit status 1 above 1.2 times the weights."""
    from mmduet.bench.load import MAX_RATIO, measure_load_cost
    from mmduet.model.inspection import resolve_dtype

    source = find(model, adapter, allow_pickle)
    dtype_name = str(resolve_dtype(dtype, source, allow_pickle)).removeprefix("torch.")
    cost = measure_load_cost(source, dtype_name, allow_pickle)
    typer.echo(
        f"{cost.weight_bytes / 2**20:.0f} MiB of weights in {dtype_name}, at most {cost.peak_bytes / 2**20:.0f} MiB while "
        f"loading: {cost.ratio:.2f} times, {cost.seconds:.1f} s"
    )
    if cost.ratio > MAX_RATIO:
        typer.echo(f"more than {MAX_RATIO} times the weights", err=True)
        raise typer.Exit(1)


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The options of ``mmduet bench serve``."""

    fps: Annotated[float, Option(help="Frames per second of each stream.")] = 2.0
    streams: Annotated[
        int, Option(help="Number of streams at the same time; with --most, the number to start with.")
    ] = 4
    seconds: Annotated[
        float, Option(help="Seconds of one measurement; the first fifth is a warm-up that is not counted.")
    ] = 20.0
    find_max: Annotated[
        bool, Option("--most", help="Find the largest number of streams that the server keeps up with.")
    ] = False
    overhead: Annotated[
        bool, Option("--overhead", help="Measure the time that the server adds to that of the model, with one stream.")
    ] = False
    connections: Annotated[
        int,
        Option(
            "--connects",
            metavar="N",
            help="Instead, open and close this number of sessions, and report their times and memory.",
        ),
    ] = 0
    query: Annotated[
        str | None, Option(metavar="TEXT", help="Query of each stream; by default the model's recommended one.")
    ] = None
    model: Annotated[str, Option(help="Model of the server that is started.")] = "nano"
    server: Annotated[str | None, Option(metavar="URL", help="Measure this server instead of starting one.")] = None
    key: Annotated[
        str | None, Option(envvar="MMDUET_KEY", help="API key of that server, if it requires one.", show_default=False)
    ] = None
    seed: Annotated[int, Option(help="Seed of the scene that is streamed.")] = 0
    json_path: Annotated[Path | None, Option("--json", help="Write the result to this file as well.")] = None


@app.command()
@takes_options(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Stream to a server and measure how old frames are when they are scored.

    A load is held if 99 % of the frames are scored within the interval between two frames, and none is dropped. The exit status
    is 1 if the load (with --most, even a single stream) is not held. The clients run on this machine and use part of it.
    """
    from mmduet.bench.scene_frames import encoded_scene_frames
    from mmduet.errors import OptionError

    check_output_files({"--json": options.json_path})
    if (options.overhead or options.connections) and options.server is not None:
        raise OptionError("--overhead and --connects start a server of their own; leave --server out")
    images = encoded_scene_frames(SCENE_SECONDS, options.fps, options.seed)
    if options.connections:
        _measure_connections(options, images)
    elif options.overhead:
        _measure_overhead(options, images)
    else:
        _measure_load(options, images)


def _measure_connections(options: ServeOptions, images: list[bytes]) -> None:
    import asyncio

    from mmduet.bench.connection_churn import measure_connection_churn
    from mmduet.bench.server_process import server_process

    count = options.connections
    with server_process("--model", options.model) as (address, pid), progress_bar("connecting") as bar:
        churn = measure_connection_churn(address, pid, count, images[0], report=lambda done: bar(done, count))
        result = asyncio.run(churn)
    _finish(result.to_dict(), options.json_path)


def _measure_overhead(options: ServeOptions, images: list[bytes]) -> None:
    from mmduet.bench.overhead import measure_overhead
    from mmduet.bench.serve import recommended_query
    from mmduet.bench.server_process import server_process
    from mmduet.engine import Engine

    engine = Engine(load(options.model))
    with server_process("--model", options.model) as (address, _):
        result = measure_overhead(address, engine, images, options.query or recommended_query(address))
    _finish({**result.to_dict(), "faults": []}, options.json_path)


def _measure_load(options: ServeOptions, images: list[bytes]) -> None:
    from contextlib import ExitStack
    from dataclasses import replace

    from mmduet.bench.serve import Load, find_max_streams, measure_load, recommended_query
    from mmduet.bench.server_process import server_process
    from mmduet.files import write_json

    first = Load(options.streams, options.fps, options.seconds, options.query)
    with ExitStack() as running:
        address = options.server or running.enter_context(server_process("--model", options.model))[0]
        first = replace(first, query=options.query or recommended_query(address, options.key))

        def measure(load: Load) -> ServeResult:
            result = measure_load(address, load, images, options.key)
            typer.echo(_format_result(result))
            return result

        result = find_max_streams(first, measure) if options.find_max else measure(first)
    if result is not None and options.json_path is not None:
        write_json(options.json_path, result.to_dict(), indent=2)
    if result is None or not result.held:
        raise typer.Exit(1)
    if options.find_max:
        typer.echo(f"held: {result.load.streams} streams at {options.fps:g} fps")


def _format_result(result: ServeResult) -> str:
    load = result.load
    return (
        f"{load.streams:4} streams at {load.fps:g} fps: age p50 {result.age_p50:.0f} ms, p99 {result.age_p99:.0f} ms, "
        f"{result.late} late of {result.frames + result.late}, {result.unaccounted} unaccounted; {result.replies} replies, "
        f"first text p50 {result.first_delta_p50:.0f} ms, p99 {result.first_delta_p99:.0f} ms; "
        f"{'held' if result.held else 'not held'}"
    )


@dataclass(frozen=True, kw_only=True)
class ChaosOptions:
    """The options of ``mmduet bench chaos``."""

    minutes: Annotated[float, Option(help="Minutes to run.")] = 30.0
    honest: Annotated[int, Option(help="Number of well-behaved clients, whose results are compared.")] = 24
    hostile: Annotated[int, Option("--villains", help="Number of clients that break the protocol.")] = 8
    fps: Annotated[float, Option(help="Frames per second of each well-behaved client.")] = 2.0
    journal: Annotated[
        Path | None, Option(metavar="DIR", help="Journal of the server; for faults of the disk on a small file system.")
    ] = None
    full_disk: Annotated[bool, Option("--full-disk", help="Fill the journal's file system again and again.")] = False
    blocked_disk: Annotated[
        bool, Option("--blocked-disk", help="Freeze the journal's file system again and again; needs root.")
    ] = False
    clock_jumps: Annotated[
        bool, Option("--clock-jumps", help="Let the server's clock jump by an hour, with libfaketime.")
    ] = False
    dying_source: Annotated[
        bool, Option("--dying-source", help="Let the server read a camera that dies and returns.")
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
    images = encoded_scene_frames(SCENE_SECONDS, options.fps, options.seed)[
        : max(round(CHAOS_SECONDS * options.fps), 1)
    ]
    with (
        disturbed_server(options.model, options.honest, images, options.fps, disturbances) as server,
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
    _finish(report.to_dict(), options.json_path)


@app.command()
def memory(
    sessions: Annotated[int, Option(min=1, help="Number of sessions that are open at the same time.")] = 300,
    rounds: Annotated[int, Option(min=1, help="Number of times that they are opened and closed.")] = 3,
    model: Annotated[str, Option(help="Model of the server.")] = "nano",
    seed: Annotated[int, Option(help="Seed of the scene.")] = 0,
    json_path: Annotated[Path | None, Option("--json", help="Write the report to this file as well.")] = None,
) -> None:
    """Measure whether a server returns the memory of closed sessions.

    The exit status is 1 if it has more than 1.10 times the memory that it had after 20 sessions, or grows over the rounds.
    """
    import asyncio

    from mmduet.bench.returned_memory import measure_returned_memory
    from mmduet.bench.scene_frames import encoded_scene_frames
    from mmduet.bench.server_process import server_process

    check_output_files({"--json": json_path})
    images = encoded_scene_frames(MEMORY_SECONDS, 2.0, seed)
    with server_process("--model", model) as (address, pid), progress_bar("rounds") as bar:
        result = asyncio.run(measure_returned_memory(address, pid, sessions, rounds, images, bar))
    _finish(result.to_dict(), json_path)


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
    _finish(result.to_dict(), json_path)


@app.command()
def upgrade(
    streams: Annotated[int, Option(help="Number of streams at the same time.")] = 20,
    fps: Annotated[float, Option(help="Frames per second of each stream.")] = 2.0,
    seconds: Annotated[float, Option(help="Seconds to stream before the upgrade, and after it.")] = 5.0,
    model: Annotated[str, Option(help="Model of both servers.")] = "nano",
    seed: Annotated[int, Option(help="Seed of the scene that is streamed.")] = 0,
    json_path: Annotated[Path | None, Option("--json", help="Write the report to this file as well.")] = None,
) -> None:
    """Replace a server by another one on the same journal and port while clients stream.

    Every frame must have one outcome, no reply may come twice, and every stream must be resumed within 5 seconds; otherwise the
    exit status is 1.
    """
    import asyncio

    from mmduet.bench.scene_frames import encoded_scene_frames
    from mmduet.bench.serve import recommended_query
    from mmduet.bench.server_process import upgradable_server
    from mmduet.bench.upgrade import UpgradeConfig, measure_upgrade

    check_output_files({"--json": json_path})
    images = encoded_scene_frames(SCENE_SECONDS, fps, seed)
    with upgradable_server("--model", model) as (address, replace_server):
        config = UpgradeConfig(streams, fps, seconds, images, recommended_query(address))
        report = asyncio.run(measure_upgrade(address, config, lambda: asyncio.to_thread(replace_server)))
    _finish(report.to_dict(), json_path)


def _finish(report: dict[str, Any], json_path: Path | None) -> None:
    """Print a report and write it to ``json_path``. Exit with status 1 if it has faults."""
    from mmduet.files import write_json

    for name, value in report.items():
        if name != "faults":
            typer.echo(f"{name:22} {f'{value:.6g}' if isinstance(value, float) else value}")
    if json_path is not None:
        write_json(json_path, report, indent=2)
    for fault in report["faults"]:
        typer.echo(fault, err=True)
    if report["faults"]:
        raise typer.Exit(1)
