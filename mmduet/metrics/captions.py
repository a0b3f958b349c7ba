"""Score captions against references: CIDEr-D, METEOR 1.5, ROUGE-L and BLEU as ``pycocoevalcap`` 1.2 computes them.

CIDEr and BLEU are computed here by that optional package, in pure Python, and ROUGE-L without it. METEOR and the tokenizer
are Java programs, so the caller passes a ``MeteorScorer`` and captions that are already tokenized.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from mmduet.errors import OptionError

METRICS = ("CIDEr", "METEOR", "ROUGE_L", "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4")
BLEU_ORDERS = 4
ROUGE_BETA = 1.2


@dataclass(frozen=True)
class Candidate:
    """A generated caption and its references (at least one), all tokenized."""

    caption: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class CorpusScores:
    """One score per metric for the whole corpus, and one per candidate; fractions (CIDEr: 0 to 10)."""

    corpus: Mapping[str, float]
    items: Sequence[Mapping[str, float]]


CorpusScore = tuple[float, Sequence[float]]  # of the corpus, and of each candidate


class MeteorScorer(Protocol):
    """Computes METEOR, which needs an external program."""

    def scores(self, corpora: Sequence[Sequence[Candidate]]) -> Sequence[CorpusScore]:
        """Return METEOR of each corpus, aggregated over summed statistics, and of each of its candidates.

        A candidate that cannot be scored has NaN, and counts as an empty caption in the corpus score.
        """
        ...


def score_captions(corpora: Sequence[Sequence[Candidate]], meteor: MeteorScorer) -> list[CorpusScores]:
    """Return all of ``METRICS`` for each corpus; a corpus without candidates scores 0.

    The corpus scores of three metrics are not means of the candidates' scores: CIDEr weights words by how many items of the
    *corpus* have them in their references, and METEOR and BLEU are computed from summed statistics.
    """
    return [_score_corpus(corpus, score) for corpus, score in zip(corpora, meteor.scores(corpora), strict=True)]


def _score_corpus(corpus: Sequence[Candidate], meteor: CorpusScore) -> CorpusScores:
    scores: dict[str, CorpusScore] = {"CIDEr": cider(corpus), "METEOR": meteor, "ROUGE_L": rouge_l(corpus)}
    scores |= {f"Bleu_{n}": score for n, score in enumerate(bleu(corpus), 1)}
    items = [{name: float(each[i]) for name, (_, each) in scores.items()} for i in range(len(corpus))]
    return CorpusScores({name: float(total) for name, (total, _) in scores.items()}, items)


def cider(corpus: Sequence[Candidate]) -> CorpusScore:
    """Return CIDEr-D (Vedantam et al. 2015), 0 to 10. A corpus of one item scores 0."""
    if not any(reference.split() for candidate in corpus for reference in candidate.references):
        return 0.0, [0.0] * len(corpus)  # there is no n-gram to match, and pycocoevalcap would fail
    total, each = _scorer("cider.cider", "Cider").compute_score(*_as_dictionaries(corpus))
    return float(total), each.tolist()


def rouge_l(corpus: Sequence[Candidate]) -> CorpusScore:
    """Return ROUGE-L (Lin 2004) with beta 1.2; the corpus score is the mean.

    The numbers are those of ``pycocoevalcap``, whose table of both texts' words takes gigabytes for long paragraphs.
    """
    each = [_rouge_l(candidate) for candidate in corpus]
    return (float(np.mean(each)) if each else 0.0), each


def _rouge_l(candidate: Candidate) -> float:
    caption, references = candidate.caption.split(" "), [reference.split(" ") for reference in candidate.references]
    common = [common_subsequence_length(caption, reference) for reference in references]
    precision = max(common) / len(caption)
    recall = max(length / len(reference) for length, reference in zip(common, references, strict=True))
    if not (precision and recall):
        return 0.0
    return ((1 + ROUGE_BETA**2) * precision * recall) / (recall + ROUGE_BETA**2 * precision)


def common_subsequence_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, with one row of the table as the bits of a number (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for position, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << position
    ones = (1 << len(a)) - 1
    row = ones
    for word in b:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & ones
    return len(a) - row.bit_count()


def bleu(corpus: Sequence[Candidate]) -> list[CorpusScore]:
    """Return BLEU-1 to BLEU-4 with the closest reference length, smoothed as in COCO's evaluation."""
    if not corpus:
        return [(0.0, [])] * BLEU_ORDERS
    totals, each = _scorer("bleu.bleu", "Bleu").compute_score(*_as_dictionaries(corpus), verbose=0)
    return list(zip(totals, each, strict=True))


def _scorer(module: str, name: str) -> Any:
    """Import a scorer of ``pycocoevalcap`` on first use, because the package is an extra."""
    try:
        make: Callable[[], Any] = getattr(import_module(f"pycocoevalcap.{module}"), name)
    except ImportError:
        raise OptionError("caption metrics need the package pycocoevalcap; pip install 'mmduet[eval]'") from None
    return make()


def _as_dictionaries(corpus: Iterable[Candidate]) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """Return (references, captions) in the form of ``pycocoevalcap``."""
    references, captions = {}, {}
    for i, candidate in enumerate(corpus):
        references[i], captions[i] = list(candidate.references), [candidate.caption]
    return references, captions
