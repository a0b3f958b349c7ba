"""Measure the live page in a real browser, with a server of its own. Needs mmduet[demo], Playwright and Chromium.

latency   one visitor with a camera: from a frame to its score on the page, and from the decision to the first word
visitors  visitors are added one by one: how many this machine holds, with the server and all browsers on it
soak      visitors come and go for an hour: does the memory of the server, or of a page that stays open, grow?

    python scripts/measure_page.py latency --seconds 60 --json latency.json

The JSON file is written after every sample. Ctrl-C ends a measurement and keeps what was measured. The exit status is 1 if a
target is missed or if anything went wrong in a page.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "test" / "webpage" / "support"))  # of page_driver

from page_latency import latency_faults, measure_latency, print_latency
from page_setup import Report
from page_soak import SoakOptions, measure_soak, print_soak
from page_visitors import measure_visitors, print_visitors


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--model", default="nano", help="model to serve (nano)")
    common.add_argument("--json", type=Path, metavar="FILE", help="file for the results and all samples")
    commands = parser.add_subparsers(dest="measurement", required=True)
    latency = commands.add_parser("latency", parents=[common], help="latency of one visitor with a camera")
    latency.add_argument("--seconds", type=float, default=60.0, help="duration (60)")
    latency.add_argument("--warm-up", type=float, default=5.0, help="seconds before the measurement (5)")
    visitors = commands.add_parser("visitors", parents=[common], help="number of visitors that this machine holds")
    visitors.add_argument("--source", choices=("camera", "clip"), default="camera", help="what they watch (camera)")
    visitors.add_argument("--seconds", type=float, default=20.0, help="duration of each step (20)")
    visitors.add_argument("--settle", type=float, default=5.0, help="seconds before each step (5)")
    visitors.add_argument("--max-visitors", type=int, default=64, help="most visitors to add (64)")
    soak = commands.add_parser("soak", parents=[common], help="memory while visitors come and go")
    soak.add_argument("--minutes", type=float, default=60.0, help="duration (60)")
    soak.add_argument("--visitors", type=int, default=8, help="visitors at a time, beside the page that stays (8)")
    soak.add_argument(
        "--warm-up", type=float, help="minutes after which memory must not grow (10, or a sixth of the duration)"
    )
    soak.add_argument("--every", type=float, default=60.0, help="seconds between two samples (60)")
    soak.add_argument(
        "--stay", type=float, nargs=2, default=(20.0, 90.0), metavar=("MIN", "MAX"), help="seconds of a visit (20 90)"
    )
    soak.add_argument("--seed", type=int, default=0, help="seed of what visitors do (0)")
    return parser.parse_args()


def _measure(options: argparse.Namespace, report: Report) -> None:
    if options.measurement == "latency":
        measure_latency(options.seconds, options.warm_up, options.model, report)
    elif options.measurement == "visitors":
        source, limits = options.source, (options.seconds, options.settle, options.max_visitors)
        measure_visitors(source, *limits, options.model, report)
    else:
        warm_up = min(10.0, options.minutes / 6) if options.warm_up is None else options.warm_up
        times = (60 * options.minutes, options.visitors, 60 * warm_up, options.every, tuple(options.stay))
        measure_soak(SoakOptions(*times, options.seed, options.model), report)


def _print_result(report: Report) -> list[str]:
    """Print the result and return what is not as it should be."""
    result = report.result
    if not result:
        return ["nothing was measured"]
    if report.measurement == "latency":
        print_latency(result)
        return latency_faults(result)
    if report.measurement == "visitors":
        print_visitors(result)
        return [f"{count} times: {text}" for text, count in result["problems"].items()]
    print_soak(result)
    return list(result["faults"])


def main() -> None:
    """Run a measurement."""
    options = _parse_arguments()
    settings = {name: value for name, value in vars(options).items() if name not in ("json", "measurement")}
    report = Report(options.json, options.measurement, settings)
    try:
        _measure(options, report)
        report.state = "interrupted" if report.interrupted else "finished"
    except BaseException as error:
        report.state = "interrupted" if report.interrupted else f"failed: {error}"
        if not report.interrupted:
            raise
    finally:
        report.save()
    print(report.state, file=sys.stderr)
    faults = _print_result(report)
    for fault in faults:
        print(f"✗ {fault}")
    sys.exit(1 if faults or report.state != "finished" else 0)


if __name__ == "__main__":
    main()
