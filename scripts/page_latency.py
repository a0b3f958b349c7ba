"""Latency of one visitor's camera: from a frame to its score on the page, and from the decision to the first word."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from page_driver import RUNNING, PageDriver
from page_setup import CpuMeter, Json, Report, open_browsers, percentiles, run_page_server, show, write_scene

CAMERA_SECONDS = 20.0
SAMPLE_SECONDS = 5.0
TARGET_MS = 300.0


@dataclass
class Latency:
    """What the pages of visitors have recorded, in milliseconds.

    ``displayed`` is from the capture of a frame to the display of its score, ``arrived`` to the arrival of its score, and
    ``server`` the server's part of it. ``words`` are from the decision to the first word, ``frame_words`` from the capture
    of the frame that triggered it. Frames that the server reads have only the times that the server measures.
    """

    displayed: list[float] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    words: list[float] = field(default_factory=list)
    frame_words: list[float] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, record: Json) -> None:
        """Add what ``takeRecord`` of ``page_recorder.js`` returned."""
        for frame in record["frames"]:
            self.server.append(frame["server"])
            if frame["arrived"] is not None:
                self.arrived.append(frame["arrived"])
            if frame["displayed"] is not None:
                self.displayed.append(frame["displayed"])
        for word in record["words"]:
            self.words.append(word["decision"])
            if word["frame"] is not None:
                self.frame_words.append(word["frame"])
        self.dropped.update(record["dropped"])
        if record["notCaptured"]:
            self.dropped["not_captured"] += record["notCaptured"]
        self.errors.update(record["errors"])

    @property
    def frame_to_score(self) -> list[float]:
        """The times to the display of a score, or those of the server if the browser captured no frame."""
        return self.displayed or self.server

    @property
    def dropped_share(self) -> float:
        """Share of all frames that have no score, including those that the browser was too busy to capture."""
        dropped = sum(self.dropped.values())
        return dropped / max(dropped + len(self.server), 1)

    def to_dict(self) -> Json:
        """Return the figures of a report."""
        return {
            "frames": len(self.server),
            "frame_to_score_ms": percentiles(self.frame_to_score),
            "frame_to_score_event_ms": percentiles(self.arrived),
            "server_part_ms": percentiles(self.server),
            "decision_to_word_ms": percentiles(self.words),
            "frame_to_word_ms": percentiles(self.frame_words),
            "dropped": dict(self.dropped),
            "dropped_share": round(self.dropped_share, 4),
            "errors": dict(self.errors),
        }


def take_record(driver: PageDriver) -> Json:
    """Return what a page has recorded since the last call."""
    record: Json = driver.page.evaluate("window.takeRecord()")
    return record


def measure_latency(seconds: float, warm_up: float, model: str, report: Report) -> None:
    """Measure one visitor with a camera for ``seconds``, after ``warm_up`` seconds. Results are added to ``report``."""
    with TemporaryDirectory(prefix="measure-page-camera-") as folder:
        camera = write_scene(Path(folder) / "camera.y4m", CAMERA_SECONDS, seed=0)
        with run_page_server(model) as server, open_browsers(1, camera) as (browser,):
            driver = browser.open_tab(server.url)
            driver.start_camera()
            driver.wait_for_event("e.type === 'input_frame.scored'")
            driver.page.wait_for_timeout(1000 * warm_up)
            take_record(driver)
            groups = {"server": [server.process], "browser": browser.processes}
            meter, latency = CpuMeter(groups), Latency()
            end = time.perf_counter() + seconds
            while (left := end - time.perf_counter()) > 0 and not report.interrupted:
                driver.page.wait_for_timeout(1000 * min(left, SAMPLE_SECONDS))
                record = take_record(driver)
                latency.add(record)
                report.result = {
                    **latency.to_dict(),
                    "cpu_percent_of_a_core": meter.percent(),
                    "server_mb": round(server.memory_mb, 1),
                    "page_mb": round(browser.page_memory_mb["own"], 1),
                    "load_average": round(os.getloadavg()[0], 2),
                    "machine_cpu_percent": psutil.cpu_percent(),
                    "state": driver.state,
                    "problems": dict(driver.problems + server.errors),
                }
                sample = Latency()
                sample.add(record)
                report.add({"seconds": round(seconds - max(end - time.perf_counter(), 0), 1), **sample.to_dict()})
                print(f"{len(latency.server)} frames scored, {driver.state}", flush=True)
            if driver.state not in RUNNING:
                latency.errors[f"the session is {driver.state}"] += 1


def latency_faults(result: Json) -> list[str]:
    """Return what is not as it should be."""
    p95 = result["frame_to_score_ms"]["p95"]
    faults = (
        []
        if p95 is not None and p95 <= TARGET_MS
        else [f"frame to score p95 is {show(p95)} ms, expected {TARGET_MS:.0f} at most"]
    )
    faults += [f"{count} times: {text}" for text, count in {**result["errors"], **result["problems"]}.items()]
    return faults


def print_latency(result: Json) -> None:
    """Print the table."""
    rows = (
        ("frame captured to score on the page", "frame_to_score_ms"),
        ("frame captured to arrival of its score", "frame_to_score_event_ms"),
        ("  of this in the server", "server_part_ms"),
        ("decision to first word", "decision_to_word_ms"),
        ("frame captured to first word", "frame_to_word_ms"),
    )
    print(f"{'milliseconds':40}{'p50':>8}{'p95':>8}{'max':>8}{'count':>8}")
    for label, name in rows:
        figures = result[name]
        print(
            f"{label:40}{show(figures['p50']):>8}{show(figures['p95']):>8}{show(figures['max']):>8}{figures['count']:>8}"
        )
    print_shares(result)
    cpu = result["cpu_percent_of_a_core"]
    print(f"processor time in % of one core: server {cpu['server']:.0f}, browser {cpu['browser']:.0f}")
    print(f"memory in MiB: server {result['server_mb']:.0f}, page {result['page_mb']:.0f}")


def print_shares(result: Json) -> None:
    """Print how many frames were scored and dropped."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(result["dropped"].items())) or "none"
    print(f"frames: {result['frames']} scored; dropped: {reasons} ({100 * result['dropped_share']:.1f} %)")
