"""The training loop: resumed runs equal uninterrupted ones, errors are reported, a tiny model overfits a tiny batch."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from device_option import device
from torch import nn

from mmduet.annotations.training_samples import Sample
from mmduet.duet import IGNORE
from mmduet.errors import TrainingError
from mmduet.events import Query
from mmduet.model import DuetModel
from mmduet.model.presets import SHAPES, byte_tokenizer, random_model
from mmduet.spans import AnnotatedReply
from mmduet.training.collate import Batch, collate
from mmduet.training.losses import Losses, combine, duet_parts, forward_hidden
from mmduet.training.optimizer import Optimizer, Schedule
from mmduet.training.sequence import build_sequence
from mmduet.training.trainer import Trainer

TIMES = [i / 2 for i in range(5)]


def duet_losses(model: DuetModel, batch: Batch) -> Losses:
    batch = batch.to(model.device)
    return combine(duet_parts(model, batch, forward_hidden(model, batch)))


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
    model = random_model(SHAPES["tiny"], seed=seed).to(device())
    model.tower.requires_grad_(False)
    return model.train()


def train(trainer: Trainer) -> list[dict[str, float]]:
    seen: list[dict[str, float]] = []
    trainer.train(lambda step, metrics: seen.append({**metrics, "step": step}))
    return seen


# losses


def test_only_losses_with_labels_are_computed() -> None:
    model = trainee()
    assert duet_losses(model, batch(CAPTIONS)).components.keys() == {"lm", "informative"}
    assert duet_losses(model, batch(GROUNDING)).components.keys() == {"relevance"}
    both = duet_losses(model, batch(CAPTIONS, GROUNDING))
    assert both.components.keys() == {"lm", "informative", "relevance"}
    assert float(both.total.detach()) == pytest.approx(sum(both.components.values()), rel=1e-5)


def test_losses_are_cross_entropies_of_their_labels() -> None:
    """A head with zero weights predicts 1/2; a language head with zero weights predicts 1/512 for each token."""
    model = trainee()
    with torch.no_grad():
        for weight in (model.lm_head.weight, model.heads["informative"].weight, model.heads["relevance"].weight):
            weight.zero_()
    parts = duet_losses(model, batch(CAPTIONS, GROUNDING)).components
    assert parts == pytest.approx({"lm": np.log(512), "informative": np.log(2), "relevance": np.log(2)}, rel=1e-5)


def test_a_batch_without_labels_is_rejected() -> None:
    empty = batch(GROUNDING)
    empty.relevance.fill_(IGNORE)
    with pytest.raises(TrainingError, match="no labels"):
        duet_losses(trainee(), empty)


def test_the_total_is_weighted_and_components_are_not() -> None:
    parts = {"lm": torch.tensor(2.0), "told": torch.tensor(3.0)}
    losses = combine(parts, {"told": 0.5})
    assert float(losses.total) == 3.5
    assert losses.components == {"lm": 2.0, "told": 3.0}


def test_gradients_reach_heads_and_projector_but_not_the_tower() -> None:
    model = trainee()
    duet_losses(model, batch(CAPTIONS, GROUNDING)).total.backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    assert without == {name for name, _ in model.named_parameters() if name.startswith("tower.")}


def test_each_head_is_trained_by_its_own_samples_only() -> None:
    model = trainee()
    duet_losses(model, batch(CAPTIONS)).total.backward()
    assert model.heads["informative"].weight.grad is not None
    assert model.heads["relevance"].weight.grad is None


# the loop


def counting_loss(model: nn.Module, until: int | None = None):
    """Return a loss that differs from step to step and is interrupted during step ``until``."""

    def loss_at(step: int) -> Losses:
        if step == until:
            raise KeyboardInterrupt
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 4, generator=generator)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        return Losses(loss, {"loss": float(loss.detach())})

    return loss_at


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 1))


@pytest.mark.parametrize("cut", [1, 6, 7, 11])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path, cut: int) -> None:
    schedule = Schedule(steps=12, lr=1e-2)
    whole = small_network()
    expected = train(Trainer(whole, counting_loss(whole), schedule, tmp_path / "whole", save_every=3))
    first = small_network()
    with pytest.raises(KeyboardInterrupt):
        train(Trainer(first, counting_loss(first, until=cut), schedule, tmp_path / "cut", save_every=3))
    again = small_network(seed=99)  # the initial weights do not matter if a state was saved
    if cut < 3:
        again.load_state_dict(small_network().state_dict())
    got = train(Trainer(again, counting_loss(again), schedule, tmp_path / "cut", save_every=3))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert [g["step"] for g in got] == list(range(cut // 3 * 3 + 1, 13))
    for a, b in zip(got, expected[-len(got) :], strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}


def test_a_finished_run_trains_no_further_step(tmp_path: Path) -> None:
    model = small_network()
    train(Trainer(model, counting_loss(model), Schedule(steps=3, lr=1e-2), tmp_path))
    again = small_network(seed=5)
    assert train(Trainer(again, counting_loss(again), Schedule(steps=3, lr=1e-2), tmp_path)) == []
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore:Converting a tensor")
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_training_without_an_update(tmp_path: Path, bad: float) -> None:
    model = small_network()
    before = [p.clone() for p in model.parameters()]
    loss_at = lambda step: Losses(model(torch.ones(1, 4)).sum() * bad, {"loss": bad})  # noqa: E731
    with pytest.raises(TrainingError, match=r"the loss of step 0 is (nan|-?inf) .*; lower the learning rate"):
        train(Trainer(model, loss_at, Schedule(steps=3, lr=1e-2), tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_run_of_another_model_is_rejected(tmp_path: Path) -> None:
    model = small_network()
    train(Trainer(model, counting_loss(model), Schedule(steps=2, lr=1e-2), tmp_path))
    other = nn.Sequential(nn.Linear(4, 9), nn.GELU(), nn.Linear(9, 1))
    with pytest.raises(TrainingError, match="another model"):
        train(Trainer(other, counting_loss(other), Schedule(steps=2, lr=1e-2), tmp_path))


def test_a_run_of_another_recipe_is_rejected(tmp_path: Path) -> None:
    model = small_network()
    train(Trainer(model, counting_loss(model), Schedule(steps=2, lr=1e-2), tmp_path, recipe="a"))
    for schedule, recipe in ((Schedule(steps=2, lr=1e-2), "b"), (Schedule(steps=3, lr=1e-2), "a")):
        with pytest.raises(TrainingError, match=r"state\.pt belongs to another recipe .*; use an empty run directory"):
            train(Trainer(model, counting_loss(model), schedule, tmp_path, recipe=recipe))


def test_the_learning_rate_warms_up_and_decays() -> None:
    schedule = Schedule(steps=100, lr=1.0, warmup_share=0.1, min_lr_share=0.02)
    rates = [schedule.lr * schedule.lr_factor(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.51)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert 0.02 <= rates[-1] < 0.025


def test_frozen_parameters_do_not_change_and_vectors_do_not_decay(tmp_path: Path) -> None:
    model = small_network()
    model[0].requires_grad_(False)
    frozen = model[0].weight.clone()
    vectors = [p.clone() for p in model.parameters() if p.dim() == 1]
    idle = lambda step: Losses(sum(0 * p.sum() for p in model.parameters()) + 0, {})  # noqa: E731
    train(Trainer(model, idle, Schedule(steps=2, lr=1e-2), tmp_path))
    assert torch.equal(model[0].weight, frozen)
    assert model[2].weight.abs().sum() < small_network()[2].weight.abs().sum()  # changed by weight decay only
    assert all(torch.equal(a, b) for a, b in zip(vectors, [p for p in model.parameters() if p.dim() == 1], strict=True))


def test_muon_trains_the_given_matrices_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    schedule = Schedule(steps=6, lr=1e-2, muon_lr=1e-2)

    def trainer(model: nn.Module, name: str, until: int | None = None) -> Trainer:
        return Trainer(
            model,
            counting_loss(model, until),
            schedule,
            tmp_path / name,
            muon_parameters=[model[0].weight],
            save_every=2,
        )

    plain, whole, first, again = small_network(), small_network(), small_network(), small_network(seed=9)
    train(Trainer(plain, counting_loss(plain), Schedule(steps=6, lr=1e-2), tmp_path / "plain"))
    train(trainer(whole, "whole"))
    with pytest.raises(KeyboardInterrupt):
        train(trainer(first, "cut", until=5))
    train(trainer(again, "cut"))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert not torch.allclose(whole[0].weight, plain[0].weight, atol=1e-3)


def test_muon_updates_have_similar_singular_values() -> None:
    layer = nn.Linear(16, 16, bias=False)
    before = layer.weight.detach().clone()
    optimizer = Optimizer(layer, Schedule(steps=1, lr=1e-2, muon_lr=1e-2, weight_decay=0.0), [layer.weight])
    layer.weight.grad = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    optimizer.step(0)
    singular_values = torch.linalg.svdvals(layer.weight.detach() - before)
    assert singular_values.max() < 2 * singular_values.min()  # those of the gradient differ by a factor of a hundred


def test_a_tiny_model_overfits_a_tiny_batch(tmp_path: Path) -> None:
    model, fixed = trainee(), batch(CAPTIONS, GROUNDING)
    tower = [p.clone() for p in model.tower.parameters()]
    seen = train(Trainer(model, lambda step: duet_losses(model, fixed), Schedule(steps=120, lr=1e-2), tmp_path))
    for part in ("lm", "informative", "relevance"):
        assert seen[-1][part] < seen[0][part] / 10
    assert all(torch.equal(a, b) for a, b in zip(tower, model.tower.parameters(), strict=True))
