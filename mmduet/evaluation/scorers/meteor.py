"""METEOR 1.5 by its authors' jar, run as one process per evaluation."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import Thread
from types import TracebackType
from typing import IO

from mmduet.errors import OptionError
from mmduet.evaluation.scorers.java import find_jar, java_command, java_environment
from mmduet.metrics.captions import Candidate

FLAGS = ("-Xmx2G",)
TASK = ("-", "-", "-stdio", "-l", "en", "-norm")  # English with normalised tokens, as in pycocoevalcap
# Separators of the jar's line protocol, which captions must not contain.
SEPARATORS = re.compile(r"\|\|\||[\r\n]")


class Meteor:
    """The jar's process. Use it as a context manager, which ends the process.

    Starting takes seconds, in the background. The line ``SCORE ||| reference ... ||| caption`` returns a line of statistics;
    ``EVAL ||| statistics ...`` returns a score for each and then their aggregate. Statistics are cached, so that a pair that
    occurs in several corpora or at several thresholds is aligned once.
    """

    def __init__(self) -> None:
        """Start the process. Raises ``OptionError`` if Java or the jar is missing."""
        command = java_command(*FLAGS, "-jar", str(find_jar("meteor", "meteor-1.5.jar")), *TASK)
        self._statistics: dict[Candidate, str] = {}
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=java_environment(),
            encoding="utf-8",
            errors="replace",
        )

    def __enter__(self) -> Meteor:
        """Return the process itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._stderr.close()

    def scores(self, corpora: Sequence[Sequence[Candidate]]) -> list[tuple[float, list[float]]]:
        """Return (corpus score, scores of the candidates) of each corpus; an empty corpus has 0.

        The corpus score is computed from the summed statistics. A candidate with several references has the statistics of the
        best one.
        """
        self._align(candidate for corpus in corpora for candidate in corpus)
        lines = ["EVAL ||| " + " ||| ".join(self._statistics[candidate] for candidate in corpus) for corpus in corpora]
        requests = [line for line, corpus in zip(lines, corpora, strict=True) if corpus]
        answers = iter(self._request(requests, sum(len(corpus) + 1 for corpus in corpora if corpus)))
        scores = []
        for corpus in corpora:
            each = [float(next(answers)) for _ in corpus]
            scores.append((float(next(answers)) if corpus else 0.0, each))
        return scores

    def _align(self, candidates: Iterable[Candidate]) -> None:
        """Cache the statistics of all candidates."""
        new = [candidate for candidate in dict.fromkeys(candidates) if candidate not in self._statistics]
        self._statistics |= zip(
            new, self._request([_score_line(candidate) for candidate in new], len(new)), strict=True
        )

    def _request(self, lines: Sequence[str], replies: int) -> list[str]:
        """Write ``lines`` in a thread while reading ``replies`` lines; one after the other could block on full pipes."""
        writer = Thread(target=self._write, args=(lines,), daemon=True)
        writer.start()
        answers = [self._read() for _ in range(replies)]
        writer.join()
        return answers

    def _write(self, lines: Sequence[str]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.writelines(f"{line}\n" for line in lines)
            self._process.stdin.flush()
        except OSError:
            pass  # the process has ended, which _read reports

    def _read(self) -> str:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return line.strip()
        self._stderr.seek(0)
        detail = self._stderr.read().decode(errors="replace")[-500:]
        raise OptionError(f"METEOR's Java process ended (it needs 2 GB of memory): {detail}")


def use_meteor(meteor: Meteor | None) -> AbstractContextManager[Meteor]:
    """Return the given process, which keeps running afterwards, or a new one for the duration of the block."""
    return Meteor() if meteor is None else nullcontext(meteor)


def _score_line(candidate: Candidate) -> str:
    """Return the SCORE line as pycocoevalcap writes it: double spaces in the caption become single."""
    references = (SEPARATORS.sub(" ", reference) for reference in candidate.references)
    caption = candidate.caption.replace("|||", "").replace("  ", " ")
    return " ||| ".join(("SCORE", *references, SEPARATORS.sub(" ", caption)))
