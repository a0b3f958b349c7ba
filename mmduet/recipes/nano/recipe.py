"""The recipe that trains nano from scratch: clips, vocabulary, tower, duet, refinement. Resumable at every step."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedModel

from mmduet.annotations.scene_files import read_clips
from mmduet.annotations.training_samples import Sample, SampleKind, read_dense_captioning, read_grounding, read_magqa
from mmduet.duet import SYSTEM_PROMPT
from mmduet.model.checkpoint import save_checkpoint
from mmduet.model.devices import check_dtype, resolve_device
from mmduet.model.network import DuetModel
from mmduet.model.presets import NANO, random_model
from mmduet.model.tokenizer import Tokenizer
from mmduet.recipes.nano.auxiliary_heads import AuxiliaryHeads
from mmduet.recipes.nano.event_labels import query_classes
from mmduet.recipes.nano.fingerprints import duet_fingerprint, stage_fingerprint, tower_fingerprint
from mmduet.recipes.nano.frame_labels import FrameLabeler
from mmduet.recipes.nano.patch_pretraining import PatchHeads, PatchSampler, patch_losses
from mmduet.recipes.nano.scene_description import NOTHING
from mmduet.recipes.nano.vocabulary import train_tokenizer
from mmduet.scenes import SplitSpec, make_split
from mmduet.scenes.prompts import NARRATION_PROMPTS, VIEW_QUESTIONS
from mmduet.training.attention import use_float32_attention
from mmduet.training.autocast import autocast
from mmduet.training.batches import BatchSampler, CurriculumStage, SamplingConfig
from mmduet.training.features import build_features
from mmduet.training.frames import FrameStore, build_store
from mmduet.training.losses import Losses, combine, duet_parts, forward_hidden
from mmduet.training.optimizer import Schedule
from mmduet.training.trainer import Report, Trainer


class Progress(Protocol):
    """A callback that is called after every unit of work with its stage and the stage's progress."""

    def __call__(self, stage: str, done: int, total: int, metrics: Mapping[str, float]) -> None: ...


TRAIN_SEED = 20_241_117
LONG_SHARES: tuple[tuple[SampleKind, float], ...] = (("captioning", 0.4), ("qa", 0.4), ("grounding", 0.2))
#: Start with a few frames, mostly grounding: a query is found sooner among few tokens. Then use whole events. At the end, when
#: the auxiliary losses have done their work, the duet's own losses dominate.
STAGES = (
    CurriculumStage((2, 4), (("captioning", 0.15), ("qa", 0.15), ("grounding", 0.7)), until=0.08),
    CurriculumStage((8, 12), until=0.3),
    CurriculumStage((12, 16, 22, 28), LONG_SHARES, until=0.7),
    CurriculumStage((12, 16, 22, 28), LONG_SHARES, auxiliary_weight=0.15),
)
#: Refinement uses samples so long that the window slides. A clip answers each of its own questions, but in a long stream the
#: answer is mostly absent, so some questions have no answer in the clip, and some samples have no question.
REFINEMENT_SHARES: tuple[tuple[SampleKind, float], ...] = (("captioning", 0.35), ("qa", 0.45), ("grounding", 0.2))
REFINEMENT_STAGE = CurriculumStage(
    (12, 20, 28, 44), REFINEMENT_SHARES, auxiliary_weight=0.15, unanswerable_share=0.25, without_query_share=0.1
)
#: Few patches match the query and few of the 35 identities are in view, so those two losses are small from the start. The loss
#: of the caption classes (``told``) is the sum of eight slots, that of ``motion`` of five.
AUXILIARY_WEIGHTS = (("asked", 6.0), ("inventory", 8.0), ("told", 0.5), ("motion", 0.5))


SAMPLING = SamplingConfig(STAGES, instructions=NARRATION_PROMPTS, side_questions=VIEW_QUESTIONS)
REFINEMENT_SAMPLING = replace(SAMPLING, stages=(REFINEMENT_STAGE,), window=NANO.recommended.window)


@dataclass(frozen=True)
class NanoRecipe:
    """All parameters of the recipe."""

    clips: int = 5000
    seconds: tuple[float, float] = (11.5, 13.0)
    patch_pretraining: Schedule = field(default_factory=lambda: Schedule(steps=1500, lr=1e-3, muon_lr=3e-3))
    patch_batch_size: int = 128
    duet: Schedule = field(default_factory=lambda: Schedule(steps=4400, lr=1.2e-3, muon_lr=4e-3))
    auxiliary_weights: tuple[tuple[str, float], ...] = AUXILIARY_WEIGHTS
    sampling: SamplingConfig = SAMPLING
    refinement: Schedule = field(default_factory=lambda: Schedule(steps=1400, lr=4e-4, muon_lr=1.5e-3))
    refinement_sampling: SamplingConfig = REFINEMENT_SAMPLING
    seed: int = TRAIN_SEED


def make_nano(
    out: Path, work: Path, recipe: NanoRecipe, progress: Progress, device: torch.device | str = "cpu"
) -> Path:
    """Run the whole recipe on ``device`` and return ``out``, a checkpoint directory.

    ``work`` keeps finished work between runs. Raises ``OptionError`` for a device that is not available or has no bfloat16.
    """
    device = resolve_device(device)
    check_dtype(torch.bfloat16, device)
    clips, store = _make_clips(work, recipe, progress)
    samples = _read_samples(work / "scenes")
    tokenizer = _train_tokenizer(samples)
    config = replace(NANO, text=replace(NANO.text, vocab_size=max(tokenizer.size, NANO.text.vocab_size)))
    model = random_model(config, seed=recipe.seed)  # on the CPU: the same initial weights for every device
    model.tower.to(device)
    _pretrain_tower(model, store, {clip["video"]: clip["boxes"] for clip in clips}, work / "lessons", recipe, progress)
    model.tower.requires_grad_(False)
    report = partial(progress, "features", metrics={})
    features = build_features(model.tower, store, work / f"features-{_digest(model.tower)}.bf16", report)
    make_sampler = partial(
        BatchSampler,
        store=store,
        visual=features,
        tokenizer=tokenizer,
        frame_tokens=config.frame_tokens,
        label_provider=FrameLabeler(clips, NANO.recommended.fps, config),
    )
    _initialise(model, recipe.seed)
    _choose_attention(model.lm, device)
    heads = AuxiliaryHeads(model).to(device)
    fingerprint = duet_fingerprint(_tower_fingerprint(recipe), recipe.patch_pretraining, recipe.auxiliary_weights)
    muon_parameters = _linear_weights(model.projector, model.lm)
    for stage, schedule, sampling, stage_samples in (
        ("duet", recipe.duet, recipe.sampling, samples),
        ("refine", recipe.refinement, recipe.refinement_sampling, oversample(samples)),
    ):
        fingerprint += f", {stage_fingerprint(stage, schedule, sampling)}"
        sampler = make_sampler(stage_samples, sampling=sampling, seed=recipe.seed, steps=schedule.steps)
        loss_at = partial(_duet_loss, heads, sampler, dict(recipe.auxiliary_weights), schedule.steps, sampling)
        trainer = Trainer(heads, loss_at, schedule, work / stage, muon_parameters=muon_parameters, recipe=fingerprint)
        trainer.train(_reporter(stage, schedule, progress))
    return save_checkpoint(out, model, tokenizer, dtype=torch.float32)


def _make_clips(work: Path, recipe: NanoRecipe, progress: Progress) -> tuple[list[dict[str, Any]], FrameStore]:
    scenes, fps = work / "scenes", NANO.recommended.fps
    spec = SplitSpec("train", recipe.clips, recipe.seed, *recipe.seconds, fps=fps)
    make_split(scenes, spec, progress=partial(progress, "clips", metrics={}))
    clips = read_clips(scenes)
    names = [clip["video"] for clip in clips]
    report = partial(progress, "frames", metrics={})
    return clips, build_store(scenes / "videos", names, fps, NANO.vision.image_size, work / "frames", report)


def _read_samples(scenes: Path) -> list[Sample]:
    return [
        *read_dense_captioning(scenes / "dense_captioning.json"),
        *read_magqa(scenes / "magqa.json"),
        *read_grounding(scenes / "grounding.json"),
    ]


def _train_tokenizer(samples: list[Sample]) -> Tokenizer:
    sentences = {
        "system\n",
        "user\n",
        "assistant\n",
        "stream\n",
        *NARRATION_PROMPTS,
        *VIEW_QUESTIONS,
        NOTHING,
        *(t.lower() for t in NARRATION_PROMPTS),
    }
    for sample in samples:
        sentences.update(a.text for a in sample.answers)
        sentences.update(q.text for q in sample.queries)
    prompts = [SYSTEM_PROMPT] * 50  # part of every conversation: its words should be single tokens
    return train_tokenizer([*sentences, *prompts], NANO.text.vocab_size)


def _pretrain_tower(
    model: DuetModel,
    store: FrameStore,
    boxes: dict[str, list[list[list[Any]]]],
    run: Path,
    recipe: NanoRecipe,
    progress: Progress,
) -> None:
    torch.manual_seed(recipe.seed)
    _choose_attention(model.tower.siglip, model.tower.device)
    heads = PatchHeads(model.tower, model.config.vision).to(model.tower.device)
    grid, batch_size = model.config.vision.grid, recipe.patch_batch_size
    sampler = PatchSampler(store, boxes, NANO.recommended.fps, grid, batch_size, recipe.seed)

    def loss_at(step: int) -> Losses:
        with autocast(model.tower.device):
            return patch_losses(heads, sampler, step)

    muon_parameters, fingerprint = _linear_weights(model.tower.siglip.encoder), _tower_fingerprint(recipe)
    trainer = Trainer(
        heads, loss_at, recipe.patch_pretraining, run, muon_parameters=muon_parameters, recipe=fingerprint
    )
    trainer.train(_reporter("lessons", recipe.patch_pretraining, progress))


def _tower_fingerprint(recipe: NanoRecipe) -> str:
    return tower_fingerprint(recipe.clips, recipe.seconds, recipe.patch_batch_size, recipe.seed)


def oversample(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples with queries about rare event kinds repeated until they are as common as the most common kind."""
    kinds = [query_classes(s.queries[0].text)[-1] if s.kind == "qa" and s.queries else 0 for s in samples]
    counts = Counter(kind for kind in kinds if kind)
    max_count = max(counts.values(), default=0)
    return [
        s for s, kind in zip(samples, kinds, strict=True) for _ in range(round(max_count / counts[kind]) if kind else 1)
    ]


def _duet_loss(
    heads: AuxiliaryHeads,
    sampler: BatchSampler,
    weights: Mapping[str, float],
    steps: int,
    sampling: SamplingConfig,
    step: int,
) -> Losses:
    with autocast(heads.model.device):
        batch = sampler.batch(step).to(heads.model.device)
        hidden = forward_hidden(heads.model, batch)
        auxiliary = heads.losses(hidden, batch)
        scaled = auxiliary_weights(weights, sampling.stage_at(step / steps), auxiliary)
        return combine(duet_parts(heads.model, batch, hidden) | auxiliary, scaled)


def auxiliary_weights(weights: Mapping[str, float], stage: CurriculumStage, names: Iterable[str]) -> dict[str, float]:
    """Return the weight of each auxiliary loss in a stage: its weight in the recipe, scaled by the stage."""
    return {name: stage.auxiliary_weight * weights.get(name, 1.0) for name in names}


def _linear_weights(*parts: nn.Module) -> list[nn.Parameter]:
    """Return the weights of all linear layers in ``parts``, which Muon trains."""
    linears = [m for part in parts for m in part.modules() if isinstance(m, nn.Linear)]
    return [p for linear in linears for p in linear.parameters() if p.dim() == 2]


def _digest(module: nn.Module) -> str:
    """Return a short digest of a module's weights."""
    digest = hashlib.sha256()
    for tensor in module.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def _initialise(model: DuetModel, seed: int) -> None:
    """Scale the LM's matrices by their width, and word embeddings to the size of what the layers add to them.

    With Transformers' standard deviation of 0.02, a model this narrow hardly reacts to its input, and a word's identity is lost
    after one layer. The language head keeps 0.02: it starts with equal odds for every token.
    """
    torch.manual_seed(seed)
    nn.init.normal_(model.lm.embed_tokens.weight)
    nn.init.normal_(model.lm_head.weight, std=0.02)
    depth = 2 * model.config.text.layers
    for name, module in model.lm.named_modules():
        if isinstance(module, nn.Linear):
            scale = depth**-0.5 if name.endswith(("o_proj", "down_proj")) else 1.0
            nn.init.normal_(module.weight, std=scale * module.in_features**-0.5)


def _reporter(stage: str, schedule: Schedule, progress: Progress) -> Report:
    return lambda step, metrics: progress(stage, step, schedule.steps, metrics)


def _choose_attention(part: PreTrainedModel, device: torch.device) -> None:
    """Use the attention that is fastest in training on ``device``: PyTorch's own kernels are, except on CPUs."""
    if device.type == "cpu":
        use_float32_attention(part)
