"""A visit to the live page as a generator of the seconds to wait between its steps, so that many visits share one thread."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from page_driver import OVER, PageDriver

QUESTIONS = ("Narrate the scene.", "Tell me when something touches something.", "What does the red square do?")
TASKS = (("Captions with times", ""), ("When is it?", "When is something red in view?"), ("Highlights", ""))
POLL_SECONDS = 0.5
MAX_WAIT_SECONDS = 60.0
MAX_PAUSE_SECONDS = 8.0
LEAVE_SECONDS = 1.0  # in which the page can close its session and delete its uploads
Steps = Iterator[float]


class VisitError(Exception):
    """The page did not do what a visitor expected in time."""


class Visit:
    """One visitor: starts a clip or the camera, uses everything that the page offers in random order, and leaves.

    ``files`` are videos to upload. ``actions`` counts what was done.
    """

    def __init__(self, driver: PageDriver, rng: np.random.Generator, seconds: float, files: list[Path]) -> None:
        self.driver, self.actions = driver, Counter[str]()
        self._rng, self._seconds, self._files = rng, seconds, files

    def run(self) -> Steps:
        """Yield seconds to wait. Raises ``VisitError``, and Playwright's errors."""
        self._end = time.perf_counter() + self._seconds
        self.driver.open()
        yield from self._until(lambda: self.driver.is_ready, "the page did not start")
        yield from self._start()
        steps = [self._ask, self._drag, self._pause, self._upload, self._compute]
        for index in self._rng.permutation(len(steps)):
            yield float(self._rng.uniform(1.0, MAX_PAUSE_SECONDS))
            if time.perf_counter() >= self._end:
                break
            yield from steps[index]()
        yield max(self._end - time.perf_counter(), 0.0)
        self.driver.leave()
        yield LEAVE_SECONDS

    def _until(self, condition: Callable[[], bool], otherwise: str) -> Steps:
        """Wait for a condition, or to the end of the visit. Raises ``VisitError`` if it takes too long."""
        limit = time.perf_counter() + MAX_WAIT_SECONDS
        while not condition():
            if time.perf_counter() > limit:
                raise VisitError(otherwise)
            yield POLL_SECONDS

    def _start(self) -> Steps:
        if self._rng.random() < 0.5:
            self.driver.start_camera()
            self.actions["camera"] += 1
        else:
            self.driver.start_clip(int(self._rng.integers(3)))
            self.actions["clip"] += 1
        yield from self._until(lambda: self.driver.state in ("live", *OVER[1:]), "the session did not start")

    def _be_live(self) -> Steps:
        """Start again what has ended."""
        self.driver.select_tab("Live")
        if self.driver.state in OVER:
            yield from self._start()

    def _ask(self) -> Steps:
        yield from self._be_live()
        if self.driver.state == "live":
            self.driver.ask(str(self._rng.choice(QUESTIONS)))
            self.actions["question"] += 1

    def _drag(self) -> Steps:
        yield from self._be_live()
        self.driver.drag_threshold(float(self._rng.uniform(-0.2, 0.2)))
        self.actions["threshold"] += 1

    def _pause(self) -> Steps:
        yield from self._be_live()
        if self.driver.state != "live":
            return
        self.driver.press("Pause")
        yield from self._until(lambda: self.driver.state != "live", "the session did not pause")
        yield float(self._rng.uniform(0.5, 3.0))
        if self.driver.state == "paused":  # else the clip had just ended
            self.driver.press("Resume")
            self.actions["pause"] += 1

    def _upload(self) -> Steps:
        self.driver.select_tab("Live")
        self.driver.upload(self._files[int(self._rng.integers(len(self._files)))])
        finished = ("is ready", "✗")
        yield from self._until(lambda: any(t in self.driver.upload_status for t in finished), "the upload did not end")
        if "✗" in (status := self.driver.upload_status):
            raise VisitError(f"upload: {status}")
        self.actions["upload"] += 1

    def _compute(self) -> Steps:
        task, query = TASKS[int(self._rng.integers(len(TASKS)))]
        self.driver.run_task(task, query)
        yield POLL_SECONDS
        yield from self._until(lambda: self._has_left_or(lambda: self._task_is_over), "the result was not computed")
        if "✗" in (status := self.driver.task_status):
            raise VisitError(f"result: {status}")
        self.actions["result"] += self._task_is_over

    @property
    def _task_is_over(self) -> bool:
        return self.driver.task_status.startswith(("Done.", "✗", "Stopped."))

    def _has_left_or(self, condition: Callable[[], bool]) -> bool:
        """Return whether a condition holds, or the visitor does not want to wait for it any longer."""
        return time.perf_counter() >= self._end or condition()
