"""Captions against references: CIDEr-D, METEOR 1.5, ROUGE-L and BLEU as ``pycocoevalcap`` 1.2 computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmduet.errors import OptionError
from mmduet.evaluation.java import REMEDY

if TYPE_CHECKING:
    from mmduet.metrics.meteor import Meteor

METRICS = ("CIDEr", "METEOR", "ROUGE_L", "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4")
BLEU_ORDERS = 4


@dataclass(frozen=True)
class Candidate:
    """A generated caption and the references (at least one) that it is compared with, all of them tokenised."""

    caption: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class CorpusScores:
    """One number a metric for the whole corpus, and one a candidate; fractions (CIDEr: 0 to 10)."""

    corpus: Mapping[str, float]
    items: Sequence[Mapping[str, float]]


Score = tuple[float, Sequence[float]]


def score_corpora(corpora: Sequence[Sequence[Candidate]], meteor: Meteor) -> list[CorpusScores]:
    """All of ``METRICS`` for each corpus by itself; a corpus without candidates scores 0.

    CIDEr weighs words by how many items of the *corpus* have them in their references, METEOR and BLEU are computed from
    summed statistics, so none of the three is a mean of what its items would score alone.
    """
    return [_score(corpus, told) for corpus, told in zip(corpora, meteor.scores(corpora), strict=True)]


def _score(corpus: Sequence[Candidate], meteor: Score) -> CorpusScores:
    scores: dict[str, Score] = {"CIDEr": cider(corpus), "METEOR": meteor, "ROUGE_L": rouge_l(corpus)}
    scores |= {f"Bleu_{n}": score for n, score in enumerate(bleu(corpus), 1)}
    items = [{name: float(each[i]) for name, (_, each) in scores.items()} for i in range(len(corpus))]
    return CorpusScores({name: float(total) for name, (total, _) in scores.items()}, items)


def cider(corpus: Sequence[Candidate]) -> Score:
    """CIDEr-D (Vedantam et al. 2015), 0 to 10: of the corpus, and of each candidate. A corpus of one item scores 0."""
    if not any(reference.split() for candidate in corpus for reference in candidate.references):
        return 0.0, [0.0] * len(corpus)  # no n-gram to match; the package fails here
    total, each = _scorer("cider.cider", "Cider").compute_score(*_as_dictionaries(corpus))
    return float(total), each.tolist()


def rouge_l(corpus: Sequence[Candidate]) -> Score:
    """ROUGE-L with beta 1.2: the mean over the corpus, and each candidate's."""
    if not corpus:
        return 0.0, []
    total, each = _scorer("rouge.rouge", "Rouge").compute_score(*_as_dictionaries(corpus))
    return float(total), each.tolist()


def bleu(corpus: Sequence[Candidate]) -> list[Score]:
    """BLEU-1 to BLEU-4 of the corpus with the closest reference length, and each candidate's own, smoothed as COCO does."""
    if not corpus:
        return [(0.0, [])] * BLEU_ORDERS
    totals, each = _scorer("bleu.bleu", "Bleu").compute_score(*_as_dictionaries(corpus), verbose=0)
    return list(zip(totals, each, strict=True))


def _scorer(module: str, name: str) -> Any:
    """A scorer of ``pycocoevalcap``, imported where it is needed: the package is an extra."""
    try:
        make: Callable[[], Any] = getattr(import_module(f"pycocoevalcap.{module}"), name)
    except ImportError:
        raise OptionError(f"caption metrics need the package pycocoevalcap; {REMEDY}") from None
    return make()


def _as_dictionaries(corpus: Iterable[Candidate]) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """References and candidates as ``pycocoevalcap`` wants them, in this order."""
    references, captions = {}, {}
    for i, candidate in enumerate(corpus):
        references[i], captions[i] = list(candidate.references), [candidate.caption]
    return references, captions
