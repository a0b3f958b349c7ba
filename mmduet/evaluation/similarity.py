"""How similar two sentences are, for R@k/N of audio description: numbers from a file, or a model that is there already."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmduet.errors import AnnotationError, OptionError

Matrix = NDArray[np.float64]
Similarity = Callable[[Sequence[str], Sequence[str]], Matrix]  # generated, true -> [generated, true]
ROBERTA_LARGE_LAYER = 17  # of the model that published numbers were made with


def read_similarities(path: Path) -> dict[str, Matrix]:
    """An ``.npz`` with one matrix ``[generated, true]`` a movie, under the movie's name; raises ``AnnotationError``."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            matrices = {name: np.asarray(archive[name], dtype=np.float64) for name in archive.files}
    except (OSError, EOFError, ValueError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise AnnotationError(f"{path} is no .npz of similarities ({error}); write it with numpy.savez") from error
    for name, matrix in matrices.items():
        if matrix.ndim != 2 or np.isnan(matrix).any():
            raise AnnotationError(f"{path}: {name} has shape {matrix.shape} or NaN; give a matrix of numbers")
    return matrices


def bert_score_f1(model: Path) -> Similarity:
    """BERTScore F1 by the package ``bert_score`` and a roberta-large in the directory ``model``, rescaled with its baseline.

    Nothing is downloaded; raises ``OptionError`` where the package or the directory is missing.
    """
    try:
        bert_score = import_module("bert_score")
    except ImportError:
        raise OptionError("BERTScore needs its package; pip install bert-score, or give precomputed ones") from None
    if not model.is_dir():
        raise OptionError(f"{model} is no directory; give one that holds roberta-large")
    baseline = Path(str(bert_score.__file__)).parent / "rescale_baseline" / "en" / "roberta-large.tsv"
    scorer: Any = bert_score.BERTScorer(
        str(model),
        num_layers=ROBERTA_LARGE_LAYER,
        lang="en",
        rescale_with_baseline=True,
        baseline_path=str(baseline),
    )

    def similarity(generated: Sequence[str], true: Sequence[str]) -> Matrix:
        _, _, scores = scorer.score([g for g in generated for _ in true], [t for _ in generated for t in true])
        return np.asarray(scores.tolist(), dtype=np.float64).reshape(len(generated), len(true))

    return similarity
