"""Batches of samples with different numbers of frames compute what each sample computes alone."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch

from mmduet.annotations.training_samples import Sample
from mmduet.duet import IGNORE
from mmduet.events import Query
from mmduet.model import DuetModel
from mmduet.model.presets import SHAPES, byte_tokenizer, random_model
from mmduet.spans import AnnotatedReply, Span
from mmduet.training.collate import Batch, collate
from mmduet.training.losses import duet_parts, forward_hidden
from mmduet.training.sequence import TrainingSequence, build_sequence

CONFIG = SHAPES["tiny"]
FRAMES = (3, 9, 5)
SAMPLE = Sample("captioning", "v", (Query("Narrate."),), (AnnotatedReply(1.5, "it enters", Span(0.0, 2.0)),))
GROUNDING = Sample("grounding", "v", (Query("it"),), spans=(Span(0.5, 1.0),))


@lru_cache
def model() -> DuetModel:
    return random_model(CONFIG).requires_grad_(False)


def make_samples(counts: tuple[int, ...] = FRAMES) -> tuple[list[TrainingSequence], list[torch.Tensor]]:
    sequences = [
        build_sequence(
            GROUNDING if k % 2 else SAMPLE,
            [i / 2 for i in range(count)],
            byte_tokenizer(),
            CONFIG.frame_tokens,
            keep_replies=False,
            rng=np.random.default_rng(0),
        )
        for k, count in enumerate(counts)
    ]
    generator, size = torch.Generator().manual_seed(0), CONFIG.vision.image_size
    images = [torch.randint(0, 256, (n, size, size, 3), dtype=torch.uint8, generator=generator) for n in counts]
    return sequences, images


def test_each_sample_is_computed_as_alone() -> None:
    sequences, images = make_samples()
    hidden = forward_hidden(model(), collate(sequences, images))
    for row, sequence, visual in zip(hidden, sequences, images, strict=True):
        alone = forward_hidden(model(), collate([sequence], [visual]))[0]
        torch.testing.assert_close(row[: sequence.size], alone[: sequence.size], atol=1e-4, rtol=1e-4)


def test_losses_are_those_of_all_labelled_tokens_and_frames() -> None:
    sequences, images = make_samples()
    batch = collate(sequences, images)
    parts = duet_parts(model(), batch, forward_hidden(model(), batch))
    alone = [collate([sequence], [visual]) for sequence, visual in zip(sequences, images, strict=True)]
    parts_alone = [duet_parts(model(), each, forward_hidden(model(), each)) for each in alone]
    for name, labels in (("lm", "targets"), ("informative", "informative"), ("relevance", "relevance")):
        counts = [int((getattr(each, labels) != IGNORE).sum()) for each in alone]
        total = sum(count * found[name] for count, found in zip(counts, parts_alone, strict=True) if count)
        torch.testing.assert_close(parts[name], total / sum(counts), atol=1e-4, rtol=1e-4)


def test_padded_frames_are_black_and_have_no_labels() -> None:
    sequences, images = make_samples()
    batch = collate(sequences, images)
    assert batch.has_frame is not None
    assert batch.has_frame.sum(1).tolist() == list(FRAMES)
    assert batch.visual.shape[:2] == batch.has_frame.shape == batch.frame_ends.shape
    assert not batch.visual[~batch.has_frame].any()
    for labels in (batch.informative, batch.relevance):
        assert (labels[~batch.has_frame] == IGNORE).all()
    for row, sequence in zip(batch.frame_ends.tolist(), sequences, strict=True):
        assert row[: len(sequence.frame_ends)] == sequence.frame_ends


@pytest.mark.parametrize("counts", [(4, 4), (5,)])
def test_equal_numbers_of_frames_are_not_padded(counts: tuple[int, ...]) -> None:
    sequences, images = make_samples(counts)
    batch = collate(sequences, images)
    assert batch.has_frame is None
    assert torch.equal(batch.visual, torch.stack(images))
    assert batch.frame_ends.tolist() == [sequence.frame_ends for sequence in sequences]
    assert batch.informative.tolist() == [sequence.informative for sequence in sequences]


def test_batches_with_and_without_padded_frames_move_to_a_device() -> None:
    for counts in (FRAMES, (4, 4)):
        moved: Batch = collate(*make_samples(counts)).to(torch.device("meta"))
        assert moved.ids.is_meta
        assert (moved.has_frame is None) == (counts == (4, 4))
