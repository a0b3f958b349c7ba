"""Makes nano from nothing: its clips, its vocabulary, the tower's first lessons, the duet; resumable at every step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from mmduet.duet import SYSTEM_PROMPT
from mmduet.model.checkpoint import save_checkpoint
from mmduet.model.network import DuetModel
from mmduet.model.presets import NANO, random_model
from mmduet.model.tokenizer import Tokenizer
from mmduet.scenes import SplitSpec, load_clips, make_split
from mmduet.scenes.prompts import LOOK, NARRATE
from mmduet.training.batches import BatchSource, Mixture, View
from mmduet.training.features import build_features
from mmduet.training.first_sight import LessonBook, Lessons, lesson_loss
from mmduet.training.frames import FrameStore, build_store
from mmduet.training.looks import NOTHING, describe
from mmduet.training.losses import Losses, duet_losses
from mmduet.training.samples import Sample, read_dense_captioning, read_grounding, read_magqa
from mmduet.training.trainer import Report, Schedule, Trainer
from mmduet.training.vocabulary import train_tokenizer

Progress = Callable[[str, int, int, dict[str, float]], None]  # stage, done, total, figures
TRAIN_SEED = 20_241_117


@dataclass(frozen=True)
class NanoRecipe:
    """Every number that makes nano what it is."""

    clips: int = 5000
    seconds: tuple[float, float] = (11.5, 13.0)
    lessons: Schedule = field(default_factory=lambda: Schedule(steps=3000, lr=1e-3))
    lesson_batch: int = 128
    duet: Schedule = field(default_factory=lambda: Schedule(steps=2400, lr=1.2e-3))
    mixture: Mixture = field(default_factory=lambda: Mixture(instructions=NARRATE, look_questions=LOOK))
    seed: int = TRAIN_SEED


def make_nano(out: Path, work: Path, recipe: NanoRecipe, progress: Progress) -> Path:
    """Run the whole recipe; ``work`` keeps what is done between runs. Returns ``out``, a checkpoint directory."""
    store, samples, boxes = _material(work, recipe, progress)
    tokenizer = _tokenizer(samples)
    config = replace(NANO, text=replace(NANO.text, vocab_size=max(tokenizer.size, NANO.text.vocab_size)))
    model = random_model(config, seed=recipe.seed)
    _teach_tower(model, store, boxes, work / "lessons", recipe, progress)
    model.tower.requires_grad_(False)
    features = build_features(
        model.tower, store, work / "features.bf16", lambda done, total: progress("features", done, total, {})
    )
    source = BatchSource(
        samples, store, features, tokenizer, model.config.frame_tokens, recipe.mixture, recipe.seed, _view(boxes)
    )
    _initialise(model, recipe.seed)
    _teach_duet(model, source, work / "duet", recipe, progress)
    return save_checkpoint(out, model, tokenizer, dtype=torch.float32)


def _material(
    work: Path, recipe: NanoRecipe, progress: Progress
) -> tuple[FrameStore, list[Sample], dict[str, list[list[list[object]]]]]:
    scenes = work / "scenes"
    spec = SplitSpec("train", recipe.clips, recipe.seed, *recipe.seconds, fps=NANO.recommended.fps)
    make_split(scenes, spec, progress=lambda done, total: progress("clips", done, total, {}))
    clips = load_clips(scenes)
    names = [clip["video"] for clip in clips]
    store = build_store(
        scenes / "videos", names, NANO.recommended.fps, NANO.vision.image_size, work / "frames",
        lambda done, total: progress("frames", done, total, {}),
    )  # fmt: skip
    samples = [
        *read_dense_captioning(scenes / "dense_captioning.json"),
        *read_magqa(scenes / "magqa.json"),
        *read_grounding(scenes / "grounding.json"),
    ]
    return store, samples, {clip["video"]: clip["boxes"] for clip in clips}


def _tokenizer(samples: list[Sample]) -> Tokenizer:
    sentences = {
        "system\n",
        "user\n",
        "assistant\n",
        "stream\n",
        *NARRATE,
        *LOOK,
        NOTHING,
        *(t.lower() for t in NARRATE),
    }
    for sample in samples:
        sentences.update(a.text for a in sample.answers)
        sentences.update(q.text for q in sample.queries)
    prompts = [SYSTEM_PROMPT] * 50  # it stands in every conversation: its words deserve tokens of their own
    return train_tokenizer([*sentences, *prompts], NANO.text.vocab_size)


def _teach_tower(
    model: DuetModel,
    store: FrameStore,
    boxes: dict[str, list[list[list[object]]]],
    run: Path,
    recipe: NanoRecipe,
    progress: Progress,
) -> None:
    torch.manual_seed(recipe.seed)
    lessons = Lessons(model.tower, model.config.vision)
    book = LessonBook(store, boxes, NANO.recommended.fps, model.config.vision.grid, recipe.lesson_batch, recipe.seed)

    def loss_at(step: int) -> Losses:
        with _autocast():
            return lesson_loss(lessons, book, step)

    Trainer(lessons, loss_at, recipe.lessons, run).train(_reporter("lessons", recipe.lessons, progress))


def _teach_duet(model: DuetModel, source: BatchSource, run: Path, recipe: NanoRecipe, progress: Progress) -> None:
    def loss_at(step: int) -> Losses:
        with _autocast():
            return duet_losses(model, source.batch(step))

    Trainer(model, loss_at, recipe.duet, run).train(_reporter("duet", recipe.duet, progress))


def _view(boxes: dict[str, list[list[list[object]]]]) -> View:
    """What can be seen in a video at a time, from its boxes."""

    def view(video: str, time: float) -> str:
        frames = boxes[video]
        return describe(frames[min(round(time * NANO.recommended.fps), len(frames) - 1)])

    return view


def _initialise(model: DuetModel, seed: int) -> None:
    """Give the LM's matrices the scale of their width: Transformers' 0.02 leaves so narrow a model all but deaf at first."""
    torch.manual_seed(seed)
    depth = 2 * model.config.text.layers
    for name, module in model.lm.named_modules():
        if isinstance(module, nn.Linear):
            scale = depth**-0.5 if name.endswith(("o_proj", "down_proj")) else 1.0
            nn.init.normal_(module.weight, std=scale * module.in_features**-0.5)


def _reporter(stage: str, schedule: Schedule, progress: Progress) -> Report:
    return lambda step, figures: progress(stage, step, schedule.steps, figures)


@contextlib.contextmanager
def _autocast() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16):
        yield


def trainable_parameters(module: nn.Module) -> int:
    """How many numbers training may change."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
