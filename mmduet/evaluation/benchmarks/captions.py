"""Captions of images or clips, compared with their references as in the COCO evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from pathlib import Path

from mmduet.annotations.caption_files import read_captions, read_references
from mmduet.annotations.problems import check_ids_overlap, id_problems
from mmduet.evaluation.report import Report, check_no_problems
from mmduet.evaluation.scorers.meteor import MAX_SECONDS, Meteor, limit_notes, limit_problem, use_meteor
from mmduet.evaluation.scorers.ptb_tokenizer import tokenize_captions
from mmduet.metrics.captions import METRICS, Candidate, score_captions
from mmduet.options import Profile

EMPTY = "an empty caption, so that omitting difficult items cannot raise the score"


def evaluate(
    predictions: Path,
    annotations: Path,
    *,
    profile: Profile = "fixed",
    strict: bool = False,
    meteor: Meteor | None = None,
    meteor_seconds: float = MAX_SECONDS,
) -> Report:
    """Compute CIDEr(-D), METEOR 1.5, ROUGE-L and BLEU-1 to -4 of captions with any number of references.

    Predictions: ``[{image_id, caption}]`` (COCO results; also JSON lines, with ``id`` or ``question_id``, ``prediction`` or
    ``text``), ``{id: caption}`` or ``{id: [caption]}``. References: ``{annotations: [{image_id, caption}]}`` (COCO),
    ``{id: [captions]}``, ``{id: caption}``, or a list of ``{image_id, captions | references | caption}``. Both profiles give
    the same result. ``meteor`` is a running METEOR process; None starts one, which takes seconds and spends at most
    ``meteor_seconds`` on an item.

    Raises:
        AnnotationError: a file cannot be used, or ``strict`` and there are problems.
        OptionError: Java or ``pycocoevalcap`` is missing.
    """
    references = read_references(annotations)
    captions = read_captions(predictions)
    check_ids_overlap(captions, references, predictions, annotations)
    problems = id_problems(captions, references, EMPTY)
    if strict:
        check_no_problems(problems)
    with use_meteor(meteor, meteor_seconds) as running:
        (scores,) = score_captions([_candidates(captions, references)], running)
    skipped = [name for name, item in zip(references, scores.items, strict=True) if isnan(item["METEOR"])]
    problems += [limit_problem(name, 1, running) for name in skipped]
    if strict:
        check_no_problems(problems)
    return Report(
        benchmark="captions",
        metrics={name: 100 * scores.corpus[name] for name in METRICS},
        items=[
            {"id": name, **{metric: 100 * value for metric, value in item.items() if not isnan(value)}}
            for name, item in zip(references, scores.items, strict=True)
        ],
        problems=problems,
        notes=[*_notes(len(references)), *limit_notes(len(skipped), len(references), running)],
        profile=profile,
    )


def _notes(items: int) -> list[str]:
    notes = [
        "METEOR and BLEU are computed from statistics summed over all items; they are not means of the items' values."
    ]
    if items == 1:
        notes.append("CIDEr of a single item is 0 by definition: no word distinguishes it from other items.")
    return notes


def _candidates(captions: Mapping[str, str], references: Mapping[str, list[str]]) -> list[Candidate]:
    """Return the candidates in the order of ``references``, tokenised in one call."""
    texts = [text for name in references for text in (captions.get(name, ""), *references[name])]
    tokens = dict(zip(texts, tokenize_captions(texts), strict=True))
    return [
        Candidate(tokens[captions.get(name, "")], tuple(tokens[text] for text in references[name]))
        for name in references
    ]
