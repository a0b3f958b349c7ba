"""Visitors come and go while one page stays open: memory of the server and of that page, and everything that went wrong."""

from __future__ import annotations

import heapq
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urljoin
from urllib.request import urlopen

import numpy as np
from page_driver import RUNNING
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
from page_visit import LEAVE_SECONDS, QUESTIONS, Steps, Visit, VisitError
from playwright.sync_api import Error

MAX_GROWTH = 0.05
JUDGED = {
    "server_mb": "server",
    "page_heap_mb": "JavaScript heap of the page that stays",
    "page_mb": "process of that page",
}
COMPARED_SAMPLES = (
    10  # at the end of the warm-up, and at the end; the server's memory varies by a tenth from one to the next
)
UPLOAD_SECONDS = (3.0, 6.0)
STEP_SECONDS = 0.25
EMPTY_SECONDS = 60.0  # in which the sessions and files of visitors who have left must end
MIB = 2**20


@dataclass
class Visitors:
    """The visitors of a server, each in a browser context of its own."""

    browser: MeasuredBrowser
    url: str
    count: int
    stay: tuple[float, float]
    files: list[Path]
    rng: np.random.Generator
    visits: int = 0
    finished: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    aborted: int = 0

    def __post_init__(self) -> None:
        self._due: list[tuple[float, int, Visit, Steps]] = []  # a heap, by the time of the next step

    @property
    def present(self) -> int:
        """Number of visitors."""
        return len(self._due)

    def act(self, admit: bool = True) -> None:
        """Take the steps that are due; ``admit`` one new visitor if there is a place."""
        if admit and self.present < self.count:
            self._add_visitor()
        while self._due and self._due[0][0] <= time.perf_counter():
            _, number, visit, steps = heapq.heappop(self._due)
            try:
                pause = next(steps, None)
            except (Error, VisitError) as error:
                self._add_problem(error)
                pause = None
            if pause is None:
                self._remove_visitor(visit)
            else:
                heapq.heappush(self._due, (time.perf_counter() + pause, number, visit, steps))

    def _add_problem(self, error: Exception) -> None:
        self.problems[f"visit: {str(error).splitlines()[0][:200]}"] += 1

    def _add_visitor(self) -> None:
        driver = self.browser.new_tab(self.url)
        visit = Visit(driver, self.rng, float(self.rng.uniform(*self.stay)), self.files)
        heapq.heappush(self._due, (time.perf_counter(), self.visits, visit, visit.run()))
        self.visits += 1

    def _remove_visitor(self, visit: Visit) -> None:
        self.finished += 1
        self.actions.update(visit.actions)
        self.problems.update(visit.driver.problems)
        self.aborted += visit.driver.aborted
        try:
            visit.driver.close()
        except Error as error:
            self._add_problem(error)

    def leave(self) -> None:
        """Let all visitors leave at once."""
        for _, _, visit, _ in self._due:
            try:
                visit.driver.leave()
            except Error as error:
                self._add_problem(error)
        time.sleep(LEAVE_SECONDS)
        while self._due:
            self._remove_visitor(heapq.heappop(self._due)[2])


class StayingPage:
    """A page that stays open all the time, with a camera. It is the only one in its browser, whose memory it uses alone.

    It narrates as often as it can, so that its conversation has all the entries that a page keeps before the warm-up ends.
    """

    def __init__(self, browser: MeasuredBrowser, url: str) -> None:
        self.browser, self.driver = browser, browser.open_tab(url)
        self._cdp = self.driver.context.new_cdp_session(self.driver.page)
        self._cdp.send("Performance.enable")
        self._cdp.send("HeapProfiler.enable")
        self.driver.start_camera()
        self.driver.wait_for_event("e.type === 'input_frame.scored'")
        self.driver.drag_threshold(1.0)
        self.latency, self.restarts, self._asked = Latency(), 0, 0

    def sample(self) -> Json:
        """Ask a question, and return the memory after a garbage collection and what was recorded since the last call."""
        self._keep_running()
        for _ in range(2):  # objects with finalisers need a second one
            self._cdp.send("HeapProfiler.collectGarbage")
        metrics = {metric["name"]: metric["value"] for metric in self._cdp.send("Performance.getMetrics")["metrics"]}
        memory, latency = self.browser.page_memory_mb, Latency()
        record = take_record(self.driver)
        latency.add(record)
        self.latency.add(record)
        return {
            "page_heap_mb": round(metrics["JSHeapUsedSize"] / MIB, 2),
            "page_mb": round(memory["own"], 1),
            "page_shared_mb": round(memory["shared"], 1),
            "dom_nodes": int(metrics["Nodes"]),
            "listeners": int(metrics["JSEventListeners"]),
            "page_state": self.driver.state,
            "page_frames": len(latency.server),
            "page_score_p95_ms": latency.to_dict()["frame_to_score_ms"]["p95"],
            "page_dropped_share": round(latency.dropped_share, 4),
        }

    def _keep_running(self) -> None:
        try:
            self._ask_or_restart()
        except Error as error:
            self.driver.problems[f"the page that stays: {str(error).splitlines()[0][:200]}"] += 1

    def _ask_or_restart(self) -> None:
        if self.driver.state in RUNNING:
            self.driver.ask(QUESTIONS[self._asked % len(QUESTIONS)])
            self._asked += 1
        else:
            self.restarts += 1
            self.driver.problems[f"the page that stays was {self.driver.state}"] += 1
            self.driver.start_camera()


@dataclass
class Soak:
    """A run with its samples."""

    server: PageServer
    visitors: Visitors
    page: StayingPage
    warm_up: float
    report: Report

    def __post_init__(self) -> None:
        self.start = time.perf_counter()
        self.meter = CpuMeter({"server": [self.server.process]})

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self.start

    @property
    def problems(self) -> Counter[str]:
        """Everything that went wrong, and how often."""
        return self.visitors.problems + self.page.driver.problems + self.server.errors

    def sample(self) -> None:
        """Add a sample to the report and print it."""
        visitors = self.visitors
        sample = {
            "seconds": round(self.seconds, 1),
            "server_mb": round(self.server.memory_mb, 1),
            **self.page.sample(),
            "sessions": self._fetch_sessions(),
            "visitors": visitors.present,
            "visits": visitors.visits,
            "upload_mb": round(self.server.upload_mb, 2),
            "server_cpu_percent": self.meter.percent()["server"],
            "problems": self.problems.total(),
        }
        self.meter = CpuMeter({"server": [self.server.process]})
        self.report.result = self.summarize([*self.report.samples, sample])
        self.report.add(sample)
        print_sample(sample)

    def summarize(self, samples: list[Json]) -> Json:
        """Return the result so far."""
        visitors, problems = self.visitors, self.problems
        growth = {name: compute_growth(samples, name, self.warm_up) for name in (*JUDGED, "dom_nodes", "listeners")}
        return {
            "visits": visitors.visits,
            "finished_visits": visitors.finished,
            "actions": dict(visitors.actions),
            "growth": growth,
            "page_latency": self.page.latency.to_dict(),
            "page_restarts": self.page.restarts,
            "aborted_requests": visitors.aborted + self.page.driver.aborted,
            "problems": dict(problems),
            "faults": find_faults(growth, problems),
        }

    def _fetch_sessions(self) -> int | None:
        """Return the number of sessions of the server, None if it does not answer."""
        try:
            with urlopen(urljoin(self.server.url, "../v1/stats"), timeout=30) as response:
                return int(json.load(response)["sessions"])
        except OSError as error:
            self.page.driver.problems[f"the server does not answer: {error}"] += 1
            return None

    def check_empty(self) -> None:
        """Let the visitors leave, and check that their sessions and uploads do not remain."""
        self.visitors.leave()
        limit = time.perf_counter() + EMPTY_SECONDS
        sessions, files = self._fetch_sessions(), self.server.files
        while (sessions != 1 or files) and time.perf_counter() < limit and not self.report.interrupted:
            self.page.driver.page.wait_for_timeout(1000)
            sessions, files = self._fetch_sessions(), self.server.files
        left = {"sessions": sessions, "files": files}
        result = self.summarize(self.report.samples)
        result["after_all_have_left"] = left
        if sessions != 1:
            result["faults"].append(
                f"{sessions} sessions remain after all visitors have left, expected that of the page"
            )
        if files:
            result["faults"].append(f"{len(files)} files remain after all visitors have left: {', '.join(files)[:300]}")
        self.report.result = result
        self.report.save()


@dataclass(frozen=True)
class SoakOptions:
    """Options of a run, in seconds; ``visitors`` is their number at a time, each of whom stays for a time within ``stay``.

    A sample is taken each time ``every`` seconds have passed. From ``warm_up`` on memory must not grow.
    """

    seconds: float
    visitors: int
    warm_up: float
    every: float
    stay: tuple[float, float]
    seed: int
    model: str


def measure_soak(options: SoakOptions, report: Report) -> None:
    """Let visitors come and go, and add samples to ``report``."""
    rng, seed = np.random.default_rng(options.seed), options.seed
    with TemporaryDirectory(prefix="measure-page-videos-") as folder:
        camera = write_scene(Path(folder) / "camera.y4m", CAMERA_SECONDS, seed)
        files = [write_scene(Path(folder) / f"{n}.mp4", length, seed + n) for n, length in enumerate(UPLOAD_SECONDS, 1)]
        with run_page_server(options.model) as server, open_browsers(2, camera) as (stays, others):
            group = Visitors(others, server.url, options.visitors, options.stay, files, rng)
            soak = Soak(server, group, StayingPage(stays, server.url), options.warm_up, report)
            print_heading()
            _run(soak, options.seconds, options.every)
            if not report.interrupted:
                soak.check_empty()


def _run(soak: Soak, seconds: float, every: float) -> None:
    next_sample = 0.0
    while soak.seconds < seconds and not soak.report.interrupted:
        if soak.seconds >= next_sample:
            soak.sample()
            next_sample += every
        soak.visitors.act()
        soak.page.driver.page.wait_for_timeout(1000 * STEP_SECONDS)
    if not soak.report.interrupted:
        soak.sample()


def compute_growth(samples: list[Json], name: str, warm_up: float) -> Json:
    """Return the medians of a figure right after ``warm_up`` seconds and at the end, and the growth as a share.

    Each median is of up to ten samples, and of at most half of those after the warm-up. The growth is None if there are
    too few.
    """
    values = [sample[name] for sample in samples if sample["seconds"] >= warm_up]
    if len(values) < 2:
        return {"from": None, "to": None, "growth": None}
    count = min(COMPARED_SAMPLES, len(values) // 2)
    first, last = median(values[:count]), median(values[-count:])
    return {"from": first, "to": last, "growth": round(last / first - 1, 4)}


def find_faults(growth: dict[str, Any], problems: Counter[str]) -> list[str]:
    """Return what is not as it should be."""
    faults = []
    for name, label in JUDGED.items():
        share = growth[name]["growth"]
        if share is None:
            faults.append(f"{label}: too few samples after the warm-up to judge its memory")
        elif share > MAX_GROWTH:
            faults.append(f"{label}: memory grew by {100 * share:.1f} %, at most {100 * MAX_GROWTH:.0f} % is expected")
    return faults + [f"{count} times: {text}" for text, count in problems.most_common()]


def print_heading() -> None:
    """Print the head of the table."""
    print("memory in MiB; heap, nodes and listeners are those of the page that stays; score p95 in ms")
    print(
        f"{'minute':>7}{'server':>8}{'heap':>8}{'page':>8}{'nodes':>8}{'listeners':>11}{'score p95':>11}{'sessions':>10}"
        f"{'visits':>8}{'uploads':>9}{'cpu':>6}{'problems':>10}"
    )


def print_sample(sample: Json) -> None:
    """Print a line of the table."""
    print(
        f"{sample['seconds'] / 60:>7.1f}{sample['server_mb']:>8.0f}{sample['page_heap_mb']:>8.1f}{sample['page_mb']:>8.0f}"
        f"{sample['dom_nodes']:>8}{sample['listeners']:>11}{show(sample['page_score_p95_ms']):>11}"
        f"{show(sample['sessions']):>10}"
        f"{sample['visits']:>8}{sample['upload_mb']:>9.1f}{sample['server_cpu_percent']:>5.0f}%{sample['problems']:>10}",
        flush=True,
    )


def print_soak(result: Json) -> None:
    """Print the result."""
    actions = ", ".join(f"{count} {name}" for name, count in sorted(result["actions"].items())) or "none"
    print(f"{result['finished_visits']} visits; actions: {actions}")
    for name, label in {**JUDGED, "dom_nodes": "DOM nodes", "listeners": "event listeners"}.items():
        figures = result["growth"][name]
        growth = "-" if figures["growth"] is None else f"{100 * figures['growth']:+.1f} %"
        print(f"{label:40}{show(figures['from'], 1):>10}{show(figures['to'], 1):>10}{growth:>10}")
    if left := result.get("after_all_have_left"):
        print(f"after all visitors have left: {left['sessions']} session (1 expected), {len(left['files'])} files")
