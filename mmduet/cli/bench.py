"""``mmduet bench``: measurements; how they are made is the business of ``mmduet.bench``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from mmduet.cli._loading import Adapter, AllowPickle, Dtype, load
from mmduet.cli._output_files import check_output_files
from mmduet.cli._progress import progress_bar

if TYPE_CHECKING:
    from mmduet.bench.serve import ServeResult
    from mmduet.engine import Engine
    from mmduet.engine.session import PreparedFrame

app = typer.Typer(help="Measure, on this machine.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure, on this machine."""


@app.command()
def soak(
    hours: Annotated[float, Option(help="Hours of stream, simulated as fast as it goes.")] = 24.0,
    fps: Annotated[float, Option(min=0.01, help="Frames per second of the stream.")] = 2.0,
    model: Annotated[str, Option(help="nano, random:SIZE or a checkpoint directory.")] = "nano",
    adapter: Adapter = None,
    allow_pickle: AllowPickle = False,
    dtype: Dtype = "float32",
    lap_seconds: Annotated[float, Option(min=10.0, max=600.0, help="Length of the scene that recurs.")] = 120.0,
    query: Annotated[
        str | None, Option(metavar="TEXT", help="Asked at the beginning; the model's own by default.")
    ] = None,
    window: Annotated[str | None, Option(metavar="N|SECONDSs", help="In view; the model's own by default.")] = None,
    seed: Annotated[int, Option(help="Of the scene.")] = 0,
    json_path: Annotated[Path | None, Option("--json", help="Write the report here as well.")] = None,
) -> None:
    """Play one scene for hours: memory, step time and decisions must stay. Exit status 1 if they do not."""
    from dataclasses import replace

    from mmduet.bench.soak import run_soak as run
    from mmduet.engine import Engine, recommended_options
    from mmduet.errors import OptionError
    from mmduet.options import parse_window

    check_output_files({"--json": json_path})
    if not math.isfinite(hours):
        raise OptionError(f"hours is {hours}; use a number")
    engine = Engine(load(model, adapter, allow_pickle, dtype))
    best = engine.model.config.recommended
    options = recommended_options(best)
    if window is not None:
        options = replace(options, window=parse_window(window, fps))
    lap = _lap(engine, lap_seconds, fps, seed)
    with progress_bar("watching") as report:
        result = run(
            engine,
            lap,
            options,
            query or best.query or "Narrate.",
            fps,
            round(hours * 3600 * fps),
            report,
        )
    _tell(result.to_dict(), json_path)


@app.command("load")
def measure_loading(
    model: Annotated[str, typer.Argument(help="A checkpoint directory.")],
    adapter: Adapter = None,
    allow_pickle: AllowPickle = False,
    dtype: Dtype = "stored",
) -> None:
    """Load MODEL in a process of its own: memory at its most, and time. Exit status 1 if over 1.2 times the weights."""
    from mmduet.bench.load import MAX_RATIO, measure_load_cost
    from mmduet.model.inspection import resolve_dtype

    number = str(resolve_dtype(dtype, model, allow_pickle)).removeprefix("torch.")
    cost = measure_load_cost(model, number, adapter, allow_pickle)
    typer.echo(
        f"{cost.weight_bytes / 2**20:.0f} MiB of weights in {number}, at most {cost.peak_bytes / 2**20:.0f} MiB while "
        f"loading: {cost.ratio:.2f} times, {cost.seconds:.1f} s"
    )
    if cost.ratio > MAX_RATIO:
        typer.echo(f"more than {MAX_RATIO} times the weights", err=True)
        raise typer.Exit(1)


@app.command()
def serve(
    fps: Annotated[float, Option(help="Frames per second of each stream.")] = 2.0,
    streams: Annotated[int, Option(help="Streams at once; the first try, with --most.")] = 4,
    seconds: Annotated[float, Option(help="Length of a try; its first fifth is not counted.")] = 20.0,
    most: Annotated[bool, Option("--most", help="Find the most streams that are held.")] = False,
    overhead: Annotated[bool, Option("--overhead", help="One stream: what the server adds to the engine.")] = False,
    connects: Annotated[int, Option(metavar="N", help="Open and close this many sessions instead.")] = 0,
    query: Annotated[str | None, Option(metavar="TEXT", help="Asked by each; the model's own by default.")] = None,
    model: Annotated[str, Option(help="What the server that is started runs.")] = "nano",
    server: Annotated[str | None, Option(metavar="URL", help="Measure this one instead of starting one.")] = None,
    key: Annotated[str | None, Option(envvar="MMDUET_KEY", help="Key for it.", show_default=False)] = None,
    seed: Annotated[int, Option(help="Of the scene that is streamed.")] = 0,
    json_path: Annotated[Path | None, Option("--json", help="Write the result here as well.")] = None,
) -> None:
    """Stream to a server and tell how old frames get. Held: 99 of 100 scored within a frame's time, none dropped.

    Exit status 1 if the load (or, with --most, a single stream) is not held. Clients run on this machine and take their share.
    """
    from contextlib import ExitStack

    from mmduet.bench.serve import Load, find_max_streams, measure_load
    from mmduet.bench.server_process import server_process
    from mmduet.errors import OptionError
    from mmduet.files import write_json

    check_output_files({"--json": json_path})
    if (overhead or connects) and server is not None:
        raise OptionError("--overhead and --connects measure a server of their own; leave --server out")
    if connects:
        return _come_and_go(connects, model, _stills(fps, seed)[0], json_path)
    if overhead:
        return _compare(model, _stills(fps, seed), query, json_path)
    pictures = _stills(fps, seed)
    with ExitStack() as running:
        address = server or running.enter_context(server_process("--model", model))[0]
        load = Load(streams, fps, seconds, query or _query_of(address, key))

        def report(result: ServeResult) -> None:
            typer.echo(_line(result))

        if most:
            result = find_max_streams(address, load, pictures, key, report)
        else:
            result = measure_load(address, load, pictures, key)
            report(result)
    if result is not None and json_path is not None:
        write_json(json_path, result.to_dict(), indent=2)
    if result is None or not result.held:
        raise typer.Exit(1)
    if most:
        typer.echo(f"held: {result.load.streams} streams at {fps:g} fps")
    return None


def _come_and_go(count: int, model: str, picture: bytes, json_path: Path | None) -> None:
    import asyncio

    from mmduet.bench.connection_churn import measure_connection_churn
    from mmduet.bench.server_process import server_process

    with server_process("--model", model) as (address, pid), progress_bar("connecting") as bar:
        result = asyncio.run(
            measure_connection_churn(address, pid, count, picture, report=lambda done: bar(done, count))
        )
    _tell(result.to_dict(), json_path)


def _compare(model: str, pictures: list[bytes], query: str | None, json_path: Path | None) -> None:
    from mmduet.bench.overhead import measure_overhead
    from mmduet.bench.server_process import server_process
    from mmduet.engine import Engine

    loaded = load(model)
    with server_process("--model", model) as (address, _):
        result = measure_overhead(address, Engine(loaded), pictures, query or _query_of(address, None))
    _tell({**result.to_dict(), "faults": []}, json_path)


@app.command()
def chaos(
    minutes: Annotated[float, Option(help="How long.")] = 30.0,
    honest: Annotated[int, Option(help="Clients whose every score is compared.")] = 24,
    hostile: Annotated[int, Option("--villains", help="Clients that break the protocol.")] = 8,
    fps: Annotated[float, Option(help="Frames per second of each honest stream.")] = 2.0,
    model: Annotated[str, Option(help="What the server runs.")] = "nano",
    seed: Annotated[int, Option(help="Seed of the scene and of the hostile clients.")] = 0,
    json_path: Annotated[Path | None, Option("--json", help="Write the report here as well.")] = None,
) -> None:
    """Run well-behaved clients beside hostile ones.

    Their results must not change and memory must not grow; otherwise the exit status is 1.
    """
    import asyncio

    from mmduet.bench.chaos import ChaosConfig
    from mmduet.bench.chaos import run_chaos as run
    from mmduet.bench.server_process import server_process

    check_output_files({"--json": json_path})
    pictures = _stills(fps, seed)[: max(round(12 * fps), 1)]
    with server_process("--model", model) as (address, pid), progress_bar("streaming") as bar:
        plot = ChaosConfig(honest, hostile, fps, minutes, pictures, _query_of(address, None), seed)
        result = asyncio.run(run(address, pid, plot, lambda done: bar(round(done * 1000), 1000)))
    _tell(result.to_dict(), json_path)


def _tell(report: dict[str, Any], json_path: Path | None) -> None:
    """Show a report, write it, and leave with status 1 if there is something among its faults."""
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


def _line(result: ServeResult) -> str:
    load = result.load
    return (
        f"{load.streams:4} streams at {load.fps:g} fps: age p50 {result.age_p50:.0f} ms, p99 {result.age_p99:.0f} ms, "
        f"{result.late} late of {result.frames + result.late}, {result.unaccounted} unaccounted; {result.replies} replies, "
        f"first words p50 {result.first_delta_p50:.0f} ms, p99 {result.first_delta_p99:.0f} ms; "
        f"{'held' if result.held else 'not held'}"
    )


def _query_of(address: str, key: str | None) -> str:
    from mmduet.client import RemoteStream

    with RemoteStream(address, key=key) as stream:
        return stream.session.duet.query or "Narrate."


def _stills(fps: float, seed: int) -> list[bytes]:
    """A scene's frames as JPEG."""
    from tempfile import TemporaryDirectory

    from mmduet.annotations.scene_files import read_clips
    from mmduet.client.images import encode_image
    from mmduet.scenes import SplitSpec, make_split
    from mmduet.video import open_frames

    with TemporaryDirectory() as folder:
        make_split(folder, SplitSpec("test", 1, seed, 60.0, 60.0))
        video = Path(folder) / "videos" / read_clips(folder)[0]["video"]
        return [encode_image(frame.image).data for frame in open_frames(video, fps)]


def _lap(engine: Engine, seconds: float, fps: float, seed: int) -> list[PreparedFrame]:
    """A scene's frames, ready for the tower."""
    from tempfile import TemporaryDirectory

    from mmduet.annotations.scene_files import read_clips
    from mmduet.scenes import SplitSpec, make_split
    from mmduet.video import open_frames

    with TemporaryDirectory() as folder:
        make_split(folder, SplitSpec("test", 1, seed, seconds, seconds))
        video = Path(folder) / "videos" / read_clips(folder)[0]["video"]
        return [engine.prepare(frame) for frame in open_frames(video, fps)]
