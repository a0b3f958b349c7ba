"""Dense captioning (YouCook2, ActivityNet Captions, chapters): segments in time, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmduet.annotations.caption_files import id_problems
from mmduet.annotations.segment_files import Predicted, Segments, read_events, read_predictions
from mmduet.errors import OptionError
from mmduet.evaluation.report import Problem, Report, refuse_problems
from mmduet.metrics.captions import CorpusScores, score_corpora
from mmduet.metrics.dense_captions import Video
from mmduet.metrics.dense_evaluators import (
    FLAVOURS,
    Flavour,
    FlavourName,
    VideoScores,
    score_videos,
    summary,
)
from mmduet.metrics.meteor import Meteor, running_meteor
from mmduet.metrics.paragraphs import paragraph_candidates, shifted_paragraph_candidates
from mmduet.metrics.ptb import tokenise
from mmduet.metrics.soda import in_order
from mmduet.options import Profile
from mmduet.tasks.dense_captioning import Segment

COUNTS = ("n_preds",)  # not times 100
PARAGRAPH_METRICS = ("CIDEr", "METEOR")


@dataclass(frozen=True)
class _Rules:
    """What flavour and profile come to."""

    profile: Profile
    flavour: Flavour

    @property
    def faithful(self) -> bool:
        """Bug for bug."""
        return self.profile == "paper"

    @property
    def string_order(self) -> bool:
        return self.faithful and self.flavour.string_order_bug

    @property
    def sorts(self) -> bool:
        return self.flavour.sorts or not self.faithful

    def counts_missing(self, streamed: bool) -> bool:
        """MMDuet's conversion of replies leaves out the events of videos without a line."""
        return self.flavour.counts_missing and not (self.faithful and streamed)


def evaluate(
    predictions: Path,
    annotations: Path | Sequence[Path],
    *,
    profile: Profile = "fixed",
    strict: bool = False,
    flavour: FlavourName = "vid2seq",
    meteor: Meteor | None = None,
) -> Report:
    """SODA_c, CIDEr, METEOR, F1 and what they consist of; the kinds of files are those of ``segment_files``.

    ``annotations``: one file, or several that are reference sets of the same videos. ``flavour`` is whose definitions are
    followed: ``vid2seq`` (also TimeChat's and MMDuet's numbers), ``densevid2018``, ``densevid2021`` (ActivityNet's challenge,
    PDVC) or ``vidchapters``. ``profile="paper"`` has the originals' bugs: SODA_c with permuted columns and unsorted events
    (vid2seq alone), paragraphs that shift at a missing video, and for replies a first caption that is dropped and videos that
    are left out. ``meteor`` is a running one to use; else one is started, which takes seconds. Raises ``AnnotationError`` for
    files that cannot be used (with ``strict`` for any problem), ``OptionError`` for an unknown flavour, or where Java or
    ``pycocoevalcap`` is missing.
    """
    if flavour not in FLAVOURS:
        raise OptionError(f"flavour is {flavour!r}; use one of {', '.join(FLAVOURS)}")
    rules = _Rules(profile, FLAVOURS[flavour])
    paths = [annotations] if isinstance(annotations, Path) else list(annotations)
    sets = [read_events(path, profile) for path in paths]
    predicted = read_predictions(predictions, profile)
    names = list(dict.fromkeys(name for events in sets for name in events))
    missing = (
        "nothing said of any event" if rules.counts_missing(predicted.streamed) else "nothing: left out of the mean"
    )
    told = " and ".join(map(str, paths))
    problems = [*id_problems(predicted.videos, names, predictions, told, missing), *_reversed(predicted, sets, rules)]
    if strict:
        refuse_problems(problems)
    if not rules.counts_missing(predicted.streamed):
        names = [name for name in names if name in predicted.videos]
    videos = {name: _video(name, predicted, sets, rules) for name in names}
    with running_meteor(meteor) as judge:
        return _report(videos, set(predicted.videos), problems, rules, judge)


def _report(
    videos: Mapping[str, Video], predicted: set[str], problems: list[Problem], rules: _Rules, meteor: Meteor
) -> Report:
    compared = tokenised(list(videos.values()))
    scores = score_videos(compared, meteor, rules.flavour, string_order=rules.string_order)
    metrics = summary(scores, rules.flavour)
    if rules.flavour.paragraphs:
        paragraphs = _paragraphs(videos, predicted, meteor, rules)
        metrics |= {f"Para_{name}": paragraphs.corpus[name] for name in PARAGRAPH_METRICS}
    return Report(
        benchmark="dense_captioning",
        metrics=_headline_first({name: v if name in COUNTS else 100 * v for name, v in metrics.items()}),
        items=[_item(name, score) for name, score in zip(videos, scores, strict=True)],
        problems=problems,
        notes=_notes(rules),
        profile=rules.profile,
    )


def _headline_first(metrics: Mapping[str, float]) -> dict[str, float]:
    """What holds for one threshold or distance comes last."""
    return dict(sorted(metrics.items(), key=lambda metric: "@" in metric[0]))


def _item(name: str, scores: VideoScores) -> dict[str, str | float]:
    by_itself = {metric: 100 * value for metric, value in scores.by_itself().items()}
    return {"id": name, **by_itself, "n_preds": scores.predictions}


def _notes(rules: _Rules) -> list[str]:
    notes = [
        "CIDEr's word weights come from each video's matched pairs alone: a video with a single pair has CIDEr 0.",
        f"F1 is that {rules.flavour.f1}; published evaluators differ in this.",
    ]
    if rules.string_order:
        notes.append(
            "SODA_c has the permuted columns of the original: wrong for videos with more than ten predictions."
        )
    return notes


def _video(name: str, predicted: Predicted, sets: Sequence[Mapping[str, Segments]], rules: _Rules) -> Video:
    """As the rules have it: reversed segments turned round, everything sorted."""
    references = tuple(_prepared(events[name], rules) if name in events else None for events in sets)
    return Video(_prepared(predicted.videos.get(name, ()), rules), references)


def _prepared(segments: Segments, rules: _Rules) -> Segments:
    if rules.flavour.swaps_reversed:
        segments = tuple(Segment(min(s.start, s.end), max(s.start, s.end), s.caption) for s in segments)
    return tuple(in_order(segments)) if rules.sorts else segments


def _reversed(predicted: Predicted, sets: Sequence[Mapping[str, Segments]], rules: _Rules) -> list[Problem]:
    """Segments that end before they start, one problem each."""
    counted = "turned round" if rules.flavour.swaps_reversed else "a segment that overlaps nothing"
    kinds = [("predicted segment", predicted.videos), *(("event", events) for events in sets)]
    return [
        Problem(name, f"{kind} {i} ends at {segment.end} before it starts at {segment.start}", counted)
        for kind, videos in kinds
        for name, segments in videos.items()
        for i, segment in enumerate(segments)
        if segment.end < segment.start
    ]


def tokenised(videos: Sequence[Video]) -> list[Video]:
    """The same videos with tokens for captions, of one call to the tokeniser."""
    captions = list(dict.fromkeys(s.caption for video in videos for group in _groups(video) for s in group))
    tokens = dict(zip(captions, tokenise(captions), strict=True))

    def told(segments: Segments) -> Segments:
        return tuple(Segment(s.start, s.end, tokens[s.caption]) for s in segments)

    return [
        Video(told(video.predictions), tuple(None if events is None else told(events) for events in video.references))
        for video in videos
    ]


def _groups(video: Video) -> list[Segments]:
    return [video.predictions, *video.present]


def _paragraphs(videos: Mapping[str, Video], predicted: set[str], meteor: Meteor, rules: _Rules) -> CorpusScores:
    told = {name: [s.caption for s in video.predictions] for name, video in videos.items() if name in predicted}
    events = {name: [[s.caption for s in events] for events in video.present] for name, video in videos.items()}
    pair = shifted_paragraph_candidates if rules.faithful else paragraph_candidates
    (scores,) = score_corpora([pair(told, events)], meteor)
    return scores
