"""What rows of prediction and annotation files tell of an item, in whichever of the field's forms; opens no files.

It is for show, and the evaluators have checked the files before: what is not understood here is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

QUERY_IS_CAPTION = "grounding"  # in TimeChat's Charades-STA
CLIP_SECONDS = 2.0  # QVHighlights
HIGHEST_RATING = 4.0
NO_ANSWER = "(no answer)"
MOST_WINDOWS = 5  # predicted ones that are shown, as they stand in the file
MOST_SECONDS, MOST = 1e7, 1e12  # a time, or any number, beyond is a mistake, and cannot be drawn


@dataclass(frozen=True)
class Event:
    """Something from ``start`` to ``end``, in seconds."""

    start: float
    end: float
    text: str = ""


@dataclass(frozen=True)
class Turn:
    """Who said what; a negative ``time`` is none."""

    time: float
    user: bool
    text: str


@dataclass(frozen=True)
class Curve:
    """Values at times in seconds. ``step`` None: in between as well; else each holds for so many seconds."""

    name: str
    times: Sequence[float]
    values: Sequence[float]
    step: float | None = None


@dataclass(frozen=True)
class Told:
    """What one file tells of an item; ``truths`` are gold answers that stand beside the model's own."""

    question: str = ""
    videos: tuple[str, ...] = ()
    duration: float | None = None
    events: tuple[Event, ...] = ()
    turns: tuple[Turn, ...] = ()
    texts: tuple[str, ...] = ()
    truths: tuple[str, ...] = ()
    curves: tuple[Curve, ...] = ()
    ratings: tuple[tuple[Event, float], ...] = ()  # of clips, each in [0, 1]

    @property
    def latest(self) -> float:
        """The last time that is told, 0 where there is none."""
        ends = [event.end for event in self.events] + [turn.time for turn in self.turns]
        ends += [curve.times[-1] + (curve.step or 0.0) for curve in self.curves]
        return max((*ends, self.duration or 0.0))


def tell(rows: Sequence[Json], benchmark: str) -> Told:
    """All that the rows of one item say; nothing where there are none."""
    return Told(
        question=next((text for row in rows if (text := _question(row, benchmark))), ""),
        videos=tuple(dict.fromkeys(name for row in rows for name in _videos(row))),
        duration=next((time for row in rows if (time := _duration(row)) is not None), None),
        events=tuple(event for row in rows for event in _events(row, benchmark)),
        turns=tuple(turn for row in rows for turn in _turns(row)),
        texts=tuple(text for row in rows for text in _texts(row, benchmark)),
        truths=tuple(text for row in rows for text in _truths(row)),
        curves=tuple(curve for row in rows for curve in _curves(row)),
        ratings=tuple(rating for row in rows for rating in _ratings(row)),
    )


def _question(row: Json, benchmark: str) -> str:
    asked = [turn.get("content") for turn in dicts(row.get("conversation")) if turn.get("role") == "user"]
    named = [row.get("query"), row.get("question"), row.get("caption") if benchmark == QUERY_IS_CAPTION else None]
    question = next((text for text in [*named, *asked] if isinstance(text, str) and text.strip()), "")
    return "\n".join([question, *strings(row.get("options"))])


def _videos(row: Json) -> Iterator[str]:
    names = (row.get(name) for name in ("video", "video_uid", "vid", "video_id", "image_id", "movie"))
    return (str(name) for name in names if isinstance(name, str | int) and not isinstance(name, bool))


def _duration(row: Json) -> float | None:
    return next((time for name in ("video_duration", "duration") if (time := _time(row.get(name))) is not None), None)


def _events(row: Json, benchmark: str) -> Iterator[Event]:
    """Gold spans, predicted windows, captioned segments."""
    many = _list(row.get("timestamps")) + _list(row.get("relevant_windows"))
    yield from _timed(many, strings(row.get("sentences")))
    yield from _timed(_list(row.get("segments")), str(row.get("pure_cap", "")).split(". "))
    one = _list(row.get("timestamp"))
    told = strings([row.get("caption", row.get("sentence"))]) if benchmark != QUERY_IS_CAPTION else []
    yield from _timed([one] if _span(one) else one, told)
    yield from _timed([[row.get("start"), row.get("end")]], strings([row.get("text", row.get("caption"))]))
    yield from _windows(row)
    said = [turn for turn in dicts(row.get("conversation")) if turn.get("role") == "assistant"]
    for answer in dicts(row.get("answer")) or said:
        names = ("related_timespan", "timespan", "time", "reply_timespan")
        span = next((answer[name] for name in names if isinstance(answer.get(name), list)), None)
        yield from _timed([span], strings([answer.get("content")]))


def _windows(row: Json) -> Iterator[Event]:
    """``[start, end, score]`` of a submission to QVHighlights."""
    for window in map(_list, _list(row.get("pred_relevant_windows"))[:MOST_WINDOWS]):
        scores = [score for value in window[2:3] if (score := _number(value)) is not None]
        yield from _timed([window[:2]], [f"score {score:g}" for score in scores])


def _timed(spans: Sequence[Any], texts: Sequence[str]) -> Iterator[Event]:
    for place, value in enumerate(spans):
        if (span := _span(value)) is not None:
            yield Event(*span, texts[place].strip() if place < len(texts) else "")


def _turns(row: Json) -> Iterator[Turn]:
    for turn in dicts(row.get("model_response_list")) or dicts(row.get("conversation")):
        time, text = _time(turn.get("time")), turn.get("content")
        if isinstance(text, str) and turn.get("role") in ("user", "assistant") and "timespan" not in turn:
            yield Turn(-1.0 if time is None else time, turn["role"] == "user", text)


def _texts(row: Json, benchmark: str) -> Iterator[str]:
    """Captions and answers that have no time."""
    if any(True for _ in _events(row, benchmark)):
        return
    names = ["prediction", "text", "sentence", "captions", "references", "response", "model_response"]
    for name in names + (["caption"] if benchmark != QUERY_IS_CAPTION else []):
        yield from strings(row[name] if isinstance(row.get(name), list) else [row.get(name)])
    for moment in dicts(row.get("test_info")):
        yield from strings([moment.get("response")]) or [NO_ANSWER]


def _truths(row: Json) -> Iterator[str]:
    """Of a result file of OVO-Bench."""
    yield from strings([row.get("ground_truth")])
    for moment in dicts(row.get("test_info")):
        if "count" in moment or "type" in moment:
            yield str(moment["count"]) if "count" in moment else "Yes" if moment["type"] == 1 else "No"


def _curves(row: Json) -> Iterator[Curve]:
    frames = [(time, frame) for frame in dicts(row.get("debug_data")) if (time := _moment(frame)) is not None]
    for name in ("relevance", "informative"):
        points = [(time, v) for time, frame in frames if (v := _score(frame.get(f"{name}_score"))) is not None]
        if points:
            times, values = zip(*sorted(points), strict=True)
            yield Curve(name, times, values)
    scores = [_number(score) for score in _list(row.get("pred_saliency_scores"))]
    if scores and None not in scores:
        values = tuple(score for score in scores if score is not None)
        yield Curve("saliency", [k * CLIP_SECONDS for k in range(len(values))], values, CLIP_SECONDS)


def _moment(frame: Json) -> float | None:
    return _time(frame.get("time", frame.get("video_time")))


def _score(value: Any) -> float | None:
    """A probability, or the pair of no's and yes's."""
    return _number(value[1] if isinstance(value, list) and len(value) == 2 else value)


def _ratings(row: Json) -> Iterator[tuple[Event, float]]:
    """Means over the annotators of QVHighlights."""
    clips, ratings = _list(row.get("relevant_clip_ids")), _list(row.get("saliency_scores"))
    for clip, given in zip(clips, ratings, strict=False):
        scores = [score for value in _list(given) if (score := _number(value)) is not None]
        if scores and (place := _time(clip)) is not None:
            start, mean = place * CLIP_SECONDS, sum(scores) / len(scores)
            yield Event(start, start + CLIP_SECONDS), min(max(mean / HIGHEST_RATING, 0.0), 1.0)


# Values


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def dicts(value: Any) -> list[Json]:
    """The objects in a list; none where it is none."""
    return [row for row in _list(value) if isinstance(row, dict)]


def strings(value: Any) -> list[str]:
    """The texts in a list; none where it is none."""
    return [text for text in _list(value) if isinstance(text, str)]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MOST:
        return None
    return float(value)


def _time(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and abs(number) <= MOST_SECONDS else None


def _span(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    start, end = map(_time, value)
    return None if start is None or end is None else (min(start, end), max(start, end))
