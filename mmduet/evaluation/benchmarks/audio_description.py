"""Audio description: what is told of a film in the gaps of its dialogue, against what its describers wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmduet.annotations.caption_files import as_id, as_list, as_number, as_text, field, id_problems, read_entries
from mmduet.errors import AnnotationError
from mmduet.evaluation.report import Json, Problem, Report, refuse_problems
from mmduet.evaluation.similarity import Matrix, Similarity
from mmduet.metrics.audio_description import WINDOW, mean_over_movies, recall_at_k_in_n, windows
from mmduet.metrics.captions import Candidate, score_corpora
from mmduet.metrics.meteor import Meteor, running_meteor
from mmduet.metrics.ptb import tokenise
from mmduet.options import Profile

METRICS = ("CIDEr", "ROUGE_L", "METEOR", "Bleu_4")
RANKS = (1, 5)
TEXTS = ("text", "caption")
Slot = tuple[float, float]  # seconds
Movies = Mapping[str, Mapping[Slot, str]]  # descriptions by their slots, in the order of time


@dataclass(frozen=True)
class Told:
    """One movie: what was generated for each of its slots, and what is true; both in the order of time."""

    generated: list[str]
    true: list[str]


def evaluate(
    predictions: Path,
    annotations: Path,
    *,
    profile: Profile = "fixed",
    strict: bool = False,
    similarity: Similarity | Mapping[str, Matrix] | None = None,
    meteor: Meteor | None = None,
) -> Report:
    """CIDEr, ROUGE-L, METEOR and BLEU-4 over all descriptions of all movies, and R@1/16 and R@5/16 given ``similarity``.

    Both files: JSON or JSON lines of ``{movie, start, end, text}``, or ``{movie: [{start, end, text}]}``, seconds. A prediction
    belongs to the description with the same start and end (to the millisecond). ``similarity`` compares lists of sentences, or
    has each movie's matrix ``[generated, true]`` in the order of time (``similarity.read_similarities``). A movie's R is the
    mean over its windows; the report's is the unweighted mean over movies. ``meteor`` is a running one to use. Raises
    ``AnnotationError`` for files that cannot be used (with ``strict`` for any problem), ``OptionError`` without Java.
    """
    true, generated = read_descriptions(annotations), read_descriptions(predictions)
    problems = id_problems(generated, true, predictions, str(annotations), "empty descriptions")
    problems += [problem for movie in true if movie in generated for problem in _slot_problems(movie, generated, true)]
    told = {movie: _told(generated.get(movie, {}), slots) for movie, slots in true.items()}
    long = {movie: pair for movie, pair in told.items() if len(pair.true) >= WINDOW}
    if similarity is not None:
        problems += [_too_short(movie, pair) for movie, pair in told.items() if movie not in long]
    if strict:
        refuse_problems(problems)
    matrices = {} if similarity is None else {movie: _matrix(movie, long[movie], similarity) for movie in long}
    with running_meteor(meteor) as judge:
        (scores,) = score_corpora([_candidates(list(told.values()))], judge)
    metrics = {name: 100 * scores.corpus[name] for name in METRICS}
    if matrices:
        metrics |= {f"R@{k}/{WINDOW}": 100 * mean_over_movies(list(matrices.values()), k) for k in RANKS}
    return Report(
        benchmark="audio_description",
        metrics=metrics,
        items=[_item(movie, pair, matrices.get(movie)) for movie, pair in told.items()],
        problems=problems,
        notes=_notes(similarity is not None, bool(matrices)),
        profile=profile,
    )


def _notes(asked: bool, measured: bool) -> list[str]:
    notes = [
        "All descriptions are one corpus: CIDEr's word weights are pooled over movies; a mean of movies would differ."
    ]
    if measured:
        notes.append("R@k/16 is the unweighted mean over movies; published code does not fix how movies are averaged.")
    elif asked:
        notes.append(f"No movie has {WINDOW} descriptions: R@k/{WINDOW} is not defined.")
    else:
        notes.append(
            f"R@1/{WINDOW} and R@5/{WINDOW} need similarities of sentences (BERTScore F1 of roberta-large, rescaled): give an "
            ".npz with each movie's matrix, or a directory with the model."
        )
    return notes


def read_descriptions(path: Path) -> dict[str, dict[Slot, str]]:
    """Descriptions by movie and slot, in the order of time; raises ``AnnotationError`` naming the entry."""
    movies: dict[str, dict[Slot, str]] = {}
    for movie, row, where in _rows(path):
        start, end = (as_number(field(row, (name,), where), where) for name in ("start", "end"))
        if end < start:
            raise AnnotationError(f"{where} ({movie!r}) ends at {end} before it starts at {start}; turn them round")
        slots, slot = movies.setdefault(movie, {}), (round(start, 3), round(end, 3))
        if slot in slots:
            raise AnnotationError(f"{where}: {movie!r} has two descriptions from {start} to {end}; keep one")
        slots[slot] = as_text(field(row, TEXTS, where), where)
    return {movie: dict(sorted(slots.items())) for movie, slots in movies.items() if slots}


def _rows(path: Path) -> list[tuple[str, Any, str]]:
    """Movie, entry and its name for a message."""
    entries = read_entries(path)
    if isinstance(entries, dict) and "movie" in entries:
        entries = [entries]  # JSON lines that are but one
    if isinstance(entries, dict):
        return [
            (movie, row, f"{path}, {movie!r}, entry {i}")
            for movie, rows in entries.items()
            for i, row in enumerate(as_list(rows, f"{path}, {movie!r}"))
        ]
    wheres = [f"{path}, entry {i}" for i in range(len(entries))]
    return [
        (as_id(field(row, ("movie",), where), where), row, where) for row, where in zip(entries, wheres, strict=True)
    ]


def _slot_problems(movie: str, generated: Movies, true: Movies) -> list[Problem]:
    missing = [slot for slot in true[movie] if slot not in generated[movie]]
    unknown = [slot for slot in generated[movie] if slot not in true[movie]]
    return [
        *(Problem(_slot_id(movie, slot), "has no prediction", "an empty description") for slot in missing),
        *(Problem(_slot_id(movie, slot), "is not in the annotations", "nothing: left out") for slot in unknown),
    ]


def _slot_id(movie: str, slot: Slot) -> str:
    return f"{movie} {slot[0]}-{slot[1]}"


def _too_short(movie: str, pair: Told) -> Problem:
    return Problem(
        movie, f"has {len(pair.true)} descriptions, fewer than {WINDOW}", f"nothing in R@k/{WINDOW}: left out"
    )


def _told(generated: Mapping[Slot, str], true: Mapping[Slot, str]) -> Told:
    return Told([generated.get(slot, "") for slot in true], list(true.values()))


def _candidates(movies: Sequence[Told]) -> list[Candidate]:
    """All descriptions, tokenised in one call."""
    generated = tokenise([text for movie in movies for text in movie.generated])
    true = tokenise([text for movie in movies for text in movie.true])
    return [Candidate(caption, (reference,)) for caption, reference in zip(generated, true, strict=True)]


def _matrix(movie: str, pair: Told, similarity: Similarity | Mapping[str, Matrix]) -> Matrix:
    """``[generated, true]`` of one movie; computed, only what shares a window is: the rest stays NaN."""
    size = len(pair.true)
    if isinstance(similarity, Mapping):
        if movie not in similarity:
            raise AnnotationError(f"the similarities have no movie {movie!r}; they have {', '.join(similarity)}")
        if (shape := similarity[movie].shape) != (size, size):
            raise AnnotationError(
                f"the similarities of {movie!r} are {shape}, its descriptions {size}; give [{size}, {size}]"
            )
        return similarity[movie]
    matrix = np.full((size, size), np.nan)
    for window in windows(size):
        matrix[window, window] = similarity(pair.generated[window], pair.true[window])
    return matrix


def _item(movie: str, pair: Told, matrix: Matrix | None) -> Json:
    """A movie's own recall; its caption metrics would be of another corpus."""
    recalls = {} if matrix is None else {f"R@{k}/{WINDOW}": 100 * recall_at_k_in_n(matrix, k) for k in RANKS}
    return {"id": movie, "descriptions": len(pair.true), **recalls}
