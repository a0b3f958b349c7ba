"""Plays many videos through one engine, a bounded number at a time, stepped together; knows no files and no tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from mmduet.engine.engine import Engine
from mmduet.engine.session import Picture
from mmduet.errors import MmduetError, OptionError
from mmduet.events import Context, Frame, Output, Query, SessionFailed
from mmduet.options import SessionOptions

K = TypeVar("K")
AT_ONCE = 8


@dataclass(frozen=True)
class Job(Generic[K]):
    """A video to be watched. ``name`` is the caller's own; ``frames`` is called in a thread when the job's turn has come."""

    name: K
    options: SessionOptions
    turns: Sequence[Query | Context]
    frames: Callable[[], Iterable[Frame]]


@dataclass(frozen=True)
class Played(Generic[K]):
    """A job that is over: all that its session said, and what ended it early, if something did."""

    job: Job[K]
    outputs: Sequence[Output]
    error: MmduetError | None = None


def play(engine: Engine, jobs: Iterable[Job[K]], most: int = AT_ONCE) -> Iterator[Played[K]]:
    """Every job once, as they finish; at most ``most`` of them are open sessions, and ``jobs`` is read no further ahead.

    An open session has a frame, or a token to write, in every step, so which work shares a step does not depend on how fast
    files are read: the same jobs give the same outputs, to the last bit. Another ``most`` moves scores by rounding only. A
    job that fails (``MmduetError``: its frames, its turns, its session) ends alone; whatever else is raised ends them all. The
    engine is nobody else's meanwhile.
    """
    if most < 1:
        raise OptionError(f"{most} videos at once are none; use 1 or more")
    waiting, playing = iter(jobs), dict[int, _Player[K]]()
    with ThreadPoolExecutor(most, "mmduet-source") as pool, contextlib.ExitStack() as last:
        last.callback(_close_all, playing)
        while True:
            while len(playing) < most and (job := next(waiting, None)) is not None:
                try:
                    player = _Player(engine, job, pool)
                except MmduetError as error:
                    yield Played(job, (), error)
                else:
                    playing[player.session.id] = player
            if not playing:
                return
            for player in playing.values():
                player.feed()
            for session, output in engine.step():
                playing[session.id].hear(output)
            for player in [player for player in playing.values() if player.session.closed]:
                yield playing.pop(player.session.id).played


def play_in_order(engine: Engine, jobs: Iterable[Job[K]], most: int = AT_ONCE) -> Iterator[Played[K]]:
    """As ``play``, but in the jobs' order: what is over before its turn waits for those before it."""
    begun: dict[int, Job[K]] = {}
    over: dict[int, Played[K]] = {}

    def by_place() -> Iterator[Job[int]]:
        for place, job in enumerate(jobs):
            begun[place] = job
            yield Job(place, job.options, job.turns, job.frames)

    due = 0
    for played in play(engine, by_place(), most):
        place = played.job.name
        over[place] = Played(begun.pop(place), played.outputs, played.error)
        while due in over:
            yield over.pop(due)
            due += 1


def _close_all(playing: dict[int, _Player[K]]) -> None:
    for player in playing.values():
        player.close()


class _Player(Generic[K]):
    """One job while it is open."""

    def __init__(self, engine: Engine, job: Job[K], pool: ThreadPoolExecutor) -> None:
        self.job, self._engine, self._pool = job, engine, pool
        self.session = engine.open(job.options)
        self._outputs: list[Output] = []
        self._error: MmduetError | None = None
        self._frames: Iterator[Frame] | None = None
        try:
            for turn in job.turns:
                engine.push(self.session, turn)
        except MmduetError:
            self._engine.close(self.session)
            raise
        self._next: Future[Picture | None] = pool.submit(self._read)

    def feed(self) -> None:
        """Give the session its next frame where it has none left; meanwhile the one after that is read."""
        if self.session.inbox or self.session.ending:
            return
        try:
            picture = self._next.result()
        except MmduetError as error:
            self._error = error
            self._engine.close(self.session)
            return
        if picture is None:
            self._engine.end(self.session)
        else:
            self._engine.push(self.session, picture)
            self._next = self._pool.submit(self._read)

    def hear(self, output: Output) -> None:
        """Take note of one output."""
        self._outputs.append(output)
        if isinstance(output, SessionFailed):
            self._error = output.as_error()

    @property
    def played(self) -> Played[K]:
        """What came of it."""
        return Played(self.job, self._outputs, self._error)

    def close(self) -> None:
        """Give up."""
        self._next.cancel()
        self._engine.close(self.session)

    def _read(self) -> Picture | None:
        """In the pool: the next frame, made ready for the tower; None after the last."""
        if self._frames is None:
            self._frames = iter(self.job.frames())
        frame = next(self._frames, None)
        return None if frame is None else self._engine.prepare(frame)
