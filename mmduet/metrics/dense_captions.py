"""Captioned segments against captioned events: where they lie, and what is said of those that overlap; pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mmduet.metrics.captions import Candidate
from mmduet.tasks.dense_captioning import Segment

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)  # IoU
EPSILON = 1e-8  # in every published evaluator: it keeps an IoU of exactly a threshold just below it
# What a prediction that overlaps nothing is compared with: a word that no caption has. Originals draw 10 to 20 letters.
UNSEEN_WORD = "zqxjkvbzqxjkvb"

Close = Callable[[Segment, Segment], bool]


@dataclass(frozen=True)
class Video:
    """One video's predictions, and its events by each set of references; None where a set does not have the video.

    Captions are tokenised where they are to be compared.
    """

    predictions: tuple[Segment, ...]
    references: tuple[tuple[Segment, ...] | None, ...]

    @property
    def present(self) -> list[tuple[Segment, ...]]:
        """The reference sets that have the video."""
        return [events for events in self.references if events is not None]


@dataclass(frozen=True)
class Located:
    """Shares from 0 to 1: of predictions that some event is near, of events that some prediction is near."""

    precision: float
    recall: float


def iou(a: Segment, b: Segment) -> float:
    """Intersection over union in time; 0 where one of them ends before it begins."""
    intersection = max(0.0, min(a.end, b.end) - max(a.start, b.start))
    union = min(max(a.end, b.end) - min(a.start, b.start), (a.end - a.start) + (b.end - b.start))
    return intersection / (union + EPSILON) if intersection else 0.0


def located(video: Video, close: Close) -> Located:
    """Precision and recall where a prediction and an event match if they are ``close``; nothing is used up by a match.

    Of several reference sets the best counts, for either number by itself (densevid_eval, Krishna et al. 2017).
    """
    sets = video.present
    precisions = [_share(video.predictions, events, close) for events in sets]
    recalls = [_share(events, video.predictions, close) for events in sets]
    return Located(max(precisions, default=0.0), max(recalls, default=0.0))


def _share(some: Sequence[Segment], others: Sequence[Segment], close: Close) -> float:
    """The share of ``some`` that one of the ``others`` is close to."""
    return sum(any(close(a, b) for b in others) for a in some) / len(some) if some else 0.0


def overlapping_by_more_than(threshold: float) -> Close:
    """Close as precision and recall at an IoU have it."""
    return lambda a, b: iou(a, b) > threshold


def starting_within(seconds: float) -> Close:
    """Close as VidChapters' precision and recall at a distance have it: only the beginnings count."""
    return lambda a, b: abs(a.start - b.start) < seconds


def pairs_to_compare(video: Video, threshold: float, unseen: str = UNSEEN_WORD) -> list[Candidate]:
    """Each prediction with each event, of all reference sets, that it overlaps by ``threshold`` IoU at least.

    One that overlaps none is compared with ``unseen``, which matches nothing and yet has a length: METEOR and BLEU feel it.
    """
    events = [event for events in video.present for event in events]
    pairs: list[Candidate] = []
    for prediction in video.predictions:
        matched = [event.caption for event in events if iou(prediction, event) >= threshold]
        pairs += [Candidate(prediction.caption, (caption,)) for caption in matched or [unseen]]
    return pairs


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean; 0 of nothing."""
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def f1(precision: float, recall: float) -> float:
    """The harmonic mean; 0 where both are."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
