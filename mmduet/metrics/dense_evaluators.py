"""Reproduce the published evaluators of dense captioning, and the ways in which they differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mmduet.metrics.captions import METRICS, CorpusScores, MeteorScorer, score_captions
from mmduet.metrics.dense_captions import (
    IOU_THRESHOLDS,
    UNMATCHED_CAPTION,
    LocalizationScore,
    VideoCaptions,
    f1,
    iou_above,
    localization_score,
    matched_pairs,
    mean,
    starting_within,
)
from mmduet.metrics.soda import permute_columns_by_string, soda_c, soda_pairs

EvaluatorName = Literal["vid2seq", "densevid2018", "densevid2021", "vidchapters"]
DISTANCES_SECONDS = (1, 3, 5, 10, 30, 60)  # seconds


@dataclass(frozen=True)
class EvaluatorRules:
    """The ways in which one published evaluator differs from the others.

    ``f1`` is computed from the precision and recall of each video and then averaged, from the means over videos and
    thresholds, or from the means over videos at each threshold and then averaged. ``unmatched`` is the caption that a
    prediction without overlap is compared with.
    """

    f1: Literal["of each video", "of the means", "of each threshold"]
    unmatched: str = UNMATCHED_CAPTION
    counts_missing: bool = True  # a video without prediction counts as 0, else it is left out
    swaps_reversed: bool = False  # the ends of a reversed segment are swapped, else it overlaps nothing
    string_order_bug: bool = False  # see ``permute_columns_by_string``
    sorts_events: bool = True  # the original's SODA_c sorts by start
    paragraphs: bool = False
    distances: tuple[int, ...] = ()


EVALUATORS: Mapping[EvaluatorName, EvaluatorRules] = {
    # scenic's Vid2Seq; TimeChat's and MMDuet's evaluators are copies of it
    "vid2seq": EvaluatorRules(
        "of each video", swaps_reversed=True, string_order_bug=True, sorts_events=False, paragraphs=True
    ),
    # PDVC's densevid_eval3: evaluate2018 (METEOR counts its unmatched caption as four tokens) and evaluate2021
    "densevid2018": EvaluatorRules("of the means", unmatched="abc123!@#"),
    "densevid2021": EvaluatorRules("of the means"),
    "vidchapters": EvaluatorRules("of each threshold", counts_missing=False, distances=DISTANCES_SECONDS),
}


@dataclass(frozen=True)
class VideoScores:
    """The scores of one video, as fractions (CIDEr: 0 to 10).

    ``localization`` and ``captions`` are by IoU threshold, ``by_distance`` by distance, and ``soda`` by reference set, None
    where the set does not have the video. ``unscored_pairs`` of all ``pairs`` of captions have no METEOR.
    """

    predictions: int
    localization: tuple[LocalizationScore, ...]
    captions: tuple[Mapping[str, float], ...]
    soda: tuple[float | None, ...]
    by_distance: tuple[LocalizationScore, ...] = ()
    pairs: int = 0
    unscored_pairs: int = 0

    @property
    def precision(self) -> float:
        """The mean over thresholds."""
        return mean(at.precision for at in self.localization)

    @property
    def recall(self) -> float:
        """The mean over thresholds."""
        return mean(at.recall for at in self.localization)

    @property
    def soda_present(self) -> list[float]:
        """SODA_c against each reference set that has the video."""
        return [value for value in self.soda if value is not None]

    def headline_metrics(self) -> dict[str, float]:
        """Return the headline metrics of this video alone."""
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
    videos: Sequence[VideoCaptions], meteor: MeteorScorer, rules: EvaluatorRules, *, string_order: bool = False
) -> list[VideoScores]:
    """Score each video; captions are tokenized and, for SODA_c, in the order of time.

    ``string_order`` computes SODA_c with the columns of ``permute_columns_by_string``.
    """
    compared = [matched_pairs(video, threshold, rules.unmatched) for video in videos for threshold in IOU_THRESHOLDS]
    captions = iter(score_captions(compared, meteor))
    return [
        _video_scores(video, [next(captions) for _ in IOU_THRESHOLDS], soda, rules)
        for video, soda in zip(videos, _soda(videos, meteor, string_order), strict=True)
    ]


def _video_scores(
    video: VideoCaptions, captions: Sequence[CorpusScores], soda: _Soda, rules: EvaluatorRules
) -> VideoScores:
    similarities = [item["METEOR"] for at in captions for item in at.items] + soda.similarities
    return VideoScores(
        predictions=len(video.predictions),
        localization=tuple(localization_score(video, iou_above(threshold)) for threshold in IOU_THRESHOLDS),
        captions=tuple(at.corpus for at in captions),
        soda=tuple(soda.scores),
        by_distance=tuple(localization_score(video, starting_within(seconds)) for seconds in rules.distances),
        pairs=len(similarities),
        unscored_pairs=sum(map(math.isnan, similarities)),
    )


@dataclass(frozen=True)
class _Soda:
    """SODA_c of one video against each reference set, None where the set lacks the video, and METEOR of all its pairs."""

    scores: list[float | None] = field(default_factory=list)
    similarities: list[float] = field(default_factory=list)


def _soda(videos: Sequence[VideoCaptions], meteor: MeteorScorer, string_order: bool) -> Iterator[_Soda]:
    """Yield SODA_c of each video. All pairs are sent to METEOR in one call; one without METEOR has the similarity 0."""
    pairs = [soda_pairs(video.predictions, events) for video in videos for events in video.present_references]
    similarities = iter(meteor.scores(pairs))
    for video in videos:
        soda = _Soda()
        for events in video.references:
            if events is None:
                soda.scores.append(None)
                continue
            each = next(similarities)[1]
            soda.similarities.extend(each)
            similarity = np.nan_to_num(np.array(each)).reshape(len(events), len(video.predictions))
            ordered = permute_columns_by_string(similarity) if string_order else similarity
            soda.scores.append(soda_c(video.predictions, events, ordered))
        yield soda


def summarize(scores: Sequence[VideoScores], rules: EvaluatorRules) -> dict[str, float]:
    """Return the means over videos, under the field's names, as fractions (CIDEr: 0 to 10); ``n_preds`` is a count.

    With several reference sets ``SODA_c`` is the mean over the sets (``SODA_c_1``, ...), as in Vid2Seq and PDVC, and
    ``SODA_c_best`` takes each video's best set, as the metric's authors do.
    """
    precisions = [mean(video.localization[i].precision for video in scores) for i in range(len(IOU_THRESHOLDS))]
    recalls = [mean(video.localization[i].recall for video in scores) for i in range(len(IOU_THRESHOLDS))]
    captions = {
        name: [mean(v.captions[i][name] for v in scores) for i in range(len(IOU_THRESHOLDS))] for name in METRICS
    }
    metrics = _soda_summary(scores) | {name: mean(values) for name, values in captions.items()}
    metrics |= {"F1": _f1(scores, precisions, recalls, rules)}
    metrics |= {"Precision_Mean": mean(precisions), "Recall_Mean": mean(recalls)}
    for i, threshold in enumerate(IOU_THRESHOLDS):
        metrics |= {f"Precision@{threshold}": precisions[i], f"Recall@{threshold}": recalls[i]}
        metrics |= {f"F1@{threshold}": f1(precisions[i], recalls[i])}
        metrics |= {f"{name}@{threshold}": values[i] for name, values in captions.items()}
    for i, seconds in enumerate(rules.distances):
        precision, recall = (
            mean(v.by_distance[i].precision for v in scores),
            mean(v.by_distance[i].recall for v in scores),
        )
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
    scores: Sequence[VideoScores], precisions: Sequence[float], recalls: Sequence[float], rules: EvaluatorRules
) -> float:
    match rules.f1:
        case "of each video":
            return mean(f1(video.precision, video.recall) for video in scores)
        case "of the means":
            return f1(mean(precisions), mean(recalls))
        case "of each threshold":
            return mean(map(f1, precisions, recalls))
