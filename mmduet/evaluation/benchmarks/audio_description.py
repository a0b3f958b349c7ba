"""Audio description: generated descriptions of movies, compared with those written by professional describers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

from mmduet.annotations.audio_description_files import read_descriptions
from mmduet.annotations.json_values import Json
from mmduet.annotations.problems import Problem, check_ids_overlap, id_problems
from mmduet.errors import AnnotationError
from mmduet.evaluation.report import Report, check_no_problems
from mmduet.evaluation.scorers.meteor import MAX_SECONDS, Meteor, limit_notes, limit_problem, use_meteor
from mmduet.evaluation.scorers.ptb_tokenizer import tokenize_captions
from mmduet.evaluation.scorers.sentence_similarity import SimilarityMatrix
from mmduet.metrics.audio_description import WINDOW, mean_over_movies, recall_at_k_in_n
from mmduet.metrics.captions import Candidate, score_captions
from mmduet.options import Profile
from mmduet.spans import Span

METRICS = ("CIDEr", "ROUGE_L", "METEOR", "Bleu_4")
RANKS = (1, 5)
Movies = Mapping[str, Mapping[Span, str]]  # descriptions by time slot, in the order of time


@dataclass(frozen=True)
class DescriptionPair:
    """The generated and the gold descriptions of one movie's time slots, in the order of time."""

    generated: list[str]
    gold: list[str]


def evaluate(
    predictions: Path,
    annotations: Path,
    *,
    profile: Profile = "fixed",
    strict: bool = False,
    similarity: Mapping[str, SimilarityMatrix] | None = None,
    meteor: Meteor | None = None,
    meteor_seconds: float = MAX_SECONDS,
) -> Report:
    """Compute CIDEr, ROUGE-L, METEOR and BLEU-4 over all descriptions, and with ``similarity`` R@1/16 and R@5/16.

    Both files are JSON or JSON lines of ``{movie, start, end, text}``, or ``{movie: [{start, end, text}]}``, in seconds. A
    prediction belongs to the description with the same start and end (to the millisecond). A movie's R is the mean over its
    windows; that of the report is the unweighted mean over movies.

    Args:
        similarity: The matrix ``[generated, gold]`` of each movie, in the order of time
            (``sentence_similarity.read_similarities``).
        meteor: A running METEOR process; None starts one, which spends at most ``meteor_seconds`` on a description.

    Raises:
        AnnotationError: a file cannot be used, or ``strict`` and there are problems.
        OptionError: Java is not available.
    """
    gold, generated = read_descriptions(annotations), read_descriptions(predictions)
    check_ids_overlap(generated, gold, predictions, annotations)
    problems = id_problems(generated, gold, "empty descriptions")
    problems += [problem for movie in gold if movie in generated for problem in _slot_problems(movie, generated, gold)]
    pairs = {movie: _pair(generated.get(movie, {}), slots) for movie, slots in gold.items()}
    long = {movie: pair for movie, pair in pairs.items() if len(pair.gold) >= WINDOW}
    if similarity is not None:
        problems += [_too_short_problem(movie, pair) for movie, pair in pairs.items() if movie not in long]
    if strict:
        check_no_problems(problems)
    matrices = {} if similarity is None else {movie: _matrix(movie, long[movie], similarity) for movie in long}
    with use_meteor(meteor, meteor_seconds) as running:
        (scores,) = score_captions([_candidates(list(pairs.values()))], running)
    slots = [_slot_id(movie, slot) for movie, slots in gold.items() for slot in slots]
    skipped = [name for name, item in zip(slots, scores.items, strict=True) if isnan(item["METEOR"])]
    problems += [limit_problem(name, 1, running) for name in skipped]
    if strict:
        check_no_problems(problems)
    metrics = {name: 100 * scores.corpus[name] for name in METRICS}
    if matrices:
        metrics |= {f"R@{k}/{WINDOW}": 100 * mean_over_movies(list(matrices.values()), k) for k in RANKS}
    return Report(
        benchmark="audio_description",
        metrics=metrics,
        items=[_item(movie, pair, matrices.get(movie)) for movie, pair in pairs.items()],
        problems=problems,
        notes=[*_notes(similarity is not None, bool(matrices)), *limit_notes(len(skipped), len(slots), running)],
        profile=profile,
    )


def _notes(is_requested: bool, is_measured: bool) -> list[str]:
    notes = [
        "All descriptions form one corpus: CIDEr's word weights are pooled over movies; a mean over movies would differ."
    ]
    if is_measured:
        notes.append("R@k/16 is the unweighted mean over movies; published code does not fix how movies are averaged.")
    elif is_requested:
        notes.append(f"No movie has {WINDOW} descriptions: R@k/{WINDOW} is not defined.")
    else:
        notes.append(
            f"R@1/{WINDOW} and R@5/{WINDOW} need similarities of sentences (BERTScore F1 of roberta-large, rescaled); give an "
            ".npz file with a matrix per movie."
        )
    return notes


def _slot_problems(movie: str, generated: Movies, gold: Movies) -> list[Problem]:
    missing = [slot for slot in gold[movie] if slot not in generated[movie]]
    unknown = [slot for slot in generated[movie] if slot not in gold[movie]]
    return [
        *(Problem(_slot_id(movie, slot), "has no prediction", "an empty description") for slot in missing),
        *(Problem(_slot_id(movie, slot), "is not in the annotations", "nothing: left out") for slot in unknown),
    ]


def _slot_id(movie: str, slot: Span) -> str:
    return f"{movie} {slot[0]}-{slot[1]}"


def _too_short_problem(movie: str, pair: DescriptionPair) -> Problem:
    return Problem(
        movie, f"has {len(pair.gold)} descriptions, fewer than {WINDOW}", f"nothing in R@k/{WINDOW}: left out"
    )


def _pair(generated: Mapping[Span, str], gold: Mapping[Span, str]) -> DescriptionPair:
    return DescriptionPair([generated.get(slot, "") for slot in gold], list(gold.values()))


def _candidates(movies: Sequence[DescriptionPair]) -> list[Candidate]:
    """Return all descriptions, tokenised in one call."""
    generated = tokenize_captions([text for movie in movies for text in movie.generated])
    gold = tokenize_captions([text for movie in movies for text in movie.gold])
    return [Candidate(caption, (reference,)) for caption, reference in zip(generated, gold, strict=True)]


def _matrix(movie: str, pair: DescriptionPair, similarity: Mapping[str, SimilarityMatrix]) -> SimilarityMatrix:
    """Return the matrix ``[generated, gold]`` of one movie. Raises ``AnnotationError`` if it is missing or misshapen."""
    size = len(pair.gold)
    if movie not in similarity:
        raise AnnotationError(f"the similarities lack movie {movie!r}; they have {', '.join(similarity)}")
    if (shape := similarity[movie].shape) != (size, size):
        raise AnnotationError(f"the similarities of {movie!r} must have shape ({size}, {size}), got {shape}")
    return similarity[movie]


def _item(movie: str, pair: DescriptionPair, matrix: SimilarityMatrix | None) -> Json:
    """Return a movie's recalls. Its own caption metrics are left out: they would come from another corpus."""
    recalls = {} if matrix is None else {f"R@{k}/{WINDOW}": 100 * recall_at_k_in_n(matrix, k) for k in RANKS}
    return {"id": movie, "descriptions": len(pair.gold), **recalls}
