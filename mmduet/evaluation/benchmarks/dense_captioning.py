"""Dense captioning (YouCook2, ActivityNet Captions, chapters): captioned segments in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

from mmduet.annotations.dense_captioning_files import Segments, StreamedReplies, read_events, read_predictions
from mmduet.annotations.problems import Problem, check_ids_overlap, id_problems
from mmduet.errors import OptionError
from mmduet.evaluation.report import Report, check_no_problems
from mmduet.evaluation.scorers.meteor import MAX_SECONDS, Meteor, limit_notes, limit_problem, use_meteor
from mmduet.evaluation.scorers.ptb_tokenizer import tokenize_captions
from mmduet.metrics.captions import CorpusScores, score_captions
from mmduet.metrics.dense_captions import VideoCaptions
from mmduet.metrics.dense_evaluators import (
    EVALUATORS,
    EvaluatorName,
    EvaluatorRules,
    VideoScores,
    score_videos,
    summarize,
)
from mmduet.metrics.paragraphs import paragraph_candidates, shifted_paragraph_candidates
from mmduet.metrics.soda import sort_by_start
from mmduet.options import Profile
from mmduet.spans import CaptionedSpan
from mmduet.tasks.segments import paper_segments_from_replies, segments_from_replies

COUNTS = ("n_preds",)  # not times 100
PARAGRAPH_METRICS = ("CIDEr", "METEOR")


@dataclass(frozen=True)
class _Rules:
    """The rules that follow from flavour and profile."""

    profile: Profile
    flavour: EvaluatorRules

    @property
    def reproduces_bugs(self) -> bool:
        """Whether the bugs of the original evaluators are reproduced."""
        return self.profile == "paper"

    @property
    def string_order(self) -> bool:
        return self.reproduces_bugs and self.flavour.string_order_bug

    @property
    def sorts(self) -> bool:
        return self.flavour.sorts_events or not self.reproduces_bugs

    def counts_missing(self, streamed: bool) -> bool:
        """Return whether videos without predictions count. Those without a line do not in MMDuet's conversion of replies."""
        return self.flavour.counts_missing and not (self.reproduces_bugs and streamed)


@dataclass(frozen=True)
class PredictedSegments:
    """The predicted segments by video; ``streamed`` if they were derived from the replies of a streaming model."""

    videos: Mapping[str, Segments]
    streamed: bool


def evaluate(
    predictions: Path,
    annotations: Path | Sequence[Path],
    *,
    profile: Profile = "fixed",
    strict: bool = False,
    flavour: EvaluatorName = "vid2seq",
    meteor: Meteor | None = None,
    meteor_seconds: float = MAX_SECONDS,
) -> Report:
    """Compute SODA_c, CIDEr, METEOR, F1 and their components; ``annotations.dense_captioning_files`` lists the file formats.

    Args:
        annotations: One file, or several that are reference sets of the same videos.
        profile: ``paper`` reproduces bugs of the originals: SODA_c with permuted columns and unsorted events (vid2seq only),
            paragraphs that shift at a missing video, and for replies a dropped first caption and omitted videos.
        flavour: The evaluator whose definitions apply: ``vid2seq`` (also used by TimeChat and MMDuet), ``densevid2018``,
            ``densevid2021`` (ActivityNet's challenge, PDVC) or ``vidchapters``.
        meteor: A running METEOR process; None starts one, which takes seconds.
        meteor_seconds: The time that such a process may spend on one pair of captions.

    Raises:
        AnnotationError: a file cannot be used, or ``strict`` and there are problems.
        OptionError: ``flavour`` is unknown, or Java or ``pycocoevalcap`` is missing.
    """
    if flavour not in EVALUATORS:
        raise OptionError(f"flavour must be one of {', '.join(EVALUATORS)}, got {flavour!r}")
    rules = _Rules(profile, EVALUATORS[flavour])
    paths = [annotations] if isinstance(annotations, Path) else list(annotations)
    sets = [read_events(path, profile) for path in paths]
    predicted = read_predicted_segments(predictions, profile)
    names = list(dict.fromkeys(name for events in sets for name in events))
    missing = (
        "no captions for any event" if rules.counts_missing(predicted.streamed) else "nothing: left out of the mean"
    )
    check_ids_overlap(predicted.videos, names, predictions, " and ".join(map(str, paths)))
    problems = [*id_problems(predicted.videos, names, missing), *_reversed_problems(predicted, sets, rules)]
    if strict:
        check_no_problems(problems)
    if not rules.counts_missing(predicted.streamed):
        names = [name for name in names if name in predicted.videos]
    videos = {name: _video(name, predicted, sets, rules) for name in names}
    with use_meteor(meteor, meteor_seconds) as running:
        report = _report(videos, set(predicted.videos), problems, rules, running)
    if strict:
        check_no_problems(report.problems)
    return report


def read_predicted_segments(path: Path, profile: Profile) -> PredictedSegments:
    """Return the predictions of a file as segments. Raises ``AnnotationError``."""
    predictions = read_predictions(path)
    segments = {name: _segments_of(stream, profile) for name, stream in predictions.streams.items()}
    return PredictedSegments({**predictions.segments, **segments}, predictions.is_streamed)


def _segments_of(stream: StreamedReplies, profile: Profile) -> Segments:
    """Return the segments that the replies of a streaming model describe."""
    if profile == "paper":
        found = paper_segments_from_replies(stream.replies)
    else:
        scores = list(zip(stream.informative.times, stream.informative.relevance, strict=True))
        found = segments_from_replies(stream.replies, stream.query_time, scores)
    return tuple(CaptionedSpan(segment.start, segment.end, segment.caption) for segment in found)


def _report(
    videos: Mapping[str, VideoCaptions], predicted: set[str], problems: list[Problem], rules: _Rules, meteor: Meteor
) -> Report:
    compared = tokenize_videos(list(videos.values()))
    scores = score_videos(compared, meteor, rules.flavour, string_order=rules.string_order)
    metrics = summarize(scores, rules.flavour)
    unscored = {name: score.unscored_pairs for name, score in zip(videos, scores, strict=True)}
    total = sum(score.pairs for score in scores)
    if rules.flavour.paragraphs:
        paragraphs = _paragraphs(videos, predicted, meteor, rules)
        metrics |= {f"Para_{name}": paragraphs.corpus[name] for name in PARAGRAPH_METRICS}
        total += len(paragraphs.items)
        for name, item in zip(videos, paragraphs.items, strict=False):  # fewer items: shifted ones
            unscored[name] += isnan(item["METEOR"])
    return Report(
        benchmark="dense_captioning",
        metrics=_headline_first({name: v if name in COUNTS else 100 * v for name, v in metrics.items()}),
        items=[_item(name, score) for name, score in zip(videos, scores, strict=True)],
        problems=problems + [limit_problem(name, count, meteor) for name, count in unscored.items() if count],
        notes=[*_notes(rules), *limit_notes(sum(unscored.values()), total, meteor)],
        profile=rules.profile,
    )


def _headline_first(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics with those of single thresholds or distances last."""
    return dict(sorted(metrics.items(), key=lambda metric: "@" in metric[0]))


def _item(name: str, scores: VideoScores) -> dict[str, str | float]:
    by_itself = {metric: 100 * value for metric, value in scores.headline_metrics().items()}
    return {"id": name, **by_itself, "n_preds": scores.predictions}


def _notes(rules: _Rules) -> list[str]:
    notes = [
        "CIDEr's word weights come from each video's matched pairs alone: a video with a single pair has CIDEr 0.",
        f"F1 is that {rules.flavour.f1}; published evaluators differ in this.",
    ]
    if rules.string_order:
        notes.append(
            "SODA_c reproduces the permuted columns of the original, which are wrong for videos with more than ten predictions."
        )
    return notes


def _video(
    name: str, predicted: PredictedSegments, sets: Sequence[Mapping[str, Segments]], rules: _Rules
) -> VideoCaptions:
    """Return a video with its segments prepared by the rules."""
    references = tuple(_prepare(events[name], rules) if name in events else None for events in sets)
    return VideoCaptions(_prepare(predicted.videos.get(name, ()), rules), references)


def _prepare(segments: Segments, rules: _Rules) -> Segments:
    """Swap the ends of reversed segments and sort by start, as far as the rules ask for it."""
    if rules.flavour.swaps_reversed:
        segments = tuple(CaptionedSpan(min(s.start, s.end), max(s.start, s.end), s.caption) for s in segments)
    return tuple(sort_by_start(segments)) if rules.sorts else segments


def _reversed_problems(
    predicted: PredictedSegments, sets: Sequence[Mapping[str, Segments]], rules: _Rules
) -> list[Problem]:
    """Return a problem for each segment that ends before it starts."""
    counted_as = "a segment with swapped ends" if rules.flavour.swaps_reversed else "a segment that overlaps nothing"
    kinds = [("predicted segment", predicted.videos), *(("event", events) for events in sets)]
    return [
        Problem(name, f"{kind} {i} ends at {segment.end} before it starts at {segment.start}", counted_as)
        for kind, videos in kinds
        for name, segments in videos.items()
        for i, segment in enumerate(segments)
        if segment.end < segment.start
    ]


def tokenize_videos(videos: Sequence[VideoCaptions]) -> list[VideoCaptions]:
    """Return the videos with tokenised captions, from one call of the tokeniser."""
    captions = list(dict.fromkeys(s.caption for video in videos for group in _caption_groups(video) for s in group))
    tokens = dict(zip(captions, tokenize_captions(captions), strict=True))

    def tokenized(segments: Segments) -> Segments:
        return tuple(CaptionedSpan(s.start, s.end, tokens[s.caption]) for s in segments)

    return [
        VideoCaptions(
            tokenized(video.predictions),
            tuple(None if events is None else tokenized(events) for events in video.references),
        )
        for video in videos
    ]


def _caption_groups(video: VideoCaptions) -> list[Segments]:
    return [video.predictions, *video.present_references]


def _paragraphs(
    videos: Mapping[str, VideoCaptions], predicted: set[str], meteor: Meteor, rules: _Rules
) -> CorpusScores:
    captions = {name: [s.caption for s in video.predictions] for name, video in videos.items() if name in predicted}
    events = {
        name: [[s.caption for s in events] for events in video.present_references] for name, video in videos.items()
    }
    make_candidates = shifted_paragraph_candidates if rules.reproduces_bugs else paragraph_candidates
    (scores,) = score_captions([make_candidates(captions, events)], meteor)
    return scores
