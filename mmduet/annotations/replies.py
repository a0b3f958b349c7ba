"""Read the replies of prediction lines, for evaluators of replies and their times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmduet.annotations.json_values import Json, annotation_errors
from mmduet.annotations.prediction_lines import PredictedTurn, parse_turns
from mmduet.annotations.problems import Problem


@dataclass(frozen=True)
class PredictedReplies:
    """The assistant's turns of one prediction line, in the order of the file.

    ``first_time`` is the time of the first turn of any role, None without turns.
    """

    id: str
    turns: tuple[PredictedTurn, ...]
    first_time: float | None = None

    @property
    def times(self) -> list[float]:
        """The times of the turns [T], in seconds."""
        return [turn.time for turn in self.turns]

    @property
    def texts(self) -> list[str]:
        """The texts of the turns [T]."""
        return [turn.text for turn in self.turns]


def parse_replies(rows: Mapping[str, Json], path: Path) -> list[PredictedReplies]:
    """Return the replies of each prediction line. Raises ``AnnotationError`` naming the line."""
    lines = []
    for question_id, row in rows.items():
        with annotation_errors(f"{path}, question_id {question_id!r}"):
            turns = parse_turns(row)
        replies = tuple(turn for turn in turns if turn.role == "assistant")
        lines.append(PredictedReplies(question_id, replies, turns[0].time if turns else None))
    return lines


def time_problems(lines: Iterable[PredictedReplies]) -> list[Problem]:
    """Return a problem for each reply whose time is not finite."""
    return [
        Problem(line.id, f"assistant turn {i} is at {turn.time} s", "a turn outside every span")
        for line in lines
        for i, turn in enumerate(line.turns)
        if not math.isfinite(turn.time)
    ]
