"""A small annotated sample as a training sequence, and its frames."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmduet.annotations.training_samples import Sample
from mmduet.events import Query
from mmduet.model.presets import SHAPES, byte_tokenizer
from mmduet.spans import AnnotatedReply
from mmduet.training.sequence import TrainingSequence, build_sequence

TIMES = [k / 2 for k in range(9)]  # 0.0 … 4.0
ANSWERS = (AnnotatedReply(1.5, "it enters", (0.0, 2.0)), AnnotatedReply(3.5, "it leaves", (2.0, 4.0)))
CAPTIONS = Sample("captioning", "v", (Query("Narrate.", 0.0), Query("Now?", 2.2)), ANSWERS)
GROUNDING = Sample("grounding", "v", (Query("When does it enter?", 0.0),), spans=((0.5, 2.0),))


def make_sequence(
    sample: Sample = CAPTIONS,
    *,
    keep: bool = False,
    window: int | None = None,
    frame_tokens: int = SHAPES["tiny"].frame_tokens,
) -> TrainingSequence:
    """Return the tokens of a sample in the vocabulary of the random models."""
    rng = np.random.default_rng(0)
    return build_sequence(sample, TIMES, byte_tokenizer(), frame_tokens, keep_replies=keep, rng=rng, window=window)


def images(size: int = SHAPES["tiny"].vision.image_size, seed: int = 0) -> Tensor:
    """Return random frames of the sample, uint8 [F, S, S, 3]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (len(TIMES), size, size, 3), dtype=torch.uint8, generator=generator)
