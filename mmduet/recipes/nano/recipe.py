"""Makes nano from nothing: its clips, its vocabulary, the tower's first lessons, the duet; resumable at every step."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from mmduet.annotations.training_samples import Kind, Sample, read_dense_captioning, read_grounding, read_magqa
from mmduet.duet import SYSTEM_PROMPT
from mmduet.model.checkpoint import save_checkpoint
from mmduet.model.network import DuetModel
from mmduet.model.presets import NANO, random_model
from mmduet.model.tokenizer import Tokenizer
from mmduet.recipes.nano.auxiliary_heads import TimeLessons
from mmduet.recipes.nano.event_labels import named_by
from mmduet.recipes.nano.frame_labels import TimeBook
from mmduet.recipes.nano.patch_pretraining import LessonBook, Lessons, lesson_loss
from mmduet.recipes.nano.scene_description import NOTHING
from mmduet.recipes.nano.vocabulary import train_tokenizer
from mmduet.scenes import SplitSpec, load_clips, make_split
from mmduet.scenes.prompts import LOOK, NARRATE
from mmduet.scenes.truth import VERSION
from mmduet.training.attention import use_float32_attention
from mmduet.training.batches import BatchSource, Mixture, Phase
from mmduet.training.features import build_features
from mmduet.training.frames import FrameStore, build_store
from mmduet.training.losses import Losses, duet_parts, forward_hidden, summed
from mmduet.training.optimizer import Schedule
from mmduet.training.trainer import Report, Trainer


class Progress(Protocol):
    """Told after every bit of work."""

    def __call__(self, stage: str, done: int, total: int, figures: dict[str, float]) -> None: ...


TRAIN_SEED = 20_241_117
WHOLE: tuple[tuple[Kind, float], ...] = (("captioning", 0.4), ("qa", 0.4), ("grounding", 0.2))
#: First a few frames at a time, mostly asked what is where: a query is found sooner among few tokens. Then whole events; and
#: when the lessons have done their work, the duet's own losses lead.
PHASES = (
    Phase((2, 4), (("captioning", 0.15), ("qa", 0.15), ("grounding", 0.7)), until=0.08),
    Phase((8, 12), until=0.3),
    Phase((12, 16, 22, 28), WHOLE, until=0.7),
    Phase((12, 16, 22, 28), WHOLE, lesson_share=0.15),
)
#: Then streams as they come: samples so long that the window slides; a clip answers each of its own questions, in a long stream
#: what is asked for is mostly not there, so some ask for what the clip has not, and some are left out.
LAST_SHARES: tuple[tuple[Kind, float], ...] = (("captioning", 0.35), ("qa", 0.45), ("grounding", 0.2))
LAST_PHASE = Phase((12, 20, 28, 44), LAST_SHARES, lesson_share=0.15, unanswered=0.25, unasked=0.1)
#: Few cells hold what is asked for and few of 35 identities are in view, so these losses are small from the start; ``told``
#: is the sum of eight, ``motion`` of five.
LESSON_WEIGHTS = (("asked", 6.0), ("inventory", 8.0), ("told", 0.5), ("motion", 0.5))


MIXTURE = Mixture(PHASES, instructions=NARRATE, look_questions=LOOK)
LAST_MIXTURE = replace(MIXTURE, phases=(LAST_PHASE,), window=NANO.recommended.window)


@dataclass(frozen=True)
class NanoRecipe:
    """Every number that makes nano what it is."""

    clips: int = 5000
    seconds: tuple[float, float] = (11.5, 13.0)
    lessons: Schedule = field(default_factory=lambda: Schedule(steps=1500, lr=1e-3, muon=3e-3))
    lesson_batch: int = 128
    duet: Schedule = field(default_factory=lambda: Schedule(steps=4400, lr=1.2e-3, muon=4e-3))
    lesson_weights: tuple[tuple[str, float], ...] = LESSON_WEIGHTS
    mixture: Mixture = MIXTURE
    refinement: Schedule = field(default_factory=lambda: Schedule(steps=1400, lr=4e-4, muon=1.5e-3))
    last_mixture: Mixture = LAST_MIXTURE
    seed: int = TRAIN_SEED


def make_nano(out: Path, work: Path, recipe: NanoRecipe, progress: Progress) -> Path:
    """Run the whole recipe; ``work`` keeps what is done between runs. Returns ``out``, a checkpoint directory."""
    clips, store = _clips(work, recipe, progress)
    samples = _samples(work / "scenes")
    tokenizer = _tokenizer(samples)
    config = replace(NANO, text=replace(NANO.text, vocab_size=max(tokenizer.size, NANO.text.vocab_size)))
    model = random_model(config, seed=recipe.seed)
    _teach_tower(model, store, {clip["video"]: clip["boxes"] for clip in clips}, work / "lessons", recipe, progress)
    model.tower.requires_grad_(False)
    report = partial(progress, "features", figures={})
    features = build_features(model.tower, store, work / f"features-{_digest(model.tower)}.bf16", report)
    book = TimeBook(clips, NANO.recommended.fps, config)
    drawn = partial(
        BatchSource, store=store, visual=features, tokenizer=tokenizer, frame_tokens=config.frame_tokens, tutor=book
    )
    _initialise(model, recipe.seed)
    use_float32_attention(model.lm)
    lessons, depends = TimeLessons(model), _duet_depends_on(recipe)
    hidden = _matrices(model.projector, model.lm)
    for stage, schedule, mixture, material in (
        ("duet", recipe.duet, recipe.mixture, samples),
        ("refine", recipe.refinement, recipe.last_mixture, balanced(samples)),
    ):
        depends += f", {stage} {schedule} {mixture}"
        source = drawn(material, mixture=mixture, seed=recipe.seed, steps=schedule.steps)
        loss_at = partial(_duet_loss, lessons, source, dict(recipe.lesson_weights), schedule.steps, mixture)
        trainer = Trainer(lessons, loss_at, schedule, work / stage, hidden=hidden, recipe=depends)
        trainer.train(_reporter(stage, schedule, progress))
    return save_checkpoint(out, model, tokenizer, dtype=torch.float32)


def _clips(work: Path, recipe: NanoRecipe, progress: Progress) -> tuple[list[dict[str, Any]], FrameStore]:
    scenes, fps = work / "scenes", NANO.recommended.fps
    spec = SplitSpec("train", recipe.clips, recipe.seed, *recipe.seconds, fps=fps)
    make_split(scenes, spec, progress=partial(progress, "clips", figures={}))
    clips = load_clips(scenes)
    names = [clip["video"] for clip in clips]
    report = partial(progress, "frames", figures={})
    return clips, build_store(scenes / "videos", names, fps, NANO.vision.image_size, work / "frames", report)


def _samples(scenes: Path) -> list[Sample]:
    return [
        *read_dense_captioning(scenes / "dense_captioning.json"),
        *read_magqa(scenes / "magqa.json"),
        *read_grounding(scenes / "grounding.json"),
    ]


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
    boxes: dict[str, list[list[list[Any]]]],
    run: Path,
    recipe: NanoRecipe,
    progress: Progress,
) -> None:
    torch.manual_seed(recipe.seed)
    use_float32_attention(model.tower.siglip)
    lessons = Lessons(model.tower, model.config.vision)
    book = LessonBook(store, boxes, NANO.recommended.fps, model.config.vision.grid, recipe.lesson_batch, recipe.seed)

    def loss_at(step: int) -> Losses:
        with _autocast():
            return lesson_loss(lessons, book, step)

    hidden = _matrices(model.tower.siglip.encoder)
    trainer = Trainer(lessons, loss_at, recipe.lessons, run, hidden=hidden, recipe=_tower_depends_on(recipe))
    trainer.train(_reporter("lessons", recipe.lessons, progress))


def balanced(samples: Sequence[Sample]) -> list[Sample]:
    """The samples, those that ask for a seldom kind of event as often as is needed to make it as common as the commonest."""
    asked = [named_by(s.queries[0].text)[-1] if s.kind == "qa" and s.queries else 0 for s in samples]
    counts = Counter(kind for kind in asked if kind)
    most = max(counts.values(), default=0)
    return [s for s, kind in zip(samples, asked, strict=True) for _ in range(round(most / counts[kind]) if kind else 1)]


def _tower_depends_on(recipe: NanoRecipe) -> str:
    clips = f"{recipe.clips} clips of {recipe.seconds} s, annotations {VERSION}"
    return f"{clips}, batch {recipe.lesson_batch}, seed {recipe.seed}, {NANO.vision}"


def _duet_depends_on(recipe: NanoRecipe) -> str:
    """All that the duet's first step depends on; what comes later is not in it, so that it may change and the duet stay."""
    lm = f"{NANO.text} {NANO.pooling_stride} {NANO.recommended.fps}"
    return f"tower {recipe.lessons} {_tower_depends_on(recipe)}, {lm}, lessons {recipe.lesson_weights}"


def _duet_loss(
    lessons: TimeLessons, source: BatchSource, weights: Mapping[str, float], steps: int, mixture: Mixture, step: int
) -> Losses:
    with _autocast():
        batch = source.batch(step)
        hidden = forward_hidden(lessons.model, batch)
        taught = lessons.losses(hidden, batch)
        counts = counted(weights, mixture.phase(step / steps), taught)
        return summed(duet_parts(lessons.model, batch, hidden) | taught, counts)


def counted(weights: Mapping[str, float], phase: Phase, lessons: Iterable[str]) -> dict[str, float]:
    """What each lesson's loss counts for in a phase: its own weight, less and less as the phases go by."""
    return {name: phase.lesson_share * weights.get(name, 1.0) for name in lessons}


def _matrices(*parts: nn.Module) -> list[nn.Parameter]:
    """The weights of all linear layers in ``parts``: what Muon is for."""
    linears = [m for part in parts for m in part.modules() if isinstance(m, nn.Linear)]
    return [p for linear in linears for p in linear.parameters() if p.dim() == 2]


def _digest(module: nn.Module) -> str:
    """Short name of a module's weights."""
    digest = hashlib.sha256()
    for tensor in module.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:12]


def _initialise(model: DuetModel, seed: int) -> None:
    """Give the LM's matrices the scale of their width, and word embeddings that of what the layers add to them.

    Transformers' 0.02 leaves so narrow a model all but deaf at first, and which word it was is lost after one layer. The
    language head keeps it: it begins with even odds for every token.
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
    return lambda step, figures: progress(stage, step, schedule.steps, figures)


@contextlib.contextmanager
def _autocast() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16):
        yield
