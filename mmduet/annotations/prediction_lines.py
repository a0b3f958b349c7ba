"""Parse and build a line of MMDuet's prediction files: the turns of one video, and the scores of its frames.

``{"question_id", "video_duration", "model_response_list": [{"time", "content", "role"}], "debug_data": [{"time",
"informative_score", "relevance_score"}]}``. ``mmduet predict`` and MMDuet's own inference write these files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from mmduet.annotations.json_values import (
    InvalidValueError,
    Json,
    as_numbers,
    as_objects,
    as_text,
    finite_number,
    get_field,
    list_field,
    short_repr,
    text_field,
    value_errors,
)
from mmduet.annotations.test_sets import Example
from mmduet.events import Reply, Scores
from mmduet.spans import FrameScores

Head = Literal["informative_score", "relevance_score"]
ROLES = ("user", "assistant", "system")


@dataclass(frozen=True)
class PredictedTurn:
    """One turn of a prediction line. ``time`` is in seconds: -1 where a model gave none, NaN where it gave nonsense."""

    role: str
    time: float
    text: str


def parse_turns(row: Json) -> list[PredictedTurn]:
    """Return the turns of a prediction line, in the order of the file. Raises ``InvalidValueError``."""
    turns = []
    for i, turn in enumerate(list_field(row, "model_response_list")):
        with value_errors(f"turn {i}"):
            turns.append(_parse_turn(turn))
    return turns


def _parse_turn(turn: object) -> PredictedTurn:
    role, time = get_field(turn, "role"), get_field(turn, "time")
    if role not in ROLES:
        raise InvalidValueError(f"role is {short_repr(role)}, expected one of {', '.join(ROLES)}")
    not_finite = isinstance(time, float) and not math.isfinite(time)  # JSON as Python writes it may hold NaN
    if finite_number(time) is None and not not_finite:
        raise InvalidValueError(f"time is {short_repr(time)}, expected a number of seconds")
    return PredictedTurn(role, float(time), text_field(turn, "content"))


def parse_answer_text(row: Json) -> str:
    """Return the texts of the assistant's turns, joined with spaces. Raises ``InvalidValueError``.

    Without ``model_response_list`` the answer is ``model_response``, a text or a list that starts with one: the form of
    the baselines in MMDuet's repository.
    """
    if "model_response_list" in row:
        return " ".join(turn.text for turn in parse_turns(row) if turn.role == "assistant")
    answer = row.get("model_response")
    return as_text(answer[0] if isinstance(answer, list) and answer else answer, "model_response")


def parse_video_duration(row: Json) -> float | None:
    """Return the duration in seconds, or None where the row has none. Raises ``InvalidValueError``."""
    value = row.get("video_duration")
    if value is None:
        return None
    duration = finite_number(value)
    if duration is None or duration < 0:
        raise InvalidValueError(f"video_duration is {short_repr(value)}, expected a number of seconds")
    return duration


def has_frame_scores(row: Json, head: Head) -> bool:
    """Return whether any frame of the row has a score of ``head``."""
    frames = row.get("debug_data")
    return isinstance(frames, list) and any(isinstance(frame, dict) and head in frame for frame in frames)


def parse_frame_scores(row: Json, head: Head = "relevance_score") -> FrameScores:
    """Return the scores of ``head`` for the frames in ``debug_data``. Raises ``InvalidValueError``.

    A frame without the score has 0. MMDuet's own files name the time ``video_time`` and give the probabilities of "no"
    and "yes" as a pair; the second of these is the score.
    """
    frames = as_objects(row.get("debug_data"), "debug_data")
    if not frames:
        raise InvalidValueError("debug_data has no frames")
    times = as_numbers([frame.get("time", frame.get("video_time")) for frame in frames], "times of frames")
    scores = as_numbers([_yes_probability(frame.get(head, 0.0)) for frame in frames], head)
    _check_ascending(times)
    return FrameScores(times, scores)


def _yes_probability(score: object) -> object:
    return score[1] if isinstance(score, list) and len(score) == 2 else score


def _check_ascending(times: Sequence[float]) -> None:
    if times[0] < 0:
        raise InvalidValueError(f"the first frame is at {times[0]} s, expected a time from 0 up")
    for before, after in pairwise(times):
        if after <= before:
            raise InvalidValueError(f"a frame at {after} s follows one at {before} s; times must increase")


def prediction_line(
    example: Example,
    duration: float | None,
    scores: Sequence[Scores],
    replies: Sequence[Reply],
    decimals: int | None = None,
) -> Json:
    """Return the line for one example: turns by time, user turns before replies of the same time.

    ``duration`` is None where the container does not declare it; ``decimals`` rounds the scores (None: exact).
    """
    late = (
        math.nextafter(scores[-1].time, math.inf) if scores else math.inf
    )  # of queries and replies after the last frame
    turns: list[Json] = [{"time": q.time, "content": q.text, "role": "user"} for q in example.queries]
    turns += [{"time": r.time, "content": r.text, "role": "assistant"} for r in replies]
    return {
        "question_id": example.question_id,
        "video_duration": duration,
        "model_response_list": sorted(turns, key=lambda turn: min(turn["time"], late)),  # stable: user turns stay first
        "debug_data": [
            {
                "time": s.time,
                "informative_score": s.informative if decimals is None else round(s.informative, decimals),
                "relevance_score": s.relevance if decimals is None else round(s.relevance, decimals),
            }
            for s in scores
        ],
    }
