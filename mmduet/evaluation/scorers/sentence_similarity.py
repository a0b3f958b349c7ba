"""Read similarities of sentences, for R@k/N of audio description."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmduet.errors import AnnotationError

SimilarityMatrix = NDArray[np.float64]


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
