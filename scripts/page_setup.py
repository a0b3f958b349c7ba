"""What the measurements of the live page have in common: server, browsers, a camera, processor time, and the report's file."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
from page_driver import VIEWPORT, PageDriver, start_chromium
from playwright.sync_api import Browser, Error, Playwright, sync_playwright

from mmduet.bench.server_process import server_process
from mmduet.cli.serve import page_url
from mmduet.files import atomic_write
from mmduet.scenes.render import make_render_style, render_frame
from mmduet.scenes.scene_generator import generate_scene
from mmduet.video import VideoWriter

MIB = 2**20
RECORDER = Path(__file__).with_name("page_recorder.js").read_text(encoding="utf-8")
MAX_LOG_CHARS = 4000
CAMERA_FPS = 15
CAMERA_SIZE = 384
Json = dict[str, Any]


@dataclass(frozen=True)
class PageServer:
    """A server with the live page. ``temporary`` is where it keeps uploads, ``log`` the file of its log."""

    url: str
    process: psutil.Process
    temporary: Path
    log: Path

    @property
    def errors(self) -> Counter[str]:
        """The errors that it has logged, without their tracebacks."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return Counter(
            f"server log: {found[:200]}" for found in re.findall(r"^\S+ \S+ (?:ERROR|CRITICAL) (.*)$", text, re.M)
        )

    @property
    def memory_mb(self) -> float:
        """Resident memory in MiB, with that of child processes."""
        return sum(p.memory_info().rss for p in [self.process, *self.process.children(recursive=True)]) / MIB

    @property
    def files(self) -> dict[str, int]:
        """Sizes of all temporary files that are not empty, in bytes, by their names."""
        sizes = {}
        for path in self.temporary.rglob("*"):
            with suppress(FileNotFoundError):
                if path.is_file() and (size := path.stat().st_size):
                    sizes[path.relative_to(self.temporary).as_posix()] = size
        return sizes

    @property
    def upload_mb(self) -> float:
        """Size of all temporary files in MiB."""
        return sum(self.files.values()) / MIB


@contextmanager
def run_page_server(model: str, *arguments: str) -> Iterator[PageServer]:
    """Run ``mmduet serve --page`` in a process of its own, without a limit of load.

    Raises ``ServerError`` if it does not start.
    """
    with TemporaryDirectory(prefix="measure-page-") as folder:
        temporary, log = Path(folder) / "temporary", Path(folder) / "server.log"
        temporary.mkdir()
        options = ("--page", "--model", model, *arguments)
        with server_process(*options, environment={"TMPDIR": str(temporary)}, log=log) as (address, pid):
            yield PageServer(page_url(address), psutil.Process(pid), temporary, log)
        if text := log.read_text(encoding="utf-8", errors="replace").strip():
            print(f"The end of the server's log:\n{text[-MAX_LOG_CHARS:]}", file=sys.stderr)


@dataclass
class MeasuredBrowser:
    """A Chromium with its processes."""

    browser: Browser
    process: psutil.Process

    @property
    def processes(self) -> list[psutil.Process]:
        """All processes of the browser."""
        return [self.process, *self.process.children(recursive=True)]

    @property
    def page_memory_mb(self) -> dict[str, float]:
        """Memory of the processes of the pages in MiB: ``own``, and ``shared`` with the browser.

        Without a GPU, Chromium caches each picture of a video that is drawn in shared memory, up to 512 MiB, which it frees
        when memory is short. This cache grows for minutes; it is not memory that a page holds.
        """
        sizes = [_proportional_mb(p.pid) for p in self.processes if "--type=renderer" in _command(p)]
        return {"own": sum(size["Pss_Anon"] for size in sizes), "shared": sum(size["Pss_Shmem"] for size in sizes)}

    def new_tab(self, url: str) -> PageDriver:
        """Open a tab for a new visitor, without the page at ``url``."""
        return PageDriver(self.browser.new_context(viewport=VIEWPORT), url)

    def open_tab(self, url: str) -> PageDriver:
        """Open the page at ``url`` for a new visitor, wait until it can be used, and record its latency."""
        driver = self.new_tab(url)
        driver.open()
        driver.wait_until_ready()
        driver.page.evaluate(RECORDER)
        return driver


def start_browser(driver: Playwright, camera: Path | None = None) -> MeasuredBrowser:
    """Start Chromium; its camera shows the video ``camera``."""
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    browser = start_chromium(driver, camera)
    new = [p for p in psutil.Process().children(recursive=True) if p.pid not in before and "chrom" in p.name()]
    pids = {p.pid for p in new}
    return MeasuredBrowser(browser, next(p for p in new if p.ppid() not in pids))


@contextmanager
def open_browsers(count: int, camera: Path | None) -> Iterator[list[MeasuredBrowser]]:
    """Run ``count`` browsers that are independent of each other."""
    with sync_playwright() as driver:
        browsers = [start_browser(driver, camera) for _ in range(count)]
        try:
            yield browsers
        finally:
            for browser in browsers:
                with suppress(Error):  # Ctrl-C in a terminal also ends the browsers
                    browser.browser.close()


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _proportional_mb(pid: int) -> Counter[str]:
    """Return the proportional set size of a process by kind in MiB; nothing for a process that has ended."""
    sizes = Counter[str]()
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
            kind, amount = line.split()[:2]
            sizes[kind.rstrip(":")] = int(amount) / 1024
    return sizes


class CpuMeter:
    """Measures the processor time of groups of processes from now on. Processes that end in between do not count."""

    def __init__(self, groups: dict[str, list[psutil.Process]]) -> None:
        self._groups, self._start = groups, time.perf_counter()
        self._before = {name: _cpu_seconds(processes) for name, processes in groups.items()}

    def percent(self) -> dict[str, float]:
        """Return the use of each group in percent of one core."""
        elapsed = time.perf_counter() - self._start
        used: dict[str, float] = {}
        for name, processes in self._groups.items():
            now = _cpu_seconds(processes)
            seconds = sum(value - self._before[name].get(pid, 0.0) for pid, value in now.items())
            used[name] = round(100 * seconds / elapsed, 1)
        return used


def _cpu_seconds(processes: list[psutil.Process]) -> dict[int, float]:
    seconds = {}
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        seconds[process.pid] = times.user + times.system
    return seconds


def write_scene(path: Path, seconds: float, seed: int) -> Path:
    """Write a rendered scene: .mp4 for uploads, .y4m for the camera of Chromium."""
    rng = np.random.default_rng(seed)
    scene, style = generate_scene(rng, seconds), make_render_style(rng, CAMERA_SIZE)
    frames = (render_frame(scene, style, n / CAMERA_FPS, CAMERA_SIZE) for n in range(round(seconds * CAMERA_FPS)))
    if path.suffix == ".y4m":
        _write_y4m(path, frames)
        return path
    with VideoWriter(path, CAMERA_SIZE, CAMERA_SIZE, CAMERA_FPS, gop=CAMERA_FPS) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def _write_y4m(path: Path, frames: Iterator[np.ndarray]) -> None:
    """Write uncompressed video, which costs the browser no time to decode. ``frames`` are RGB images."""
    from av import VideoFrame

    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{CAMERA_SIZE} H{CAMERA_SIZE} F{CAMERA_FPS}:1 Ip A1:1 C420jpeg\n".encode())
        for image in frames:
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(format="yuv420p")
            file.write(b"FRAME\n" + frame.to_ndarray().tobytes())


@dataclass
class Report:
    """Results, which are written to ``path`` after every sample, so that an interruption loses nothing.

    The first Ctrl-C sets ``interrupted``, which ends the measurement; the second one raises ``KeyboardInterrupt``.
    """

    path: Path | None
    measurement: str
    options: Json
    samples: list[Json] = field(default_factory=list)
    result: Json = field(default_factory=dict)
    state: str = "running"
    interrupted: bool = False

    def __post_init__(self) -> None:
        self.started = datetime.now().astimezone().isoformat(timespec="seconds")
        self.save()
        signal.signal(signal.SIGINT, self._on_interrupt)

    def _on_interrupt(self, number: int, frame: object) -> None:
        self.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def add(self, sample: Json) -> None:
        """Append a sample."""
        self.samples.append(sample)
        self.save()

    def save(self) -> None:
        """Write the file."""
        if self.path is None:
            return
        content = {
            "measurement": self.measurement,
            "started": self.started,
            "state": self.state,
            "cores": len(os.sched_getaffinity(0)),
            "options": self.options,
            "result": self.result,
            "samples": self.samples,
        }
        with atomic_write(self.path) as file:
            file.write_text(json.dumps(content, indent=1), encoding="utf-8")


def percentiles(values: list[float]) -> Json:
    """Return number, median, 95th percentile and maximum of values; None without values."""
    if not values:
        return {"count": 0, "p50": None, "p95": None, "max": None}
    p50, p95 = np.percentile(values, (50, 95))
    return {
        "count": len(values),
        "p50": round(float(p50), 1),
        "p95": round(float(p95), 1),
        "max": round(max(values), 1),
    }


def show(value: float | None, digits: int = 0) -> str:
    """Return a number for a table, a hyphen for None."""
    return "-" if value is None else f"{value:.{digits}f}"
