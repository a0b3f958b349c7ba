"""``mmduet bench video``: how fast a video file is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from mmduet.cli._options import takes_options
from mmduet.cli._output_files import check_output_files
from mmduet.cli._progress import progress_bar

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mmduet.bench.video import VideoBenchResult


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """The options of ``mmduet bench video``."""

    file: Annotated[Path | None, Argument(metavar="FILE", help="The video to decode; or use --make.")] = None
    make: Annotated[bool, Option("--make", help="Measure a video that is made: a moving pattern with noise.")] = False
    fps: Annotated[float, Option(help="Frames per second that are sampled.")] = 2.0
    size: Annotated[int, Option(help="Side in pixels of the model's input.")] = 384
    rounds: Annotated[int, Option(help="Number of times that each mode is measured, alternately.")] = 5
    threads: Annotated[int | None, Option(help="Threads of the decoder; by default 2, at most the CPU cores.")] = None
    encoder: Annotated[str, Option(help="With --make, FFmpeg's encoder, such as libx264, libx265 or libsvtav1.")] = (
        "libx264"
    )
    resolution: Annotated[str, Option(metavar="WIDTHxHEIGHT", help="With --make, the size of the video.")] = "1280x720"
    seconds: Annotated[int, Option(help="With --make, the duration of the video.")] = 20
    group: Annotated[int, Option(help="With --make, the number of frames from one key frame to the next.")] = 250
    json_path: Annotated[Path | None, Option("--json", help="Write the result to this file as well.")] = None


@takes_options(VideoOptions)
def video(options: VideoOptions) -> None:
    """Measure how fast a video is decoded: every frame, sampled, letterboxed, and one frame in ten seconds.

    Each mode is compared with a plain loop over the packets of PyAV, the limit of the codec, in the same run. Each reads the
    whole file, with opening it.
    """
    from mmduet.bench.video import VideoBenchOptions, measure_decoding
    from mmduet.files import write_json

    check_output_files({"--json": options.json_path})
    settings = VideoBenchOptions(options.fps, options.size, options.rounds, options.threads)
    with _source(options) as path, progress_bar("decoding") as bar:
        result = measure_decoding(path, settings, bar)
    _print_result(result)
    if options.json_path is not None:
        write_json(options.json_path, result.to_dict(), indent=2)


def _source(options: VideoOptions) -> AbstractContextManager[Path]:
    """Return the file to measure, for a block."""
    from contextlib import nullcontext

    from mmduet.bench.video import SyntheticVideo, synthetic_video
    from mmduet.errors import OptionError

    if (options.file is not None) == options.make:
        raise OptionError("give either a FILE or --make")
    if options.file is not None:
        return nullcontext(options.file)
    width, height = _parse_resolution(options.resolution)
    return synthetic_video(SyntheticVideo(options.encoder, width, height, options.seconds, options.group))


def _parse_resolution(text: str) -> tuple[int, int]:
    from mmduet.errors import OptionError

    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise OptionError(f"--resolution must be WIDTHxHEIGHT, such as 1280x720, got {text!r}")
    return int(width), int(height)


def _print_result(result: VideoBenchResult) -> None:
    rate = "an unknown rate" if result.file_fps is None else f"{result.file_fps:.6g} fps"
    typer.echo(
        f"{result.codec} {result.width}x{result.height} at {rate}, {result.duration:.2f} s; decoder threads: {result.threads}; "
        f"peak memory: {result.peak_bytes / 2**20:.0f} MiB"
    )
    typer.echo(f"{'mode':12} {'seconds':>9} {'x real time':>12} {'x codec':>8} {'frames':>7} {'packets':>8}")
    for name, mode in result.modes.items():
        typer.echo(
            f"{name:12} {mode.seconds:9.3f} {mode.times_real_time:12.1f} {mode.ratio:8.2f} {mode.frames:7} {mode.packets:8}"
        )
