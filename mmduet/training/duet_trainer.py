"""Transformers' ``Trainer`` for duet models: own batches, several losses, trained weights only, strict about failures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments, get_scheduler
from transformers.trainer_callback import PrinterCallback

from mmduet.errors import MmduetError, OptionError, TrainingError
from mmduet.files import as_option_error
from mmduet.training.bad_samples import BadSamples
from mmduet.training.dataset import DuetDataset
from mmduet.training.item_collation import CollatedItems, collate_items
from mmduet.training.losses import combine
from mmduet.training.processes import Process
from mmduet.training.recipe import Optimization, Recipe
from mmduet.training.step_plan import StepPlan
from mmduet.training.step_totals import StepTotals
from mmduet.training.training_module import (
    NO_LABELS,
    TrainingModule,
    count_labels,
    count_tokens,
    loss_weights,
    remove_unused_labels,
)
from mmduet.training.weight_average import WeightAverage

WEIGHTS, AVERAGE = "trained.safetensors", "average.safetensors"
StepReport = Callable[[int, dict[str, float]], bool]
"""Called after every step with its number and metrics; returns whether training should stop."""


def training_arguments(recipe: Recipe, states: Path, steps: int, process: Process) -> TrainingArguments:
    """Return the arguments of a run of ``steps`` steps that saves its states in ``states``."""
    options, on_cpu = recipe.optimization, process.device.type == "cpu"
    arguments = TrainingArguments(
        output_dir=os.fspath(states),
        max_steps=steps,
        gradient_accumulation_steps=options.accumulation,
        max_grad_norm=options.max_grad_norm,
        save_strategy="steps",
        save_steps=options.save_every,
        save_total_limit=2,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        log_level_replica="error",
        seed=recipe.seed,
        use_cpu=on_cpu,
        ddp_backend="gloo" if on_cpu and process.world_size > 1 else None,
        ddp_find_unused_parameters=True,  # a batch may have no label of a head
        remove_unused_columns=False,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # otherwise Transformers splits batches over all devices of the machine
    return arguments


class DuetTrainer(Trainer):
    """Trains a ``TrainingModule``. The samples of a step count as one batch, however it is divided."""

    optimizer: Any

    def __init__(
        self,
        module: TrainingModule,
        recipe: Recipe,
        arguments: TrainingArguments,
        dataset: DuetDataset,
        plan: StepPlan,
        bad_samples: BadSamples,
        report: StepReport,
    ) -> None:
        self.module, self.recipe, self.plan, self.bad_samples = module, recipe, plan, bad_samples
        self.totals = StepTotals()
        self.average: WeightAverage | None = None
        if recipe.optimization.ema is not None:
            self.average = WeightAverage(self._trained_state(), recipe.optimization.ema)
        self._weights = loss_weights(recipe.losses)
        super().__init__(module, arguments, train_dataset=dataset, callbacks=[_Reporter(self, report)])
        self.loss_is_scaled_for_ga = True  # by compute_loss
        self.remove_callback(PrinterCallback)

    # Data

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of the whole run. Each process has its own, so Accelerate does not divide them."""
        return DataLoader(
            self.train_dataset,
            batch_sampler=self.plan,
            collate_fn=collate_items,
            num_workers=self.recipe.optimization.workers,
            pin_memory=self.args.device.type == "cuda",
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator[CollatedItems], num_batches: int, device: torch.device
    ) -> tuple[list[CollatedItems], dict[str, int]]:
        """Return the batches of a step, and the number of labels of each part in the batches of all processes."""
        batches = [self._without_unused_labels(next(epoch_iterator)) for _ in range(num_batches)]
        for items in batches:
            self.bad_samples.add(items.bad)
        counts = [count_labels(items.batch) for items in batches]
        names = list(self._weights)
        total = self._sum_of_processes([float(sum(count[name] for count in counts)) for name in names])
        return batches, {name: int(value) for name, value in zip(names, total, strict=True)}

    def _without_unused_labels(self, items: CollatedItems) -> CollatedItems:
        batch = None if items.batch is None else remove_unused_labels(items.batch, self._weights)
        return CollatedItems(batch, items.ids, items.bad)

    # Steps

    def training_step(
        self, model: nn.Module, inputs: CollatedItems, num_items_in_batch: dict[str, int] | None = None
    ) -> Tensor:
        """Compute the gradients of a batch. Raises ``TrainingError`` naming the step and the samples if that fails."""
        try:
            loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        except (MmduetError, RuntimeError, ValueError) as error:
            step = self.state.global_step + 1
            raise TrainingError(f"step {step} failed with the samples {', '.join(inputs.ids)}: {error}") from error
        return loss

    def _prepare_inputs(self, inputs: CollatedItems) -> CollatedItems:
        batch = None if inputs.batch is None else inputs.batch.to(self.args.device)
        return CollatedItems(batch, inputs.ids, inputs.bad)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: CollatedItems,
        return_outputs: bool = False,
        num_items_in_batch: dict[str, int] | None = None,
    ) -> Tensor:
        """Return the batch's share of the loss of the step.

        The step's loss of a part is its mean over all labels of the step.
        """
        parts = model(inputs.batch)
        if NO_LABELS in parts:
            empty: Tensor = parts[NO_LABELS]
            return empty
        own, total = count_labels(inputs.batch), num_items_in_batch or {}
        shares = {name: own[name] / max(total.get(name, 0), own[name]) for name in parts}
        loss = combine({name: part * shares[name] for name, part in parts.items()}, self._weights)
        if not torch.isfinite(loss.total):
            values = ", ".join(f"{name} {float(part.detach()):.4g}" for name, part in parts.items())
            raise TrainingError(
                f"the loss is {float(loss.total.detach())} ({values}); lower optimization.learning_rate or check the data"
            )
        self.totals.add(loss.components, own, count_tokens(inputs.batch), len(inputs.ids))
        scaled: Tensor = loss.total * self.args.world_size  # gradients are averaged over the processes
        return scaled

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        self.totals.grad_norm, self.totals.learning_rate = float(norm), self.optimizer.param_groups[0]["lr"]
        if not torch.isfinite(torch.as_tensor(self.totals.grad_norm)):
            raise TrainingError(
                f"step {self.state.global_step + 1} failed: the norm of the gradients is {self.totals.grad_norm}; "
                "lower optimization.learning_rate or optimization.max_grad_norm"
            )
        return norm

    def floating_point_ops(self, inputs: CollatedItems) -> int:
        """Return 0: operations are not counted."""
        return 0

    def finish_step(self) -> dict[str, float]:
        """Update the average of the weights, and return the metrics of the step over all processes."""
        if self.average is not None:
            self.average.update(self._trained_state(), self.state.global_step)
        names, values = self.totals.take()
        metrics = dict(zip(names, self._sum_of_processes(values), strict=True))
        return metrics | {"grad_norm": self.totals.grad_norm, "learning_rate": self.totals.learning_rate}

    def _sum_of_processes(self, values: Sequence[float]) -> list[float]:
        if self.args.world_size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float32, device=self.args.device)
        torch.distributed.all_reduce(tensor)
        return [float(value) for value in tensor]

    # Optimizer

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer of the recipe. Vectors have no weight decay."""
        if self.optimizer is None:
            self.optimizer = make_optimizer(
                [p for p in self.module.parameters() if p.requires_grad], self.recipe.optimization
            )
        optimizer: torch.optim.Optimizer = self.optimizer
        return optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Create the schedule of the recipe."""
        options = self.recipe.optimization
        scheduler: torch.optim.lr_scheduler.LRScheduler = get_scheduler(
            "cosine" if options.schedule == "cosine" else "constant_with_warmup",
            optimizer=self.optimizer,
            num_warmup_steps=round(options.warmup * num_training_steps),
            num_training_steps=num_training_steps,
        )
        self.lr_scheduler, self._created_lr_scheduler = scheduler, True
        return scheduler

    # State

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save the state. Raises ``OptionError`` if it cannot be written."""
        folder = Path(self.args.output_dir)
        with as_option_error(folder):
            try:
                super()._save_checkpoint(model, trial)
            except (RuntimeError, SafetensorError) as error:  # how torch and safetensors report it
                raise OptionError(f"{folder} cannot be written ({error}); check that the disk is not full") from error

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Write the trained weights, and their average."""
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(_copies(self._trained_state()), folder / WEIGHTS)
        if self.average is not None:
            save_file(_copies(self.average.weights), folder / AVERAGE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Restore what ``_save`` wrote."""
        folder = Path(resume_from_checkpoint)
        self.module.load_trained_state(load_file(folder / WEIGHTS))
        if self.average is not None:
            self.average.load(load_file(folder / AVERAGE))

    def _trained_state(self) -> dict[str, Tensor]:
        return self.module.trained_state()


class _Reporter(TrainerCallback):
    """Reports every step, and ends the training if that asks for it."""

    def __init__(self, trainer: DuetTrainer, report: StepReport) -> None:
        self._trainer, self._report = trainer, report

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Report the step that has ended."""
        if self._report(state.global_step, self._trainer.finish_step()):
            control.should_training_stop = control.should_save = True
        return control


def make_optimizer(parameters: Sequence[nn.Parameter], options: Optimization) -> torch.optim.Optimizer:
    """Return the optimizer of a recipe. Raises ``OptionError`` if its library is not installed."""
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=options.learning_rate)
    try:
        from bitsandbytes.optim.adamw import AdamW8bit
    except ImportError:
        raise OptionError("optimizer adamw_8bit needs bitsandbytes; run: pip install 'mmduet[quant]'") from None
    optimizer: torch.optim.Optimizer = AdamW8bit(groups, lr=options.learning_rate)  # type: ignore[no-untyped-call]
    return optimizer


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
