"""``mmduet bench capacity``: predict from measured step times how many streams a machine holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Option

from mmduet.cli._options import takes_options
from mmduet.cli._output_files import check_output_files

if TYPE_CHECKING:
    from mmduet.bench.capacity.load import StreamLoad
    from mmduet.bench.capacity.measured_steps import MeasuredStep
    from mmduet.bench.capacity.prediction import Prediction
    from mmduet.bench.capacity.simulation import Wait
    from mmduet.bench.capacity.step_time import AffineStepTime


@dataclass(frozen=True, kw_only=True)
class CapacityOptions:
    """The options of ``mmduet bench capacity``."""

    steps: Annotated[
        Path, Option(metavar="FILE", help="Measured steps: a report of `mmduet bench engine --json FILE`.")
    ]
    streams: Annotated[
        int | None,
        Option(metavar="N", help="Predict this number of streams; by default the largest one that keeps --p99."),
    ] = None
    fps: Annotated[float, Option(help="Frames per second of each stream.")] = 2.0
    p99: Annotated[
        float, Option(help="Longest time in seconds from a frame to its decision that 99 % of the frames must keep.")
    ] = 0.5
    speak_rate: Annotated[float, Option(help="Replies per frame.")] = 0.05
    tokens_per_reply: Annotated[int, Option(help="Tokens of a reply.")] = 16
    frame_tokens: Annotated[
        int | None, Option(metavar="N", help="Tokens of a frame with the text around it; by default as in FILE.")
    ] = None
    arrivals: Annotated[
        Literal["periodic", "poisson"], Option(help="Frames at regular intervals, or independent of each other.")
    ] = "periodic"
    jitter: Annotated[
        float, Option(help="How late a periodic frame arrives at most, as a share of the interval between frames.")
    ] = 0.1
    overhead: Annotated[
        float,
        Option(help="Seconds per frame of other work on the same CPU cores, such as a server's and its clients'."),
    ] = 0.0
    max_step_tokens: Annotated[int, Option(help="Bound of the tokens of one step.")] = 4096
    batching_wait: Annotated[
        bool,
        Option("--batching-wait", help="Let the engine wait before small steps, as a server with `batching_wait`."),
    ] = False
    noise: Annotated[
        bool, Option("--noise/--no-noise", help="Vary the duration of steps as measured, or use its mean.")
    ] = True
    seconds: Annotated[float, Option(help="Seconds to simulate; the first fifth is not counted.")] = 60.0
    seed: Annotated[int, Option(help="Seed of the simulation.")] = 0
    json_path: Annotated[Path | None, Option("--json", help="Write the predictions to this file as well.")] = None


@takes_options(CapacityOptions)
def capacity(options: CapacityOptions) -> None:
    """Predict latencies and the number of streams that an engine holds, by a simulation with measured step times.

    The exit status is 1 if not even one stream, or not the given number of streams, keeps --p99. Decoding, network and server
    are not part of the prediction, except as --overhead.
    """
    from mmduet.bench.capacity.measured_steps import read_steps
    from mmduet.bench.capacity.prediction import SimulationOptions, find_max_streams, predict
    from mmduet.bench.capacity.step_time import fit_step_time

    check_output_files({"--json": options.json_path}, options.steps)
    steps = read_steps(options.steps)
    step_time, load = fit_step_time(steps, with_noise=options.noise), _stream_load(options, steps)
    simulation = SimulationOptions(
        seconds=options.seconds,
        seed=options.seed,
        max_step_tokens=options.max_step_tokens,
        make_wait=_wait_factory(options.batching_wait),
    )
    _print_fit(step_time, steps, load)

    def predict_for(streams: int) -> Prediction:
        prediction = predict(streams, load, step_time, simulation)
        typer.echo(_format_prediction(prediction, options.p99))
        return prediction

    searched = options.streams is None
    found = find_max_streams(predict_for, options.p99) if searched else [predict_for(options.streams or 0)]
    _write_report(options, step_time, load, found)
    if not found[-1].latency_p99 <= options.p99:
        raise typer.Exit(1)
    if searched:
        typer.echo(f"predicted: {found[-1].streams} streams at {options.fps:g} fps")


def _wait_factory(batching_wait: bool) -> Callable[[], Wait]:
    """Return what makes the engine's wait before steps. Only a wait needs the engine's package, and so PyTorch."""
    from mmduet.bench.capacity.simulation import NoWait

    if not batching_wait:
        return NoWait
    from mmduet.engine.batching_wait import BatchingWait

    return BatchingWait


def _stream_load(options: CapacityOptions, steps: Sequence[MeasuredStep]) -> StreamLoad:
    from mmduet.bench.capacity.load import StreamLoad
    from mmduet.bench.capacity.measured_steps import frame_tokens
    from mmduet.errors import OptionError

    tokens = options.frame_tokens or frame_tokens(steps)
    if tokens is None:
        raise OptionError(f"{options.steps} has no step with frames only; give --frame-tokens")
    return StreamLoad(
        fps=options.fps,
        frame_tokens=tokens,
        speak_rate=options.speak_rate,
        tokens_per_reply=options.tokens_per_reply,
        arrivals=options.arrivals,
        jitter=options.jitter,
        overhead=options.overhead,
    )


def _print_fit(step_time: AffineStepTime, steps: Sequence[MeasuredStep], load: StreamLoad) -> None:
    from mmduet.bench.capacity.prediction import utilization_bound
    from mmduet.bench.capacity.step_time import largest_error

    error, size = largest_error(step_time, steps)
    typer.echo(
        f"step: {1000 * step_time.fixed:.3g} ms + {1000 * step_time.per_stream:.3g} ms a stream + "
        f"{1000 * step_time.per_frame:.3g} ms a frame + {1000 * step_time.per_token:.3g} ms a token; from {len(steps)} steps, "
        f"largest error {error:+.0%} at {size.streams} streams, {size.frames} frames and {size.tokens} tokens"
    )
    typer.echo(
        f"frames of {load.frame_tokens} tokens; at most {utilization_bound(load, step_time):.0f} streams by utilization"
    )


def _format_prediction(prediction: Prediction, p99: float) -> str:
    return (
        f"{prediction.streams:5} streams: decision p50 {1000 * prediction.latency_p50:.0f} ms, "
        f"p99 {1000 * prediction.latency_p99:.0f} ms; first token p50 {1000 * prediction.first_token_p50:.0f} ms, "
        f"p99 {1000 * prediction.first_token_p99:.0f} ms; busy {prediction.utilization:.0%}, "
        f"{prediction.streams_per_step:.1f} streams a step; {'held' if prediction.latency_p99 <= p99 else 'not held'}"
    )


def _write_report(
    options: CapacityOptions, step_time: AffineStepTime, load: StreamLoad, found: Sequence[Prediction]
) -> None:
    from mmduet.files import write_json

    if options.json_path is None:
        return
    report: dict[str, Any] = {
        "load": load.to_dict(),
        "step_time": step_time.to_dict(),
        "simulation": {
            "seconds": options.seconds, "seed": options.seed, "max_step_tokens": options.max_step_tokens,
            "batching_wait": options.batching_wait, "noise": options.noise,
        },
        "max_p99": options.p99,
        "predictions": [prediction.to_dict() for prediction in found],
    }  # fmt: skip
    write_json(options.json_path, report, indent=2)
