"""The figures of a measurement, as JSON values and as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mmduet.bench.engine.limits import FORMULA, MachineLimit, StepLoad
from mmduet.bench.engine.measurement import StreamMeasurement
from mmduet.bench.engine.streams import StepRecord

COLUMNS = (
    ("streams", "streams"), ("frames/s", "frames_per_second"), ("step p50 ms", "step_ms.p50"),
    ("step p99 ms", "step_ms.p99"), ("first token ms", "first_token_ms.p50"), ("tokens/s", "tokens_per_second"),
    ("MiB/stream", "slot_mib"), ("occupancy", "batch_occupancy"), ("of limit", "frame_step.fraction_of_limit"),
    ("x paper", "ratios.paper.median"), ("x tight", "ratios.tight.median"),
)  # fmt: skip


def limit_dict(machine: MachineLimit, frame: StepLoad, token: StepLoad) -> dict[str, Any]:
    """Return the limit of this machine and model under the names of the report."""
    return {
        "formula": FORMULA,
        "gemm_flops": machine.gemm_flops,
        "gemm_method": machine.gemm_method,
        "copy_bytes": machine.copy_bytes,
        "frame": {"operations": frame.operations, "weight_bytes": frame.weight_bytes},
        "token": {"operations": token.operations, "weight_bytes": token.weight_bytes},
    }


def measurement_dict(
    found: StreamMeasurement, machine: MachineLimit, frame: StepLoad, token: StepLoad
) -> dict[str, Any]:
    """Return the figures of one number of streams under the names of the report. Times are wall times."""
    steps = [step for record in found.rounds for step in record.steps]
    first = [seconds for record in found.rounds for seconds in record.first_token_seconds]
    return {
        "streams": found.streams,
        "frames_per_second": _median(record.frames_per_second for record in found.rounds),
        "tokens_per_second": _median(record.tokens_per_second for record in found.rounds),
        "step_ms": _quantiles_ms([step.seconds for step in steps]),
        "frame_step": _step_figures(steps, "frames", found.streams, machine, frame),
        "token_step": _step_figures(steps, "tokens", found.streams, machine, token),
        "first_token_ms": _quantiles_ms(first),
        "batch_occupancy": float(np.mean([step.streams for step in steps])) / found.streams,
        "resident_mib_per_stream": found.resident_bytes / found.streams / 2**20,
        "slot_mib": found.slot_bytes / 2**20,
        "peak_mib": None if found.peak_bytes is None else found.peak_bytes / 2**20,
        "ratios": {name: _ratios(found, name) for name in found.references},
        "references": {
            name: {
                "frames_per_second": _median(each.frames_per_second for each in rounds),
                "score_difference": found.agreement[name].score_difference,
                "equal_replies": found.agreement[name].equal_replies,
                "replies": found.agreement[name].replies,
            }
            for name, rounds in found.references.items()
        },
        "steps": [_step_dict(step) for step in steps],
    }


def format_table(runs: Sequence[dict[str, Any]]) -> str:
    """Return the most important figures as a table, one line for each number of streams."""
    names = [name for name, _ in COLUMNS]
    rows = [names, *([_format(_lookup(run, path)) for _, path in COLUMNS] for run in runs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(names))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def format_extras(runs: Sequence[dict[str, Any]]) -> str:
    """Return profiles and counts of operations as text; empty without them."""
    return "\n".join(line for run in runs for part in ("profile", "operations") for line in _format_part(run, part))


def _format_part(run: dict[str, Any], part: str) -> Iterator[str]:
    for step, found in run.get(part, {}).items():
        title = f"{run['streams']} streams, {step.replace('_', ' ')}: "
        if part == "profile":
            yield f"{title}{found['wall_ms']:.2f} ms, of which Python {found['python_fraction']:.0%}; stages in ms:"
            stages = {name: f"{value:.2f}" for name, value in found["stages_ms"].items()}
        else:
            yield f"{title}{found['total']} operations; stages:"
            stages = {name: str(value) for name, value in found["stages"].items()}
        yield "  " + ", ".join(f"{name} {value}" for name, value in stages.items())


def _step_figures(
    steps: Sequence[StepRecord], kind: str, streams: int, machine: MachineLimit, load: StepLoad
) -> dict[str, Any] | None:
    """Return the times of the steps in which all streams did the same, and how near they are to the limit."""
    seconds = [step.seconds for step in steps if step.kind == kind and step.streams == streams]
    if not seconds:
        return None
    limit = load.limit_seconds(machine, streams)
    return {
        "count": len(seconds),
        **_quantiles_ms(seconds),
        "limit_ms": 1000 * limit,
        "fraction_of_limit": limit / float(np.median(seconds)),
    }


def _ratios(found: StreamMeasurement, name: str) -> dict[str, float]:
    """Return the engine's frames per second divided by a reference's, round by round."""
    rounds = zip(found.rounds, found.references[name], strict=True)
    ratios = [ours.frames_per_second / theirs.frames_per_second for ours, theirs in rounds]
    return {"median": float(np.median(ratios)), "min": min(ratios), "max": max(ratios)}


def _step_dict(step: StepRecord) -> dict[str, Any]:
    return {
        "streams": step.streams,
        "frames": step.frames,
        "tokens": step.tokens,
        "sampled": step.sampled,
        "seconds": step.seconds,
    }


def _quantiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return median and 99th percentile in milliseconds; empty without values."""
    if not seconds:
        return {}
    p50, p99 = np.quantile(seconds, [0.5, 0.99])
    return {"p50": 1000 * float(p50), "p99": 1000 * float(p99)}


def _median(values: Any) -> float:
    return float(np.median(list(values)))


def _lookup(values: Any, path: str) -> Any:
    """Return the value at a dotted path, None if a part of it is missing."""
    for name in path.split("."):
        values = None if values is None else values.get(name)
    return values


def _format(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) and value < 100 else f"{value:.0f}"
