"""Match captioned segments with annotated events by their overlap in time, for the metrics of dense captioning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mmduet.metrics.captions import Candidate
from mmduet.spans import CaptionedSpan

IOU_THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
EPSILON = 1e-8  # in every published evaluator: keeps an IoU of exactly a threshold just below it
# A word that no caption has, compared with a prediction that overlaps no event. Originals draw 10 to 20 random letters.
UNMATCHED_CAPTION = "zqxjkvbzqxjkvb"

MatchRule = Callable[[CaptionedSpan, CaptionedSpan], bool]


@dataclass(frozen=True)
class VideoCaptions:
    """One video's predictions, and its events by set of references (None where a set does not have the video).

    Captions are tokenized where they are compared.
    """

    predictions: tuple[CaptionedSpan, ...]
    references: tuple[tuple[CaptionedSpan, ...] | None, ...]

    @property
    def present_references(self) -> list[tuple[CaptionedSpan, ...]]:
        """The reference sets that have the video."""
        return [events for events in self.references if events is not None]


@dataclass(frozen=True)
class LocalizationScore:
    """The share of predictions that match an event, and of events that match a prediction; 0 to 1."""

    precision: float
    recall: float


def iou(a: CaptionedSpan, b: CaptionedSpan) -> float:
    """Return the intersection over union in time; 0 where a segment ends before it starts."""
    intersection = max(0.0, min(a.end, b.end) - max(a.start, b.start))
    union = min(max(a.end, b.end) - min(a.start, b.start), (a.end - a.start) + (b.end - b.start))
    return intersection / (union + EPSILON) if intersection else 0.0


def localization_score(video: VideoCaptions, matches: MatchRule) -> LocalizationScore:
    """Return precision and recall under a rule; a segment may match several events and the reverse.

    Of several reference sets the best counts, separately for precision and recall (densevid_eval, Krishna et al. 2017).
    """
    sets = video.present_references
    precisions = [_matched_share(video.predictions, events, matches) for events in sets]
    recalls = [_matched_share(events, video.predictions, matches) for events in sets]
    return LocalizationScore(max(precisions, default=0.0), max(recalls, default=0.0))


def _matched_share(segments: Sequence[CaptionedSpan], others: Sequence[CaptionedSpan], matches: MatchRule) -> float:
    return sum(any(matches(a, b) for b in others) for a in segments) / len(segments) if segments else 0.0


def iou_above(threshold: float) -> MatchRule:
    """Return the rule of precision and recall at an IoU."""
    return lambda a, b: iou(a, b) > threshold


def starting_within(seconds: float) -> MatchRule:
    """Return the rule of VidChapters' precision and recall at a distance, which compares only starts."""
    return lambda a, b: abs(a.start - b.start) < seconds


def matched_pairs(video: VideoCaptions, threshold: float, unmatched: str = UNMATCHED_CAPTION) -> list[Candidate]:
    """Pair each prediction with each event, of all reference sets, whose IoU is at least ``threshold``.

    A prediction without such an event is paired with ``unmatched``, whose length counts in METEOR and BLEU.
    """
    events = [event for events in video.present_references for event in events]
    pairs: list[Candidate] = []
    for prediction in video.predictions:
        matched = [event.caption for event in events if iou(prediction, event) >= threshold]
        pairs += [Candidate(prediction.caption, (caption,)) for caption in matched or [unmatched]]
    return pairs


def mean(values: Iterable[float]) -> float:
    """Return the arithmetic mean; 0 without values."""
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def f1(precision: float, recall: float) -> float:
    """Return the harmonic mean; 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
