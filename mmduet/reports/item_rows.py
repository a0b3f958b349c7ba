"""Extract what a report shows of an item from its rows in prediction and annotation files, in any of the supported formats.

This is for display only. The evaluators have validated the files before, so unknown or malformed values are left out here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mmduet.annotations.json_values import Json, finite_number
from mmduet.spans import CaptionedSpan, Span
from mmduet.viz.item_timeline import ScoreCurve, Turn

CAPTION_AS_QUERY_BENCHMARK = "grounding"  # TimeChat's Charades-STA files keep the query in the caption field
CLIP_SECONDS = 2.0  # of QVHighlights
MAX_RATING = 4.0  # of QVHighlights
NO_ANSWER = "(no answer)"
MAX_WINDOWS = 5  # predicted windows that are displayed, in the order of the file
MAX_SECONDS, MAX_NUMBER = 1e7, 1e12  # larger times and numbers are mistakes and cannot be drawn


@dataclass(frozen=True)
class ItemContent:
    """What the rows of one item contain.

    Attributes:
        question: The query, with the options of a multiple-choice question on further lines.
        videos: Names of the item's video.
        duration_seconds: Duration of the video, if a row has it.
        spans: Gold spans, predicted windows and captioned segments.
        turns: Turns of the conversation.
        texts: Captions and answers without a time.
        gold_texts: Gold answers in a prediction file.
        curves: Scores over time.
        ratings: Spans of clips with their mean rating, scaled to [0, 1].
    """

    question: str = ""
    videos: tuple[str, ...] = ()
    duration_seconds: float | None = None
    spans: tuple[CaptionedSpan, ...] = ()
    turns: tuple[Turn, ...] = ()
    texts: tuple[str, ...] = ()
    gold_texts: tuple[str, ...] = ()
    curves: tuple[ScoreCurve, ...] = ()
    ratings: tuple[tuple[Span, float], ...] = ()

    @property
    def end_seconds(self) -> float:
        """The latest time of all contents; 0 without any time."""
        ends = [span.end for span in self.spans] + [turn.time for turn in self.turns]
        ends += [curve.times[-1] + (curve.hold_seconds or 0.0) for curve in self.curves]
        return max((*ends, self.duration_seconds or 0.0))


def parse_item(rows: Sequence[Json], benchmark: str) -> ItemContent:
    """Return the contents of all rows of one item."""
    return ItemContent(
        question=next((text for row in rows if (text := _parse_question(row, benchmark))), ""),
        videos=tuple(dict.fromkeys(name for row in rows for name in _parse_videos(row))),
        duration_seconds=next((time for row in rows if (time := _parse_duration(row)) is not None), None),
        spans=tuple(span for row in rows for span in _parse_spans(row, benchmark)),
        turns=tuple(turn for row in rows for turn in _parse_turns(row)),
        texts=tuple(text for row in rows for text in _parse_texts(row, benchmark)),
        gold_texts=tuple(text for row in rows for text in _parse_gold_texts(row)),
        curves=tuple(curve for row in rows for curve in _parse_curves(row)),
        ratings=tuple(rating for row in rows for rating in _parse_ratings(row)),
    )


def _parse_question(row: Json, benchmark: str) -> str:
    queries = [turn.get("content") for turn in objects_in(row.get("conversation")) if turn.get("role") == "user"]
    fields = [row.get("query"), row.get("question"), row.get("caption") if _has_query_caption(benchmark) else None]
    question = next((text for text in [*fields, *queries] if isinstance(text, str) and text.strip()), "")
    return "\n".join([question, *texts_in(row.get("options"))])


def _has_query_caption(benchmark: str) -> bool:
    return benchmark == CAPTION_AS_QUERY_BENCHMARK


def _parse_videos(row: Json) -> Iterator[str]:
    names = (row.get(name) for name in ("video", "video_uid", "vid", "video_id", "image_id", "movie"))
    return (str(name) for name in names if isinstance(name, str | int) and not isinstance(name, bool))


def _parse_duration(row: Json) -> float | None:
    times = (_as_time(row.get(name)) for name in ("video_duration", "duration"))
    return next((time for time in times if time is not None), None)


def _parse_spans(row: Json, benchmark: str) -> Iterator[CaptionedSpan]:
    """Yield gold spans, predicted windows and captioned segments."""
    spans = _as_list(row.get("timestamps")) + _as_list(row.get("relevant_windows"))
    yield from _captioned(spans, texts_in(row.get("sentences")))
    yield from _captioned(_as_list(row.get("segments")), str(row.get("pure_cap", "")).split(". "))
    timestamp = _as_list(row.get("timestamp"))  # one span, or a list of spans
    captions = [] if _has_query_caption(benchmark) else texts_in([row.get("caption", row.get("sentence"))])
    yield from _captioned([timestamp] if _as_span(timestamp) else timestamp, captions)
    yield from _captioned([[row.get("start"), row.get("end")]], texts_in([row.get("text", row.get("caption"))]))
    yield from _parse_windows(row)
    replies = [turn for turn in objects_in(row.get("conversation")) if turn.get("role") == "assistant"]
    for answer in objects_in(row.get("answer")) or replies:
        names = ("related_timespan", "timespan", "time", "reply_timespan")
        span = next((answer[name] for name in names if isinstance(answer.get(name), list)), None)
        yield from _captioned([span], texts_in([answer.get("content")]))


def _parse_windows(row: Json) -> Iterator[CaptionedSpan]:
    """Yield the windows ``[start, end, score]`` of a QVHighlights submission."""
    for window in map(_as_list, _as_list(row.get("pred_relevant_windows"))[:MAX_WINDOWS]):
        scores = [score for value in window[2:3] if (score := _as_number(value)) is not None]
        yield from _captioned([window[:2]], [f"score {score:g}" for score in scores])


def _captioned(spans: Sequence[Any], captions: Sequence[str]) -> Iterator[CaptionedSpan]:
    """Yield the valid spans, each with the caption of the same position or an empty one."""
    for i, value in enumerate(spans):
        if (span := _as_span(value)) is not None:
            yield CaptionedSpan(*span, captions[i].strip() if i < len(captions) else "")


def _parse_turns(row: Json) -> Iterator[Turn]:
    for turn in objects_in(row.get("model_response_list")) or objects_in(row.get("conversation")):
        time, text = _as_time(turn.get("time")), turn.get("content")
        if isinstance(text, str) and turn.get("role") in ("user", "assistant") and "timespan" not in turn:
            yield Turn(-1.0 if time is None else time, turn["role"] == "user", text)


def _parse_texts(row: Json, benchmark: str) -> Iterator[str]:
    """Yield captions and answers without a time."""
    if any(True for _ in _parse_spans(row, benchmark)):
        return
    names = ["prediction", "text", "sentence", "captions", "references", "response", "model_response"]
    for name in names + ([] if _has_query_caption(benchmark) else ["caption"]):
        yield from texts_in(row[name] if isinstance(row.get(name), list) else [row.get(name)])
    for moment in objects_in(row.get("test_info")):
        yield from texts_in([moment.get("response")]) or [NO_ANSWER]


def _parse_gold_texts(row: Json) -> Iterator[str]:
    """Yield the gold answers of an OVO-Bench result file."""
    yield from texts_in([row.get("ground_truth")])
    for moment in objects_in(row.get("test_info")):
        if "count" in moment or "type" in moment:
            yield str(moment["count"]) if "count" in moment else "Yes" if moment["type"] == 1 else "No"


def _parse_curves(row: Json) -> Iterator[ScoreCurve]:
    frames = [(time, frame) for frame in objects_in(row.get("debug_data")) if (time := _frame_time(frame)) is not None]
    for name in ("relevance", "informative"):
        points = [(time, v) for time, frame in frames if (v := _as_probability(frame.get(f"{name}_score"))) is not None]
        if points:
            times, values = zip(*sorted(points), strict=True)
            yield ScoreCurve(name, times, values)
    scores = [_as_number(score) for score in _as_list(row.get("pred_saliency_scores"))]
    if scores and None not in scores:
        values = tuple(score for score in scores if score is not None)
        yield ScoreCurve("saliency", [i * CLIP_SECONDS for i in range(len(values))], values, CLIP_SECONDS)


def _frame_time(frame: Json) -> float | None:
    return _as_time(frame.get("time", frame.get("video_time")))


def _as_probability(value: Any) -> float | None:
    """Return a score, given as a probability or as the pair of probabilities of "no" and "yes"."""
    return _as_number(value[1] if isinstance(value, list) and len(value) == 2 else value)


def _parse_ratings(row: Json) -> Iterator[tuple[Span, float]]:
    """Yield the clips of a QVHighlights annotation with their mean rating over the annotators."""
    clips, ratings = _as_list(row.get("relevant_clip_ids")), _as_list(row.get("saliency_scores"))
    for clip, by_annotator in zip(clips, ratings, strict=False):
        scores = [score for value in _as_list(by_annotator) if (score := _as_number(value)) is not None]
        if scores and (index := _as_time(clip)) is not None:
            start, mean = index * CLIP_SECONDS, sum(scores) / len(scores)
            yield Span(start, start + CLIP_SECONDS), min(max(mean / MAX_RATING, 0.0), 1.0)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def objects_in(value: Any) -> list[Json]:
    """Return the objects of a list; nothing for other values."""
    return [row for row in _as_list(value) if isinstance(row, dict)]


def texts_in(value: Any) -> list[str]:
    """Return the texts of a list; nothing for other values."""
    return [text for text in _as_list(value) if isinstance(text, str)]


def _as_number(value: Any) -> float | None:
    number = finite_number(value)
    return number if number is not None and abs(number) <= MAX_NUMBER else None


def _as_time(value: Any) -> float | None:
    number = finite_number(value)
    return number if number is not None and abs(number) <= MAX_SECONDS else None


def _as_span(value: Any) -> Span | None:
    """Return a pair of times as a span with its ends in order."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    start, end = map(_as_time, value)
    return None if start is None or end is None else Span(min(start, end), max(start, end))
