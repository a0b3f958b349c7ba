"""METEOR 1.5 by its authors' jar, run as one process per evaluation and limited in time and memory for each caption."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import NamedTuple

from mmduet.annotations.problems import Problem
from mmduet.errors import OptionError
from mmduet.evaluation.scorers.java import find_jar, java_command
from mmduet.evaluation.scorers.line_process import AnswerTimeoutError, LineProcess, NoAnswerError
from mmduet.metrics.captions import Candidate

MAX_MEMORY_GB = 2
TASK = ("-", "-", "-stdio", "-l", "en", "-norm")  # English with normalised tokens, as in pycocoevalcap
# Separators of the jar's line protocol, which captions must not contain.
SEPARATORS = re.compile(r"\|\|\||[\r\n]")
MAX_SECONDS = 60.0  # for one caption and its references; 400 sentences take three minutes
START_SECONDS = 120.0  # in which the jar has to load its data for the first time
BUSY_SECONDS = 1800.0  # for what a jar that has run before does at once, unless the machine is overloaded
MAX_STARTS = 3  # of one process that ends while it loads its data
LONG_WORDS = 300  # of caption and references; a shorter text exceeds the limit for another reason than its length
OUT_OF_MEMORY = "OutOfMemoryError"


class Meteor:
    """The jar's process. Use it as a context manager, which ends the process.

    Starting takes seconds, in the background. The line ``SCORE ||| reference ... ||| caption`` returns a line of statistics;
    ``EVAL ||| statistics ...`` returns a score for each and then their aggregate. Statistics are cached, so that a pair that
    occurs in several corpora or at several thresholds is aligned once.

    The jar's effort grows with the third power of the number of equal words. A caption that takes more than ``max_seconds`` or
    ``MAX_MEMORY_GB`` has no METEOR, and if it is long, neither have those of the same call that are at least as large. The
    process is then restarted. Only ``max_seconds`` decides about a caption: a restart may be slow, because a machine that is
    overloaded does not make other captions unusable.
    """

    def __init__(self, max_seconds: float = MAX_SECONDS, start: Callable[[], LineProcess] | None = None) -> None:
        """Start the process, by ``start`` if it is given.

        Raises ``OptionError`` if Java or the jar is missing, or ``max_seconds`` is not positive.
        """
        if not max_seconds > 0:
            raise OptionError(f"METEOR's time limit must be more than 0 seconds, got {max_seconds}")
        self._max_seconds = max_seconds
        self._statistics: dict[Candidate, str | None] = {}  # None: over the limit
        self._start = start or _start
        self._process = self._start()
        self._is_ready = self._has_run = False

    @property
    def limit(self) -> str:
        """The limit of one caption, as text."""
        return f"{self._max_seconds:g} s or {MAX_MEMORY_GB} GB of memory"

    def __enter__(self) -> Meteor:
        """Return the process itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._process.close()

    def scores(self, corpora: Sequence[Sequence[Candidate]]) -> list[tuple[float, list[float]]]:
        """Return (corpus score, scores of the candidates) of each corpus; an empty corpus has 0.

        The corpus score is computed from the summed statistics. A candidate with several references has the statistics of the
        best one. A candidate over the limit has NaN, and counts as an empty caption in the corpus score.

        Raises:
            OptionError: the jar's process cannot be kept running.
        """
        self._align(candidate for corpus in corpora for candidate in corpus)
        skipped = {candidate for corpus in corpora for candidate in corpus if self._statistics[candidate] is None}
        self._align(_without_caption(candidate) for candidate in skipped)
        return [self._evaluate(corpus, skipped) for corpus in corpora]

    def _evaluate(self, corpus: Sequence[Candidate], skipped: set[Candidate]) -> tuple[float, list[float]]:
        if not corpus:
            return 0.0, []
        counted = [_without_caption(candidate) if candidate in skipped else candidate for candidate in corpus]
        statistics = [text for candidate in counted if (text := self._statistics[candidate]) is not None]
        if len(statistics) < len(corpus):
            raise OptionError(f"METEOR takes more than {self.limit} for references alone; shorten them")
        *each, total = self._request("EVAL ||| " + " ||| ".join(statistics), len(corpus) + 1)
        return float(total), [
            math.nan if candidate in skipped else float(score) for candidate, score in zip(corpus, each, strict=True)
        ]

    def _align(self, candidates: Iterable[Candidate]) -> None:
        """Cache the statistics of all candidates, the smallest first."""
        new = {candidate: _Size.of(candidate) for candidate in candidates if candidate not in self._statistics}
        pending, was_ended = sorted(new, key=new.__getitem__), False
        while pending:
            done, error = self._align_until_error(pending)
            pending = pending[done:]
            if error is None:
                return
            # A process that something else ended (the system, out of memory) gets a second chance with the same candidate.
            is_over_limit = isinstance(error, AnswerTimeoutError) or OUT_OF_MEMORY in str(error)
            if is_over_limit or (was_ended and not done):
                limit = new[pending[0]]
                skipped = [pending[0], *(each for each in pending[1:] if new[each].also_exceeds_limit(limit))]
                self._statistics |= dict.fromkeys(skipped)
                pending = [candidate for candidate in pending if candidate not in self._statistics]
                was_ended = False
            else:
                was_ended = True
            self._restart()

    def _align_until_error(self, candidates: Sequence[Candidate]) -> tuple[int, NoAnswerError | None]:
        """Return how many of the candidates were aligned, and the error that the next one caused."""
        self._wait_until_ready()
        self._process.send([_score_line(candidate) for candidate in candidates])
        for done, candidate in enumerate(candidates):
            try:
                self._statistics[candidate] = self._process.receive(self._max_seconds)
            except NoAnswerError as error:
                return done, error
        return len(candidates), None

    def _request(self, line: str, answers: int) -> list[str]:
        """Return the answers to one line, from a second process if the first one has ended."""
        for is_last in (False, True):
            self._wait_until_ready()
            self._process.send([line])
            try:
                return [self._process.receive(BUSY_SECONDS) for _ in range(answers)]
            except NoAnswerError as error:
                if is_last:
                    raise self._unusable(error) from error
                self._restart()
        raise AssertionError("unreachable")

    def _restart(self) -> None:
        self._process.close()
        self._process, self._is_ready = self._start(), False

    def _wait_until_ready(self) -> None:
        """Wait until the process has answered once. Raises ``OptionError`` if it does not."""
        starts = 1
        while not self._is_ready:
            self._process.send([_score_line(Candidate("a", ("a",)))])
            try:
                self._process.receive(BUSY_SECONDS if self._has_run else START_SECONDS)
                self._is_ready = self._has_run = True
            except NoAnswerError as error:
                if starts == MAX_STARTS or isinstance(error, AnswerTimeoutError):
                    raise self._unusable(error) from error
                starts += 1
                self._restart()

    def _unusable(self, error: NoAnswerError) -> OptionError:
        if self._has_run:
            return OptionError(
                f"METEOR's Java process has run and cannot be restarted ({error}); it needs {MAX_MEMORY_GB} GB of memory and "
                "a share of a CPU core. End other programs and repeat the evaluation"
            )
        return OptionError(
            f"METEOR's Java process does not run ({error}); it needs {MAX_MEMORY_GB} GB of memory and a Java of version 8 or "
            "later. If the machine is overloaded, try again later"
        )


class _Size(NamedTuple):
    """What the jar's effort for a candidate depends on: pairs of equal words in caption and reference, and words."""

    matches: int
    words: int

    @classmethod
    def of(cls, candidate: Candidate) -> _Size:
        caption, references = Counter(candidate.caption.split()), [each.split() for each in candidate.references]
        matches = sum(caption[word] for words in references for word in words)
        return cls(matches, caption.total() + sum(map(len, references)))

    def also_exceeds_limit(self, exceeding: _Size) -> bool:
        """Return whether this one is at least as large in every respect as ``exceeding``, if that is a long one."""
        return exceeding.words >= LONG_WORDS and self.words >= exceeding.words and self.matches >= exceeding.matches


def use_meteor(meteor: Meteor | None, max_seconds: float = MAX_SECONDS) -> AbstractContextManager[Meteor]:
    """Return the given process, which keeps running afterwards, or a new one for the duration of the block."""
    return Meteor(max_seconds) if meteor is None else nullcontext(meteor)


def limit_problem(name: str, count: int, meteor: Meteor) -> Problem:
    """Return the problem of an item that has ``count`` captions over the limit."""
    captions = "the caption" if count == 1 else f"{count} captions"
    return Problem(name, f"METEOR takes more than {meteor.limit} for {captions}", "an empty caption in METEOR")


def limit_notes(count: int, total: int, meteor: Meteor) -> list[str]:
    """Return a note on how ``count`` of ``total`` captions without METEOR are counted; without any, no note."""
    if not count:
        return []
    return [
        f"METEOR has no value for {count} of {total} captions, which take more than {meteor.limit} each. They count as empty "
        "captions in the corpus score, so that long captions cannot raise it. --meteor-seconds sets the limit."
    ]


def _start() -> LineProcess:
    jar = str(find_jar("meteor", "meteor-1.5.jar"))
    return LineProcess(java_command(f"-Xmx{MAX_MEMORY_GB}G", "-jar", jar, *TASK))


def _without_caption(candidate: Candidate) -> Candidate:
    return Candidate("", candidate.references)


def _score_line(candidate: Candidate) -> str:
    """Return the SCORE line as pycocoevalcap writes it: double spaces in the caption become single."""
    references = (SEPARATORS.sub(" ", reference) for reference in candidate.references)
    caption = candidate.caption.replace("|||", "").replace("  ", " ")
    return " ||| ".join(("SCORE", *references, SEPARATORS.sub(" ", caption)))
