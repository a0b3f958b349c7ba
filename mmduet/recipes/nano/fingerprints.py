"""Describe what each training stage depends on, as text stored in its state file; a run with another text is refused.

The texts are a file format: names of classes and fields in them are fixed, whatever the Python names are.
"""

from __future__ import annotations

from collections.abc import Mapping

from mmduet.model.config import TextShape, VisionShape
from mmduet.model.presets import NANO
from mmduet.scenes.annotations import ANNOTATION_VERSION
from mmduet.training.batches import CurriculumStage, SamplingConfig
from mmduet.training.optimizer import Schedule


def tower_fingerprint(clips: int, seconds: tuple[float, float], batch_size: int, seed: int) -> str:
    """Return what patch pretraining depends on beside its schedule."""
    data = f"{clips} clips of {seconds} s, annotations {ANNOTATION_VERSION}"
    return f"{data}, batch {batch_size}, seed {seed}, {_format_vision(NANO.vision)}"


def duet_fingerprint(tower: str, pretraining: Schedule, auxiliary_weights: tuple[tuple[str, float], ...]) -> str:
    """Return what the first step of the duet stage depends on.

    Later stages are not included, so that a refinement can change while the duet stage is kept.
    """
    lm = f"{_format_text(NANO.text)} {NANO.pooling_stride} {NANO.recommended.fps}"
    return f"tower {pretraining.fingerprint} {tower}, {lm}, lessons {auxiliary_weights}"


def stage_fingerprint(stage: str, schedule: Schedule, sampling: SamplingConfig) -> str:
    """Return what one stage adds: its name, schedule and sampling."""
    return f"{stage} {schedule.fingerprint} {format_sampling(sampling)}"


def format_sampling(sampling: SamplingConfig) -> str:
    """Return a sampling configuration as text."""
    stages = ", ".join(map(_format_stage, sampling.stages)) + ("," if len(sampling.stages) == 1 else "")
    fields = {
        "frames_per_batch": sampling.max_frames_per_batch,
        "most_samples": sampling.max_samples,
        "keep_replies": sampling.keep_replies,
        "instructions": sampling.instructions,
        "frames_per_look": sampling.frames_per_side_question,
        "look_questions": sampling.side_questions,
        "window": sampling.window,
    }
    return f"Mixture(phases=({stages}), {_format_fields(fields)})"


def _format_stage(stage: CurriculumStage) -> str:
    fields = {
        "frames": stage.frames,
        "shares": stage.shares,
        "until": stage.until,
        "lesson_share": stage.auxiliary_weight,
        "unanswered": stage.unanswerable_share,
        "unasked": stage.without_query_share,
    }
    return f"Phase({_format_fields(fields)})"


def _format_vision(shape: VisionShape) -> str:
    fields = {
        "image_size": shape.image_size,
        "patch_size": shape.patch_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "layers": shape.layers,
        "heads": shape.heads,
        "family": shape.family,
        "position_side": shape.position_side,
    }
    return f"VisionShape({_format_fields(fields)})"


def _format_text(shape: TextShape) -> str:
    fields = {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "layers": shape.layers,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_positions": shape.max_positions,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.rms_norm_eps,
        "tied": shape.tied,
        "family": shape.family,
    }
    return f"TextShape({_format_fields(fields)})"


def _format_fields(fields: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in fields.items())
