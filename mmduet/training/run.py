"""Train a model with a recipe: load, scan the videos, plan the batches, train, and save the result."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from transformers.utils import logging as transformers_logging

from mmduet.errors import OptionError
from mmduet.model import load_model
from mmduet.training.bad_samples import BadSamples
from mmduet.training.batch_plan import BatchPlan
from mmduet.training.data_sets import SourceSample, read_data_sets
from mmduet.training.dataset import BadSample, DuetDataset, scan_videos
from mmduet.training.duet_trainer import DuetTrainer, training_arguments
from mmduet.training.live_validation import LiveValidation
from mmduet.training.model_card import count_by_set, write_model_card
from mmduet.training.processes import Process, current_process, end_process_group
from mmduet.training.recipe import Recipe
from mmduet.training.recipe_data import make_dataset
from mmduet.training.run_directory import MetricsLog, RunDirectory, state_step
from mmduet.training.run_report import OnValidation, RunProgress, RunReport, ignore_progress
from mmduet.training.saving import recommended_for, save_trained
from mmduet.training.step_plan import StepPlan, count_steps
from mmduet.training.trainable import TrainableModel, prepare_model
from mmduet.training.training_module import TrainingModule
from mmduet.training.validation import Validation
from mmduet.training.validation_split import choose_samples, split_samples


def train(
    recipe: Recipe,
    output: str | Path,
    *,
    resume: bool = False,
    device: str = "auto",
    progress: RunProgress | None = None,
    on_validation: OnValidation | None = None,
) -> Path:
    """Train with ``recipe`` and return the directory of the trained model, which ``load_model`` reads.

    ``output`` receives the model, the recipe with all defaults, metrics by step, and states from which an interrupted run
    resumes. With torchrun, every process calls this with the same arguments. ``on_validation`` replaces the recipe's own
    validation: it is called every ``validation.every`` steps in the first process, and returns figures by name.

    Raises ``OptionError`` if ``output`` is not empty and ``resume`` is not set, and ``TrainingError`` if it belongs to another
    recipe or if a step fails.
    """
    _check_libraries()
    process, run = current_process(device), RunDirectory(Path(output))
    if process.is_first:
        run.open(recipe, resume=resume)
    if not run.is_finished:
        shown = progress if progress is not None and process.is_first else ignore_progress
        with _quiet_libraries():
            _train(recipe, run, process, shown, on_validation)
    return run.model


def _check_libraries() -> None:
    if find_spec("accelerate") is None:
        raise OptionError("training with a recipe needs Accelerate; run: pip install 'mmduet[train]'")


@dataclass(frozen=True)
class _Data:
    """The samples of a run, their lengths in tokens, those that are bad, and those that are kept for validation."""

    dataset: DuetDataset
    validation: DuetDataset
    lengths: list[int]
    bad: list[BadSample]

    @property
    def digest(self) -> str:
        """A digest of all samples and their lengths."""
        text = json.dumps([[source.id for source in self.dataset.samples], self.lengths])
        return sha256(text.encode()).hexdigest()


def _train(
    recipe: Recipe, run: RunDirectory, process: Process, progress: RunProgress, on_validation: OnValidation | None
) -> None:
    loaded = load_model(recipe.model, recipe.dtype, process.device, allow_missing_heads=True)
    trainable = prepare_model(loaded, recipe)
    data = _open_data(recipe, trainable, run, progress)
    options = recipe.optimization
    plan = _plan_batches(recipe, data, process.world_size * options.accumulation)
    steps = count_steps(plan, options, process.world_size)
    if process.is_first:
        run.check_facts({"processes": process.world_size, "steps": steps, "data": data.digest})
    state = run.latest_state()
    module = TrainingModule(trainable)
    if on_validation is None and process.is_first:
        on_validation = _make_validation(recipe, module, trainable, data.validation)
    log = MetricsLog(run.metrics, 0 if state is None else state_step(state)) if process.is_first else None
    report = RunReport(
        recipe, steps, module.statistics, process.device, log, progress, on_validation, run.log if log else None
    )
    bad_samples = BadSamples(len(data.lengths), options.max_bad_fraction, report.report_bad)
    try:
        bad_samples.add(data.bad)
        trainer = DuetTrainer(
            module,
            recipe,
            training_arguments(recipe, run.states, steps, process),
            data.dataset,
            StepPlan(plan, steps, options.accumulation, process.world_size, process.rank),
            bad_samples,
            report,
        )
        trainer.train(resume_from_checkpoint=None if state is None else os.fspath(state))
        if process.is_first:
            _save(trainer, trainable, run, data.dataset.samples, len(bad_samples), report.validation_figures)
    finally:
        report.close()
    if process.world_size > 1:
        end_process_group()


def _open_data(recipe: Recipe, trainable: TrainableModel, run: RunDirectory, progress: RunProgress) -> _Data:
    """Read the annotations, scan the videos, and measure every sample in the first epoch."""
    samples, kept = split_samples(read_data_sets(recipe.data), recipe.validation.share, recipe.seed)
    kept = choose_samples([*kept, *read_data_sets(recipe.validation.data)], recipe.validation.max_samples, recipe.seed)
    index = scan_videos([*samples, *kept], run.videos, recipe.optimization.workers, _stage(progress, "videos"))
    dataset, validation = (
        make_dataset(recipe, each, index, trainable.network.config, trainable.loaded.tokenizer)
        for each in (samples, kept)
    )
    lengths = dataset.lengths(0, _stage(progress, "samples"))
    prepared = (dataset.prepare(0, number) for number, length in enumerate(lengths) if not length)
    return _Data(dataset, validation, lengths, [sample for sample in prepared if isinstance(sample, BadSample)])


def _make_validation(
    recipe: Recipe, module: TrainingModule, trainable: TrainableModel, dataset: DuetDataset
) -> Validation | None:
    """Return the recipe's validation, None without samples for it."""
    if not dataset.samples:
        return None
    clips, device = recipe.validation.decode_clips, str(trainable.network.device)
    live = LiveValidation(recipe, dataset.samples, clips, device) if clips else None
    recommended = recommended_for(trainable.network.config, recipe)
    return Validation(recipe, module, dataset, live, lambda path: save_trained(path, trainable, recommended))


def _plan_batches(recipe: Recipe, data: _Data, group: int) -> BatchPlan:
    """Return the plan whose batches come in groups, each of which is a step."""
    weights = {each.name: each.weight for each in recipe.data}
    options = recipe.optimization
    return BatchPlan(
        data.lengths,
        [weights[source.set_name] for source in data.dataset.samples],
        recipe.seed,
        options.max_tokens_per_batch,
        options.max_samples_per_batch,
        group,
    )


def _save(
    trainer: DuetTrainer,
    trainable: TrainableModel,
    run: RunDirectory,
    samples: Sequence[SourceSample],
    bad_samples: int,
    figures: Mapping[str, float],
) -> None:
    """Write the trained model, or the average of its weights, and its card."""
    if trainer.average is not None:
        trainable.load_trained_state(trainer.average.weights)
    trainable.eval()
    recommended = recommended_for(trainable.network.config, trainable.recipe)
    steps, recipe = trainer.state.global_step, trainable.recipe
    save_trained(run.model, trainable, recommended, {"steps": steps, "bad_samples": bad_samples})
    write_model_card(run.model, recipe, figures, recipe.model, sizes=count_by_set(samples), steps=steps)


def _stage(progress: RunProgress, name: str) -> Callable[[int, int], None]:
    return partial(_report_stage, progress, name)


def _report_stage(progress: RunProgress, name: str, done: int, total: int) -> None:
    progress(name, done, total, {})


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Let Transformers log errors only, and tokenizers start no threads, with which worker processes cannot be forked."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
