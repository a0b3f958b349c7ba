"""Captions of pictures or clips against their references, as the COCO evaluation scores them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmduet.annotations.caption_files import IDS, as_id, as_list, as_text, field, id_problems, once, read_entries
from mmduet.errors import AnnotationError
from mmduet.evaluation.report import Report, refuse_problems
from mmduet.metrics.captions import METRICS, Candidate, score_corpora
from mmduet.metrics.meteor import Meteor, running_meteor
from mmduet.metrics.ptb import tokenise
from mmduet.options import Profile

TEXTS = ("caption", "prediction", "text")
REFERENCES = ("captions", "references", "caption")
EMPTY = "an empty caption, so that leaving a hard one out cannot raise the score"


def evaluate(
    predictions: Path,
    annotations: Path,
    *,
    profile: Profile = "fixed",
    strict: bool = False,
    meteor: Meteor | None = None,
) -> Report:
    """CIDEr(-D), METEOR 1.5, ROUGE-L and BLEU-1 to -4 of captions against any number of references each.

    Predictions: ``[{image_id, caption}]`` (COCO results; also JSON lines, with ``id`` or ``question_id``, ``prediction`` or
    ``text``), ``{id: caption}`` or ``{id: [caption]}``. References: ``{annotations: [{image_id, caption}]}`` (COCO),
    ``{id: [captions]}``, ``{id: caption}``, or a list of ``{image_id, captions | references | caption}``. Both profiles are
    the same: the original has no quirk that could be mended. ``meteor`` is a running one to use; else one is started, which
    takes seconds. Raises ``AnnotationError`` for files that cannot be used (with
    ``strict`` also for a missing or unknown id), ``OptionError`` where Java or ``pycocoevalcap`` is missing.
    """
    references = read_references(annotations)
    captions = read_captions(predictions)
    problems = id_problems(captions, references, predictions, str(annotations), EMPTY)
    if strict:
        refuse_problems(problems)
    with running_meteor(meteor) as judge:
        (scores,) = score_corpora([_candidates(captions, references)], judge)
    return Report(
        benchmark="captions",
        metrics={name: 100 * scores.corpus[name] for name in METRICS},
        items=[
            {"id": name, **{metric: 100 * value for metric, value in item.items()}}
            for name, item in zip(references, scores.items, strict=True)
        ],
        problems=problems,
        notes=_notes(len(references)),
        profile=profile,
    )


def _notes(items: int) -> list[str]:
    notes = ["METEOR and BLEU of the whole are computed from summed statistics; they are no means of the items' own."]
    if items == 1:
        notes.append("CIDEr of a single item is 0 by its definition: no word tells it from other items.")
    return notes


def _candidates(captions: Mapping[str, str], references: Mapping[str, list[str]]) -> list[Candidate]:
    """In the order of ``references``, tokenised in one call."""
    texts = [text for name in references for text in (captions.get(name, ""), *references[name])]
    tokens = dict(zip(texts, tokenise(texts), strict=True))
    return [
        Candidate(tokens[captions.get(name, "")], tuple(tokens[text] for text in references[name]))
        for name in references
    ]


def read_captions(path: Path) -> dict[str, str]:
    """One caption an id; raises ``AnnotationError`` naming the entry."""
    entries = _rows(read_entries(path), TEXTS)
    if isinstance(entries, dict):
        return {name: _single(value, f"{path}, {name!r}") for name, value in entries.items()}
    wheres = [f"{path}, entry {i}" for i in range(len(entries))]
    pairs = [
        (as_id(field(row, IDS, where), where), _single(field(row, TEXTS, where), where))
        for row, where in zip(entries, wheres, strict=True)
    ]
    once((name for name, _ in pairs), path)
    return dict(pairs)


def read_references(path: Path) -> dict[str, list[str]]:
    """The references of each id, in the file's order; raises ``AnnotationError`` naming the entry."""
    entries = _rows(read_entries(path), REFERENCES)
    if isinstance(entries, dict) and isinstance(entries.get("annotations"), list):
        entries = entries["annotations"]
    references: dict[str, list[str]] = {}
    if isinstance(entries, dict):
        references = {name: _several(value, f"{path}, {name!r}") for name, value in entries.items()}
    else:
        for i, row in enumerate(entries):
            where = f"{path}, entry {i}"
            name = as_id(field(row, IDS, where), where)
            references.setdefault(name, []).extend(_several(field(row, REFERENCES, where), where))
    if not references:
        raise AnnotationError(f"{path} holds no reference; is it the right file?")
    return references


def _rows(entries: dict[str, Any] | list[Any], texts: tuple[str, ...]) -> dict[str, Any] | list[Any]:
    """A file of JSON lines that has but one line reads as one object; told from a table by its names."""
    alone = (
        isinstance(entries, dict) and any(name in entries for name in IDS) and any(name in entries for name in texts)
    )
    return [entries] if alone else entries


def _single(value: Any, where: str) -> str:
    """A caption, or a list of just one."""
    if isinstance(value, list):
        if len(value) != 1:
            raise AnnotationError(f"{where} has {len(value)} captions; a prediction is one")
        return as_text(value[0], where)
    return as_text(value, where)


def _several(value: Any, where: str) -> list[str]:
    """At least one reference."""
    if isinstance(value, str):
        return [value]
    if not as_list(value, where):
        raise AnnotationError(f"{where} has no reference; remove it, or give it one")
    return [as_text(text, where) for text in value]
