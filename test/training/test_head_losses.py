"""Losses of the heads: defaults are bit-identical to plain cross-entropy; weights, focal loss and smoothing as defined."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from device_option import device
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from mmduet.annotations.training_samples import Sample
from mmduet.duet import IGNORE
from mmduet.errors import OptionError, TrainingError
from mmduet.events import Query
from mmduet.model import DuetModel
from mmduet.model.network import HEADS
from mmduet.model.presets import SHAPES, byte_tokenizer, random_model
from mmduet.spans import AnnotatedReply, Span
from mmduet.training.collate import Batch, collate
from mmduet.training.head_losses import HeadLossOptions, head_loss, soften_transitions
from mmduet.training.losses import combine, duet_parts, forward_hidden
from mmduet.training.progress_metrics import HeadStatistics
from mmduet.training.sequence import build_sequence

TIMES = [i / 2 for i in range(5)]
CAPTIONS = Sample("captioning", "v", (Query("Go."),), (AnnotatedReply(1.5, "red enters", (1.0, 2.0)),))
GROUNDING = Sample("grounding", "v", (Query("red?"),), spans=((1.0, 2.0),))
LABELS = torch.tensor([[0, 0, 1, 0, IGNORE], [IGNORE, 1, 0, 0, 0]])
LOGITS = torch.tensor(
    [[1.0, -1.0], [0.5, 0.2], [-0.3, 0.4], [2.0, 0.0], [0.1, 0.3], [1.5, -2.0], [0.0, 0.0], [0.2, 1.0]]
)


def make_batch() -> Batch:
    samples, rng = (CAPTIONS, GROUNDING), np.random.default_rng(0)
    images = torch.randint(0, 256, (2, 5, 28, 28, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    sequences = [build_sequence(s, TIMES, byte_tokenizer(), 4, keep_replies=False, rng=rng) for s in samples]
    return collate(sequences, list(images)).to(torch.device(device()))


def plain_parts(model: DuetModel, batch: Batch, hidden: Tensor) -> dict[str, Tensor]:
    """Compute the losses without any option, as nano's recipe trains."""
    parts = {}
    learned = batch.targets != IGNORE
    if learned.any():
        parts["lm"] = cross_entropy(model.lm_head(hidden[learned]).float(), batch.targets[learned])
    rows = torch.arange(hidden.shape[0], device=hidden.device)[:, None]
    at_frames = hidden[rows, batch.frame_ends]
    for name in HEADS:
        target = getattr(batch, name)
        labelled = target != IGNORE
        if labelled.any():
            parts[name] = cross_entropy(model.heads[name](at_frames[labelled]).float(), target[labelled])
    return parts


def gradients(model: DuetModel, parts: dict[str, Tensor]) -> dict[str, Tensor]:
    model.zero_grad()
    combine(parts).total.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("options", [None, HeadLossOptions(), HeadLossOptions(5.0, 2.0, 1.0, heads=())])
@pytest.mark.parametrize("statistics", [None, HeadStatistics()])
def test_defaults_give_bit_identical_losses_and_gradients(
    options: HeadLossOptions | None, statistics: HeadStatistics | None
) -> None:
    model, batch = random_model(SHAPES["tiny"]).to(device()).train(), make_batch()
    expected = plain_parts(model, batch, forward_hidden(model, batch))
    expected_gradients = gradients(model, expected)
    parts = duet_parts(model, batch, forward_hidden(model, batch), options, statistics)
    found_gradients = gradients(model, parts)
    assert list(parts) == list(expected)
    assert all(torch.equal(parts[name], expected[name]) for name in expected)
    assert found_gradients.keys() == expected_gradients.keys()
    assert all(torch.equal(found_gradients[name], expected_gradients[name]) for name in expected_gradients)


def test_options_change_the_informative_loss_only() -> None:
    model, batch = random_model(SHAPES["tiny"]).to(device()), make_batch()
    hidden = forward_hidden(model, batch)
    plain, weighted = duet_parts(model, batch, hidden), duet_parts(model, batch, hidden, HeadLossOptions(4.0))
    assert torch.equal(plain["lm"], weighted["lm"])
    assert torch.equal(plain["relevance"], weighted["relevance"])
    assert not torch.equal(plain["informative"], weighted["informative"])


def test_statistics_have_the_scores_of_labelled_frames() -> None:
    model, batch, statistics = random_model(SHAPES["tiny"]).to(device()), make_batch(), HeadStatistics(threshold=0.0)
    hidden = forward_hidden(model, batch)
    duet_parts(model, batch, hidden, statistics=statistics)
    metrics = statistics.compute()
    assert metrics["speaking_rate"] == 1.0  # every score is above 0
    scores = model.heads["informative"](hidden[0, batch.frame_ends[0]]).softmax(-1)[:, 1].tolist()
    positive = batch.informative[0].tolist().index(1)
    rank = sum(score >= scores[positive] for score in scores)
    assert batch.informative[0].tolist().count(1) == 1
    assert metrics["informative_pr_auc"] == pytest.approx(1 / rank)


@pytest.mark.parametrize("weight", [0.5, 7.0])
def test_a_positive_weight_is_that_of_a_weighted_cross_entropy(weight: float) -> None:
    loss = head_loss("informative", LOGITS, LABELS, options=HeadLossOptions(weight))
    expected = cross_entropy(LOGITS, LABELS[LABELS != IGNORE], weight=torch.tensor([1.0, weight]))
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)


def test_balanced_classes_contribute_half_each() -> None:
    labels = LABELS[LABELS != IGNORE]
    halves = [cross_entropy(LOGITS[labels == label], labels[labels == label]) for label in (0, 1)]
    loss = head_loss("informative", LOGITS, LABELS, options=HeadLossOptions("balanced"))
    assert float(loss) == pytest.approx(float(sum(halves)) / 2, rel=1e-6)


@pytest.mark.parametrize("label", [0, 1])
def test_balanced_weights_of_one_class_are_plain(label: int) -> None:
    labels = torch.full((1, 8), label)
    loss = head_loss("informative", LOGITS, labels, options=HeadLossOptions("balanced"))
    assert float(loss) == pytest.approx(float(cross_entropy(LOGITS, labels[0])), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_is_that_of_its_paper(gamma: float) -> None:
    labels = LABELS[LABELS != IGNORE]
    p = LOGITS.softmax(-1)[torch.arange(8), labels]
    loss = head_loss("informative", LOGITS, LABELS, options=HeadLossOptions(focal_gamma=gamma))
    assert float(loss) == pytest.approx(float(-((1 - p) ** gamma * p.log()).mean()), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_gradients_of_certain_predictions_are_finite(gamma: float) -> None:
    logits = torch.tensor([[300.0, -300.0], [-300.0, 300.0]], requires_grad=True)
    for labels in (torch.tensor([[0, 1]]), torch.tensor([[1, 0]])):
        head_loss("informative", logits, labels, options=HeadLossOptions("balanced", gamma)).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_smoothed_targets_ramp_to_one_half_at_a_change() -> None:
    """The changes are at 1.25 and 2.75 s; distances count in time, not in frames."""
    labels = torch.tensor([[0, 0, 1, 1, 0, IGNORE]])
    times = torch.tensor([[0.0, 1.0, 1.5, 2.5, 3.0, 3.5]])
    soft = soften_transitions(labels, times, 1.0)
    assert soft[0, :5].tolist() == pytest.approx([0.0, 0.375, 0.625, 0.625, 0.375])


@given(st.lists(st.sampled_from([0, 1, IGNORE]), min_size=1, max_size=12), st.floats(0.01, 10), st.integers(0, 99))
def test_smoothing_keeps_decisions_and_distant_frames(labels: list[int], seconds: float, seed: int) -> None:
    times = np.cumsum(np.random.default_rng(seed).uniform(0.05, 1.0, len(labels)))
    soft = soften_transitions(torch.tensor([labels]), torch.from_numpy(times)[None], seconds)[0].tolist()
    middles = [
        (times[k] + times[k + 1]) / 2 for k in range(len(labels) - 1) if {labels[k], labels[k + 1]} == {0, 1}
    ]  # fmt: skip
    for label, target, time in zip(labels, soft, times, strict=True):
        nearest = min((abs(time - middle) for middle in middles), default=math.inf)
        if label != IGNORE:
            assert (target > 0.5) == (label == 1)
            assert abs(target - label) == pytest.approx(max(0.0, 0.5 - 0.5 * nearest / seconds), abs=1e-6)


def test_smoothing_needs_times() -> None:
    model, batch = random_model(SHAPES["tiny"]).to(device()), make_batch()
    hidden, options = forward_hidden(model, batch), HeadLossOptions(smoothing_seconds=1.0)
    smoothed = duet_parts(model, batch, hidden, options)["informative"]
    assert not torch.equal(smoothed, duet_parts(model, batch, hidden)["informative"])
    with pytest.raises(TrainingError, match="needs the times of the frames"):
        duet_parts(model, replace(batch, frame_times=None), hidden, options)


def test_a_batch_has_the_times_of_its_frames() -> None:
    times = make_batch().frame_times
    assert times is not None
    assert times.tolist() == [TIMES, TIMES]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"positive_weight": 0.0}, "positive_weight must be a number above 0, or balanced, got 0.0"),
        ({"positive_weight": "even"}, "got 'even'"),
        ({"positive_weight": math.inf}, "got inf"),
        ({"focal_gamma": -1.0}, "focal_gamma must be a number of at least 0, got -1.0"),
        ({"smoothing_seconds": math.nan}, "smoothing_seconds must be a number of at least 0, got nan"),
        ({"heads": ("lm",)}, "loss options apply to the heads informative, relevance, got 'lm'"),
    ],
)
def test_invalid_options_are_errors(values: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        HeadLossOptions(**values)  # type: ignore[arg-type]


def test_times_of_samples_with_fewer_frames_are_padded() -> None:
    """Padding does not change the smoothed loss of a sample."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(1)
    sequences, images = [], []
    for count in (5, 3):
        sample = replace(CAPTIONS, answers=(AnnotatedReply(1.0, "red enters", Span(0.5, 1.0)),))
        sequences.append(build_sequence(sample, TIMES[:count], byte_tokenizer(), 4, keep_replies=False, rng=rng))
        images.append(torch.randint(0, 256, (count, 28, 28, 3), dtype=torch.uint8, generator=generator))
    batch = collate(sequences, images)
    assert batch.frame_times is not None
    assert batch.frame_times.tolist() == [TIMES, [*TIMES[:3], 0.0, 0.0]]
    alone = collate(sequences[1:], images[1:])
    assert alone.frame_times is not None
    padded = soften_transitions(batch.informative[1:], batch.frame_times[1:], 1.0)
    assert torch.equal(padded[:, :3], soften_transitions(alone.informative, alone.frame_times, 1.0))
