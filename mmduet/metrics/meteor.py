"""METEOR 1.5 by its authors' jar: one process, started once and fed with everything that an evaluation compares."""

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
from mmduet.evaluation.java import jar, java_command, java_environment
from mmduet.metrics.captions import Candidate

FLAGS = ("-Xmx2G",)
TASK = ("-", "-", "-stdio", "-l", "en", "-norm")  # English, with its tokens normalised, as pycocoevalcap asks
# The protocol's own separators, which no caption may hold.
SEPARATORS = re.compile(r"\|\|\||[\r\n]")


class Meteor:
    """The jar's process; a context manager, since it has to be ended.

    It takes seconds to start, which goes on while the caller does other things. ``SCORE ||| reference ... ||| caption``
    yields a line of statistics, ``EVAL ||| statistics ...`` a score for each and then their aggregate. Statistics are kept,
    so a pair that comes back, in another corpus or at another threshold, is aligned once.
    """

    def __init__(self) -> None:
        """Start the process; ``OptionError`` where Java or the jar is missing."""
        command = java_command(*FLAGS, "-jar", str(jar("meteor", "meteor-1.5.jar")), *TASK)
        self._statistics: dict[Candidate, str] = {}
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=java_environment(),
            encoding="utf-8",
            errors="replace",
        )

    def __enter__(self) -> Meteor:
        """The process itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._complaints.close()

    def scores(self, corpora: Sequence[Sequence[Candidate]]) -> list[tuple[float, list[float]]]:
        """For each corpus METEOR over the summed statistics of its candidates, and each candidate's own; an empty one has 0.

        With several references a candidate has its best one's statistics.
        """
        self._align(candidate for corpus in corpora for candidate in corpus)
        lines = ["EVAL ||| " + " ||| ".join(self._statistics[candidate] for candidate in corpus) for corpus in corpora]
        asked = [line for line, corpus in zip(lines, corpora, strict=True) if corpus]
        answers = iter(self._ask(asked, sum(len(corpus) + 1 for corpus in corpora if corpus)))
        scores = []
        for corpus in corpora:
            each = [float(next(answers)) for _ in corpus]
            scores.append((float(next(answers)) if corpus else 0.0, each))
        return scores

    def _align(self, candidates: Iterable[Candidate]) -> None:
        """Have statistics of all of them."""
        new = [candidate for candidate in dict.fromkeys(candidates) if candidate not in self._statistics]
        self._statistics |= zip(new, self._ask([_score_line(candidate) for candidate in new], len(new)), strict=True)

    def _ask(self, lines: Sequence[str], replies: int) -> list[str]:
        """Write ``lines`` while reading so many replies, else both sides would wait for the other's pipe to be emptied."""
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
            pass  # the process is gone; who reads its replies tells

    def _read(self) -> str:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return line.strip()
        self._complaints.seek(0)
        said = self._complaints.read().decode(errors="replace")[-500:]
        raise OptionError(f"METEOR's Java process ended (it needs 2 GB of memory): {said}")


def running_meteor(meteor: Meteor | None) -> AbstractContextManager[Meteor]:
    """The caller's process, which goes on afterwards, or one for the length of the block."""
    return Meteor() if meteor is None else nullcontext(meteor)


def _score_line(candidate: Candidate) -> str:
    """As pycocoevalcap writes it, where the caption's double spaces become single ones."""
    references = (SEPARATORS.sub(" ", reference) for reference in candidate.references)
    caption = candidate.caption.replace("|||", "").replace("  ", " ")
    return " ||| ".join(("SCORE", *references, SEPARATORS.sub(" ", caption)))
