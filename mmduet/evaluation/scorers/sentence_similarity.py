"""Similarities of sentences for R@k/N of audio description: from a file, or by BERTScore with a local model."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmduet.errors import AnnotationError, OptionError

SimilarityMatrix = NDArray[np.float64]
Similarity = Callable[[Sequence[str], Sequence[str]], SimilarityMatrix]  # generated, gold -> [generated, gold]
ROBERTA_LARGE_LAYER = 17  # the layer that published numbers use


def read_similarities(path: Path) -> dict[str, SimilarityMatrix]:
    """Return the matrix ``[generated, gold]`` of each movie from an ``.npz`` file. Raises ``AnnotationError``."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            matrices = {name: np.asarray(archive[name], dtype=np.float64) for name in archive.files}
    except (OSError, EOFError, ValueError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise AnnotationError(f"{path} is not a readable .npz file ({error}); write it with numpy.savez") from error
    for name, matrix in matrices.items():
        if matrix.ndim != 2 or np.isnan(matrix).any():
            raise AnnotationError(f"{path}: {name} must be a matrix without NaN, got shape {matrix.shape}")
    return matrices


def load_bert_score(model: Path) -> Similarity:
    """Return a function that computes BERTScore F1, rescaled with its baseline.

    ``model`` is a directory with roberta-large; nothing is downloaded. Raises ``OptionError`` if the directory or the package
    ``bert_score`` is missing.
    """
    try:
        bert_score = import_module("bert_score")
    except ImportError:
        raise OptionError(
            "BERTScore needs the package bert-score; run: pip install bert-score, or give precomputed similarities"
        ) from None
    if not model.is_dir():
        raise OptionError(f"{model} is not a directory; give the directory of roberta-large")
    baseline = Path(str(bert_score.__file__)).parent / "rescale_baseline" / "en" / "roberta-large.tsv"
    scorer: Any = bert_score.BERTScorer(
        str(model),
        num_layers=ROBERTA_LARGE_LAYER,
        lang="en",
        rescale_with_baseline=True,
        baseline_path=str(baseline),
    )

    def similarity(generated: Sequence[str], gold: Sequence[str]) -> SimilarityMatrix:
        _, _, scores = scorer.score([g for g in generated for _ in gold], [t for _ in generated for t in gold])
        return np.asarray(scores.tolist(), dtype=np.float64).reshape(len(generated), len(gold))

    return similarity
