"""METEOR's process is restarted after a caption over the limit, however slow the restart is; the time is simulated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from mmduet.errors import OptionError
from mmduet.evaluation.scorers.line_process import AnswerTimeoutError, LineProcess, NoAnswerError
from mmduet.evaluation.scorers.meteor import START_SECONDS, Meteor
from mmduet.metrics.captions import Candidate

GOOD, BAD, LAST = (Candidate(text, (text,)) for text in ("a", "hang", "a b c"))
NEVER = math.inf


class SimulatedProcess(LineProcess):
    """A jar whose first answer takes ``start_seconds``, and the one to "hang" for ever; a statistic is a number of words.

    With ``start_seconds`` None it ends at once.
    """

    def __init__(self, start_seconds: float | None) -> None:
        self.start_seconds, self.answers = start_seconds, list[tuple[str, float]]()

    def send(self, lines: Sequence[str]) -> None:
        for line in lines:
            command, *texts = line.split(" ||| ")
            seconds = NEVER if "hang" in texts[-1] else 0.0
            if command == "EVAL":
                self.answers += [(text, seconds) for text in [*texts, str(sum(map(float, texts)))]]
            else:
                self.answers.append((str(len(texts[-1].split())), seconds))

    def receive(self, seconds: float) -> str:
        if self.start_seconds is None:
            raise NoAnswerError("exit status 1: no memory")
        answer, needed = self.answers.pop(0)
        needed, self.start_seconds = needed + self.start_seconds, 0.0
        if needed > seconds:
            raise AnswerTimeoutError(f"no answer within {seconds:g} s")
        return answer

    def close(self) -> None:
        self.start_seconds = None


def scores(*starts: float | None) -> list[float]:
    """Return the scores of three captions, the second of which hangs; the processes need ``starts`` seconds in turn."""
    waiting = iter(starts)
    with Meteor(8.0, lambda: SimulatedProcess(next(waiting))) as meteor:
        ((_, each),) = meteor.scores([[GOOD, BAD, LAST]])
    return each


@pytest.mark.parametrize(
    "restarts", [[START_SECONDS - 1], [START_SECONDS + 1], [5 * START_SECONDS], [None, 5.0], [None, None, 5.0]]
)
def test_a_slow_restart_loses_only_the_caption_over_the_limit(restarts: list[float | None]) -> None:
    assert scores(5.0, *restarts) == [1.0, pytest.approx(math.nan, nan_ok=True), 3.0]


@pytest.mark.parametrize(("starts", "reason"), [([NEVER], "no answer within 120 s"), ([None] * 3, "exit status 1")])
def test_a_java_that_does_not_start_is_an_error(starts: list[float | None], reason: str) -> None:
    with pytest.raises(OptionError, match=f"Java process does not run .{reason}"):
        scores(*starts)


@pytest.mark.parametrize(("restarts", "reason"), [([NEVER], "no answer within"), ([None] * 3, "exit status 1")])
def test_a_java_that_does_not_start_again_is_an_error(restarts: list[float | None], reason: str) -> None:
    with pytest.raises(OptionError, match=f"cannot be restarted .{reason}.* 2 GB of memory"):
        scores(5.0, *restarts)
