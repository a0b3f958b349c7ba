"""The published evaluators of dense captioning: what each makes of a set of videos, and where they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmduet.metrics.captions import METRICS, score_corpora
from mmduet.metrics.dense_captions import (
    THRESHOLDS,
    UNSEEN_WORD,
    Located,
    Video,
    f1,
    located,
    mean,
    overlapping_by_more_than,
    pairs_to_compare,
    starting_within,
)
from mmduet.metrics.meteor import Meteor
from mmduet.metrics.soda import in_string_order, soda_c, soda_pairs

FlavourName = Literal["vid2seq", "densevid2018", "densevid2021", "vidchapters"]
DISTANCES = (1, 3, 5, 10, 30, 60)  # seconds


@dataclass(frozen=True)
class Flavour:
    """How one published evaluator differs from the others.

    ``f1`` says of what precision and recall it is: each video's, then averaged; the means over videos and thresholds; or the
    means over videos at each threshold, then averaged. ``unseen`` is what a prediction that overlaps nothing is compared with.
    """

    f1: Literal["of each video", "of the means", "of each threshold"]
    unseen: str = UNSEEN_WORD
    counts_missing: bool = True  # a video without prediction is 0 in every mean, else it is in none
    swaps_reversed: bool = False  # a segment that ends before it starts is turned round, else it overlaps nothing
    string_order_bug: bool = False  # the original's SODA_c has it
    sorts: bool = True  # the original's SODA_c sorts by start
    paragraphs: bool = False
    distances: tuple[int, ...] = ()


FLAVOURS: Mapping[FlavourName, Flavour] = {
    # scenic's Vid2Seq; TimeChat's and MMDuet's evaluators are copies of it
    "vid2seq": Flavour("of each video", swaps_reversed=True, string_order_bug=True, sorts=False, paragraphs=True),
    # PDVC's densevid_eval3, evaluate2018 (in METEOR, its unseen "word" has a length of four tokens) and evaluate2021
    "densevid2018": Flavour("of the means", unseen="abc123!@#"),
    "densevid2021": Flavour("of the means"),
    "vidchapters": Flavour("of each threshold", counts_missing=False, distances=DISTANCES),
}


@dataclass(frozen=True)
class VideoScores:
    """One video's numbers, fractions (CIDEr: 0 to 10).

    ``located`` and ``captions`` are by IoU threshold, ``distant`` by distance, ``soda`` by reference set, None where the set
    does not have the video.
    """

    predictions: int
    located: tuple[Located, ...]
    captions: tuple[Mapping[str, float], ...]
    soda: tuple[float | None, ...]
    distant: tuple[Located, ...] = ()

    @property
    def precision(self) -> float:
        """The mean over thresholds."""
        return mean(at.precision for at in self.located)

    @property
    def recall(self) -> float:
        """The mean over thresholds."""
        return mean(at.recall for at in self.located)

    @property
    def soda_present(self) -> list[float]:
        """SODA_c against each set that has the video."""
        return [value for value in self.soda if value is not None]

    def by_itself(self) -> dict[str, float]:
        """The headline metrics of this video alone."""
        scores = {"SODA_c": mean(self.soda_present)}
        if len(self.soda) > 1:
            scores |= {f"SODA_c_{i}": value for i, value in enumerate(self.soda, 1) if value is not None}
        scores |= {name: mean(at[name] for at in self.captions) for name in METRICS}
        return scores | {
            "F1": f1(self.precision, self.recall),
            "Precision_Mean": self.precision,
            "Recall_Mean": self.recall,
        }


def score_videos(
    videos: Sequence[Video], meteor: Meteor, flavour: Flavour, *, string_order: bool = False
) -> list[VideoScores]:
    """Each video by itself; their captions are tokenised and, for SODA_c, in the order of time.

    ``string_order``: SODA_c with the columns as ``in_string_order`` has them.
    """
    compared = [pairs_to_compare(video, threshold, flavour.unseen) for video in videos for threshold in THRESHOLDS]
    captions = iter(score_corpora(compared, meteor))
    sodas = _soda(videos, meteor, string_order)
    return [
        VideoScores(
            predictions=len(video.predictions),
            located=tuple(located(video, overlapping_by_more_than(threshold)) for threshold in THRESHOLDS),
            captions=tuple(next(captions).corpus for _ in THRESHOLDS),
            soda=next(sodas),
            distant=tuple(located(video, starting_within(seconds)) for seconds in flavour.distances),
        )
        for video in videos
    ]


def _soda(videos: Sequence[Video], meteor: Meteor, string_order: bool) -> Iterator[tuple[float | None, ...]]:
    """SODA_c of each video against each set; what METEOR has to compare goes to it in one piece."""
    pairs = [soda_pairs(video.predictions, events) for video in videos for events in video.present]
    similarities = iter(meteor.scores(pairs))
    for video in videos:
        scores: list[float | None] = []
        for events in video.references:
            if events is None:
                scores.append(None)
                continue
            similarity = np.array(next(similarities)[1]).reshape(len(events), len(video.predictions))
            ordered = in_string_order(similarity) if string_order else similarity
            scores.append(soda_c(video.predictions, events, ordered))
        yield tuple(scores)


def summary(scores: Sequence[VideoScores], flavour: Flavour) -> dict[str, float]:
    """The means over videos, under the field's names, fractions (CIDEr: 0 to 10); ``n_preds`` is a count.

    With several reference sets ``SODA_c`` is the mean of the sets' (``SODA_c_1``, ...), as Vid2Seq and PDVC have it, and
    ``SODA_c_best`` takes each video's best set, as the metric's authors do.
    """
    precisions = [mean(video.located[i].precision for video in scores) for i in range(len(THRESHOLDS))]
    recalls = [mean(video.located[i].recall for video in scores) for i in range(len(THRESHOLDS))]
    captions = {name: [mean(v.captions[i][name] for v in scores) for i in range(len(THRESHOLDS))] for name in METRICS}
    metrics = _soda_summary(scores) | {name: mean(values) for name, values in captions.items()}
    metrics |= {"F1": _f1(scores, precisions, recalls, flavour)}
    metrics |= {"Precision_Mean": mean(precisions), "Recall_Mean": mean(recalls)}
    for i, threshold in enumerate(THRESHOLDS):
        metrics |= {f"Precision@{threshold}": precisions[i], f"Recall@{threshold}": recalls[i]}
        metrics |= {f"F1@{threshold}": f1(precisions[i], recalls[i])}
        metrics |= {f"{name}@{threshold}": values[i] for name, values in captions.items()}
    for i, seconds in enumerate(flavour.distances):
        precision, recall = mean(v.distant[i].precision for v in scores), mean(v.distant[i].recall for v in scores)
        metrics |= {f"Precision@{seconds}s": precision, f"Recall@{seconds}s": recall}
        metrics |= {f"F1@{seconds}s": f1(precision, recall)}
    return metrics | {"n_preds": mean(video.predictions for video in scores)}


def _soda_summary(scores: Sequence[VideoScores]) -> dict[str, float]:
    sets = range(len(scores[0].soda)) if scores else range(0)
    means = [mean(value for video in scores if (value := video.soda[i]) is not None) for i in sets]
    if len(means) < 2:
        return {"SODA_c": mean(means)}
    best = mean(max(video.soda_present) for video in scores)
    each = {f"SODA_c_{i}": value for i, value in enumerate(means, 1)}
    return {"SODA_c": mean(means), **each, "SODA_c_best": best}


def _f1(
    scores: Sequence[VideoScores], precisions: Sequence[float], recalls: Sequence[float], flavour: Flavour
) -> float:
    match flavour.f1:
        case "of each video":
            return mean(f1(video.precision, video.recall) for video in scores)
        case "of the means":
            return f1(mean(precisions), mean(recalls))
        case "of each threshold":
            return mean(map(f1, precisions, recalls))
