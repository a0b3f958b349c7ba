"""The loop: interrupted equals uninterrupted, faults are reported, and a tiny model does learn a tiny batch by heart."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mmduet.annotations.training_samples import Sample
from mmduet.duet import IGNORE
from mmduet.errors import TrainingError
from mmduet.events import Query
from mmduet.model import DuetModel
from mmduet.model.presets import SHAPES, byte_tokenizer, random_model
from mmduet.spans import AnnotatedReply
from mmduet.training.collate import Batch, collate
from mmduet.training.losses import Losses, combine, duet_losses
from mmduet.training.optimizer import Optimizer, Schedule
from mmduet.training.sequence import build_sequence
from mmduet.training.trainer import Trainer

TIMES = [i / 2 for i in range(5)]


def batch(*samples: Sample) -> Batch:
    pixels = torch.randint(
        0, 256, (len(samples), 5, 28, 28, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    sequences = [
        build_sequence(s, TIMES, byte_tokenizer(), 4, keep_replies=False, rng=np.random.default_rng(0)) for s in samples
    ]  # fmt: skip
    return collate(sequences, list(pixels))


CAPTIONS = Sample("captioning", "v", (Query("Go."),), (AnnotatedReply(1.5, "red enters", (1.0, 2.0)),))
GROUNDING = Sample("grounding", "v", (Query("red?"),), spans=((1.0, 2.0),))


def trainee(seed: int = 0) -> DuetModel:
    model = random_model(SHAPES["tiny"], seed=seed)
    model.tower.requires_grad_(False)
    return model.train()


def figures_of(trainer: Trainer) -> list[dict[str, float]]:
    seen: list[dict[str, float]] = []
    trainer.train(lambda step, figures: seen.append({**figures, "step": step}))
    return seen


# losses


def test_parts_are_those_that_have_labels() -> None:
    model = trainee()
    assert duet_losses(model, batch(CAPTIONS)).components.keys() == {"lm", "informative"}
    assert duet_losses(model, batch(GROUNDING)).components.keys() == {"relevance"}
    both = duet_losses(model, batch(CAPTIONS, GROUNDING))
    assert both.components.keys() == {"lm", "informative", "relevance"}
    assert float(both.total.detach()) == pytest.approx(sum(both.components.values()), rel=1e-5)


def test_losses_are_cross_entropies_of_their_labels() -> None:
    """With all weights of a head zero it says one half; with those of the language head zero, one in 512."""
    model = trainee()
    with torch.no_grad():
        for weight in (model.lm_head.weight, model.heads["informative"].weight, model.heads["relevance"].weight):
            weight.zero_()
    parts = duet_losses(model, batch(CAPTIONS, GROUNDING)).components
    assert parts == pytest.approx({"lm": np.log(512), "informative": np.log(2), "relevance": np.log(2)}, rel=1e-5)


def test_a_batch_without_labels_is_an_error_not_a_zero() -> None:
    empty = batch(GROUNDING)
    empty.relevance.fill_(IGNORE)
    with pytest.raises(TrainingError, match="no labels"):
        duet_losses(trainee(), empty)


def test_the_sum_is_weighted_and_its_parts_are_told_as_they_are() -> None:
    parts = {"lm": torch.tensor(2.0), "told": torch.tensor(3.0)}
    losses = combine(parts, {"told": 0.5})
    assert float(losses.total) == 3.5
    assert losses.components == {"lm": 2.0, "told": 3.0}


def test_gradients_reach_heads_and_projector_but_not_the_tower() -> None:
    model = trainee()
    duet_losses(model, batch(CAPTIONS, GROUNDING)).total.backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    assert without == {name for name, _ in model.named_parameters() if name.startswith("tower.")}


def test_each_head_learns_from_its_own_samples_only() -> None:
    model = trainee()
    duet_losses(model, batch(CAPTIONS)).total.backward()
    assert model.heads["informative"].weight.grad is not None
    assert model.heads["relevance"].weight.grad is None


# the loop


def counting_loss(model: nn.Module, until: int | None = None):
    """A loss that differs from step to step; stops in the middle of step ``until``, as a power cut would."""

    def loss_at(step: int) -> Losses:
        if step == until:
            raise KeyboardInterrupt
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 4, generator=generator)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        return Losses(loss, {"loss": float(loss.detach())})

    return loss_at


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 1))


@pytest.mark.parametrize("cut", [1, 6, 7, 11])
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(tmp_path: Path, cut: int) -> None:
    schedule = Schedule(steps=12, lr=1e-2)
    whole = small()
    wanted = figures_of(Trainer(whole, counting_loss(whole), schedule, tmp_path / "whole", save_every=3))
    first = small()
    with pytest.raises(KeyboardInterrupt):
        figures_of(Trainer(first, counting_loss(first, until=cut), schedule, tmp_path / "cut", save_every=3))
    again = small(seed=99)  # what it starts from no longer matters, unless nothing was saved
    if cut < 3:
        again.load_state_dict(small().state_dict())
    got = figures_of(Trainer(again, counting_loss(again), schedule, tmp_path / "cut", save_every=3))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert [g["step"] for g in got] == list(range(cut // 3 * 3 + 1, 13))
    for a, b in zip(got, wanted[-len(got) :], strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}


def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    model = small()
    figures_of(Trainer(model, counting_loss(model), Schedule(steps=3, lr=1e-2), tmp_path))
    again = small(seed=5)
    assert figures_of(Trainer(again, counting_loss(again), Schedule(steps=3, lr=1e-2), tmp_path)) == []
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore:Converting a tensor")
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_changes_nothing(tmp_path: Path, bad: float) -> None:
    model = small()
    before = [p.clone() for p in model.parameters()]
    loss_at = lambda step: Losses(model(torch.ones(1, 4)).sum() * bad, {"loss": bad})  # noqa: E731
    with pytest.raises(TrainingError, match="step 0"):
        figures_of(Trainer(model, loss_at, Schedule(steps=3, lr=1e-2), tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_run_of_another_model_is_refused(tmp_path: Path) -> None:
    model = small()
    figures_of(Trainer(model, counting_loss(model), Schedule(steps=2, lr=1e-2), tmp_path))
    other = nn.Sequential(nn.Linear(4, 9), nn.GELU(), nn.Linear(9, 1))
    with pytest.raises(TrainingError, match="another model"):
        figures_of(Trainer(other, counting_loss(other), Schedule(steps=2, lr=1e-2), tmp_path))


def test_a_run_of_another_recipe_is_refused(tmp_path: Path) -> None:
    model = small()
    figures_of(Trainer(model, counting_loss(model), Schedule(steps=2, lr=1e-2), tmp_path, recipe="a"))
    for schedule, recipe in ((Schedule(steps=2, lr=1e-2), "b"), (Schedule(steps=3, lr=1e-2), "a")):
        with pytest.raises(TrainingError, match="another recipe"):
            figures_of(Trainer(model, counting_loss(model), schedule, tmp_path, recipe=recipe))


def test_the_rate_warms_up_and_decays() -> None:
    schedule = Schedule(steps=100, lr=1.0, warmup=0.1, floor=0.02)
    rates = [schedule.lr * schedule.lr_factor(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.51)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert 0.02 <= rates[-1] < 0.025


def test_frozen_parameters_stay_and_vectors_do_not_decay(tmp_path: Path) -> None:
    model = small()
    model[0].requires_grad_(False)
    frozen = model[0].weight.clone()
    vectors = [p.clone() for p in model.parameters() if p.dim() == 1]
    idle = lambda step: Losses(sum(0 * p.sum() for p in model.parameters()) + 0, {})  # noqa: E731
    figures_of(Trainer(model, idle, Schedule(steps=2, lr=1e-2), tmp_path))
    assert torch.equal(model[0].weight, frozen)
    assert model[2].weight.abs().sum() < small()[2].weight.abs().sum()  # nothing pulled on it but decay
    assert all(torch.equal(a, b) for a, b in zip(vectors, [p for p in model.parameters() if p.dim() == 1], strict=True))


def test_muon_takes_the_hidden_matrices_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    schedule = Schedule(steps=6, lr=1e-2, muon=1e-2)

    def trainer(model: nn.Module, name: str, until: int | None = None) -> Trainer:
        return Trainer(
            model, counting_loss(model, until), schedule, tmp_path / name, hidden=[model[0].weight], save_every=2
        )

    plain, whole, first, again = small(), small(), small(), small(seed=9)
    figures_of(Trainer(plain, counting_loss(plain), Schedule(steps=6, lr=1e-2), tmp_path / "plain"))
    figures_of(trainer(whole, "whole"))
    with pytest.raises(KeyboardInterrupt):
        figures_of(trainer(first, "cut", until=5))
    figures_of(trainer(again, "cut"))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert not torch.allclose(whole[0].weight, plain[0].weight, atol=1e-3)


def test_muon_makes_a_step_of_equal_strength_in_every_direction() -> None:
    layer = nn.Linear(16, 16, bias=False)
    before = layer.weight.detach().clone()
    optimizer = Optimizer(layer, Schedule(steps=1, lr=1e-2, muon=1e-2, weight_decay=0.0), [layer.weight])
    layer.weight.grad = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    optimizer.step(0)
    strengths = torch.linalg.svdvals(layer.weight.detach() - before)
    assert strengths.max() < 2 * strengths.min()  # those of the gradient differ by a hundred times


def test_a_tiny_model_learns_a_tiny_batch_by_heart(tmp_path: Path) -> None:
    model, fixed = trainee(), batch(CAPTIONS, GROUNDING)
    tower = [p.clone() for p in model.tower.parameters()]
    seen = figures_of(Trainer(model, lambda step: duet_losses(model, fixed), Schedule(steps=120, lr=1e-2), tmp_path))
    for part in ("lm", "informative", "relevance"):
        assert seen[-1][part] < seen[0][part] / 10
    assert all(torch.equal(a, b) for a, b in zip(tower, model.tower.parameters(), strict=True))
