"""``mmduet bench serve``: measurements of a server under load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from mmduet.cli._bench_report import finish_report
from mmduet.cli._loading import ComputeOptions, LoadingOptions, load_engine
from mmduet.cli._options import takes_options
from mmduet.cli._output_files import check_output_files
from mmduet.cli._progress import progress_bar

if TYPE_CHECKING:
    from mmduet.bench.serve import ServeResult

SCENE_SECONDS = 60.0  # of the scene that clients stream


@dataclass(frozen=True, kw_only=True)
class ServeOptions(ComputeOptions):
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
    offer: Annotated[
        int,
        Option(
            metavar="N",
            help="Instead, offer this number of streams at once, more than the server can serve, and measure those that it "
            "admits. Refused streams try again during the first half of --seconds; the second half is measured.",
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

    @property
    def server_arguments(self) -> tuple[str, ...]:
        """The arguments of the server that is started."""
        return ("--model", self.model, *self.compute_arguments)


@takes_options(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Stream to a server and measure how old frames are when they are scored.

    A load is held if 99 % of the frames are scored within the interval between two frames, and none is dropped. The exit status
    is 1 if the load (with --most, even a single stream) is not held, or, with --offer, if a frame in a hundred of the admitted
    streams is older than a second or more than 2 % are dropped. The clients run on this machine and use part of it.
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
    elif options.offer:
        _measure_overload(options, images)
    else:
        _measure_load(options, images)


def _measure_connections(options: ServeOptions, images: list[bytes]) -> None:
    import asyncio

    from mmduet.bench.connection_churn import measure_connection_churn
    from mmduet.bench.server_process import server_process

    count = options.connections
    with server_process(*options.server_arguments) as (address, pid), progress_bar("connecting") as bar:
        churn = measure_connection_churn(address, pid, count, images[0], report=lambda done: bar(done, count))
        result = asyncio.run(churn)
    finish_report(result.to_dict(), options.json_path)


def _measure_overhead(options: ServeOptions, images: list[bytes]) -> None:
    from mmduet.bench.overhead import measure_overhead
    from mmduet.bench.serve import recommended_query
    from mmduet.bench.server_process import server_process

    compute = LoadingOptions(device=options.device, dtype=options.dtype, attention=options.attention)
    engine = load_engine(options.model, compute)
    with server_process(*options.server_arguments) as (address, _):
        result = measure_overhead(address, engine, images, options.query or recommended_query(address))
    finish_report({**result.to_dict(), "faults": []}, options.json_path)


def _measure_overload(options: ServeOptions, images: list[bytes]) -> None:
    from contextlib import ExitStack

    from mmduet.bench.overload import measure_overload
    from mmduet.bench.serve import Load, recommended_query
    from mmduet.bench.server_process import server_process

    with ExitStack() as running:
        address = options.server or running.enter_context(server_process(*options.server_arguments, limit_load=True))[0]
        query = options.query or recommended_query(address, options.key)
        load = Load(options.offer, options.fps, options.seconds, query)
        result = measure_overload(address, load, images, options.key)
    finish_report(result.to_dict(), options.json_path)


def _measure_load(options: ServeOptions, images: list[bytes]) -> None:
    from contextlib import ExitStack
    from dataclasses import replace

    from mmduet.bench.serve import Load, find_max_streams, measure_load, recommended_query
    from mmduet.bench.server_process import server_process
    from mmduet.files import write_json

    first = Load(options.streams, options.fps, options.seconds, options.query)
    with ExitStack() as running:
        address = options.server or running.enter_context(server_process(*options.server_arguments))[0]
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
