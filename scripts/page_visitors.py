"""How many visitors a machine holds, with the server and their browsers on it: one page after the other is added."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from page_driver import OVER, PageDriver
from page_latency import CAMERA_SECONDS, Latency, take_record
from page_setup import (
    CpuMeter,
    Json,
    MeasuredBrowser,
    PageServer,
    Report,
    open_browsers,
    run_page_server,
    show,
    write_scene,
)

MAX_P95_MS = 1000.0
MAX_DROPPED_SHARE = 0.02
RESTART_CHECK_SECONDS = 0.5
SourceKind = Literal["camera", "clip"]


def measure_visitors(
    kind: SourceKind, seconds: float, settle: float, max_visitors: int, model: str, report: Report
) -> None:
    """Add visitors until one of the limits is exceeded, or there are ``max_visitors``.

    After each one ``settle`` seconds pass, then the latency of all is measured for ``seconds``. The figures of each step
    are added to ``report``. A step that exceeds a limit is measured once more.
    """
    with TemporaryDirectory(prefix="measure-page-camera-") as folder:
        camera = write_scene(Path(folder) / "camera.y4m", CAMERA_SECONDS, seed=0)
        with run_page_server(model) as server, open_browsers(1, camera) as (browser,):
            visitors: list[PageDriver] = []
            print_heading()
            while len(visitors) < max_visitors and not report.interrupted:
                visitors.append(_add_visitor(browser, server.url, kind))
                _play(visitors, kind, settle)
                step = _measure_step(visitors, kind, seconds, server, browser)
                if step["exceeded"] and not report.interrupted:  # perhaps by a short disturbance: once more
                    step = _measure_step(visitors, kind, seconds, server, browser)
                report.result = _summarize([*report.samples, step])
                report.add(step)
                print_step(step)
                if step["exceeded"]:
                    break


def _add_visitor(browser: MeasuredBrowser, url: str, kind: SourceKind) -> PageDriver:
    visitor = browser.open_tab(url)
    _start(visitor, kind)
    visitor.wait_for_event("e.type === 'input_frame.scored'")
    return visitor


def _start(visitor: PageDriver, kind: SourceKind) -> None:
    if kind == "camera":
        visitor.start_camera()
    else:
        visitor.start_clip()


def _play(visitors: list[PageDriver], kind: SourceKind, seconds: float) -> None:
    """Wait; clips that have ended are started again."""
    end = time.perf_counter() + seconds
    while (left := end - time.perf_counter()) > 0:
        visitors[0].page.wait_for_timeout(1000 * (left if kind == "camera" else min(left, RESTART_CHECK_SECONDS)))
        for visitor in visitors if kind == "clip" else ():
            if visitor.state in OVER:
                visitor.press("Restart")


def _measure_step(
    visitors: list[PageDriver], kind: SourceKind, seconds: float, server: PageServer, browser: MeasuredBrowser
) -> Json:
    for visitor in visitors:
        take_record(visitor)
    meter = CpuMeter({"server": [server.process], "browser": browser.processes})
    _play(visitors, kind, seconds)
    return _describe_step(visitors, meter, server.errors)


def _describe_step(visitors: list[PageDriver], meter: CpuMeter, problems: Counter[str]) -> Json:
    latency = Latency()
    for visitor in visitors:
        latency.add(take_record(visitor))
        problems.update(visitor.problems)
    states = Counter(visitor.state for visitor in visitors)
    figures = latency.to_dict()
    return {
        "visitors": len(visitors),
        **figures,
        "states": dict(states),
        "cpu_percent_of_a_core": meter.percent(),
        "problems": dict(problems),
        "exceeded": _exceeded_limits(latency, figures, states),
    }


def _exceeded_limits(latency: Latency, figures: Json, states: Counter[str]) -> list[str]:
    """Return which limits a step exceeds."""
    exceeded, p95 = [], figures["frame_to_score_ms"]["p95"]
    if p95 is None or p95 > MAX_P95_MS:
        exceeded.append(f"frame to score p95 is {show(p95)} ms, at most {MAX_P95_MS:.0f} is allowed")
    if latency.dropped_share > MAX_DROPPED_SHARE:
        share, limit = 100 * latency.dropped_share, 100 * MAX_DROPPED_SHARE
        exceeded.append(f"{share:.1f} % of the frames were dropped or not captured, at most {limit:.0f} % is allowed")
    broken = {state: count for state, count in states.items() if state in ("failed", "queued", "retrying")}
    exceeded += [f"{count} visitors are {state}" for state, count in broken.items()]
    return exceeded


def _summarize(steps: list[Json]) -> Json:
    held = [step["visitors"] for step in steps if not step["exceeded"]]
    return {"visitors_held": max(held, default=0), "exceeded": steps[-1]["exceeded"], "problems": steps[-1]["problems"]}


def print_heading() -> None:
    """Print the head of the table."""
    print("frame to score and decision to first word in ms, processor time in % of one core")
    print(
        f"{'visitors':>8}{'score p50':>11}{'p95':>7}{'word p50':>10}{'p95':>7}{'frames':>8}"
        f"{'dropped':>9}{'server':>8}{'browser':>9}"
    )


def print_step(step: Json) -> None:
    """Print a line of the table."""
    score, word, cpu = step["frame_to_score_ms"], step["decision_to_word_ms"], step["cpu_percent_of_a_core"]
    print(
        f"{step['visitors']:>8}{show(score['p50']):>11}{show(score['p95']):>7}{show(word['p50']):>10}{show(word['p95']):>7}"
        f"{step['frames']:>8}{100 * step['dropped_share']:>8.1f}%{cpu['server']:>8.0f}{cpu['browser']:>9.0f}",
        flush=True,
    )


def print_visitors(result: Json) -> None:
    """Print the result."""
    reason = "; ".join(result["exceeded"]) or "no limit was exceeded: allow more with --max-visitors"
    print(f"this machine holds {result['visitors_held']} visitors ({reason})")
