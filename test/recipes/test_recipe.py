"""The parameters of nano's recipe, and the fingerprints in its state files."""

from __future__ import annotations

import pytest

from mmduet.annotations.training_samples import Sample
from mmduet.events import Query
from mmduet.recipes.nano.fingerprints import duet_fingerprint, stage_fingerprint, tower_fingerprint
from mmduet.recipes.nano.recipe import NanoRecipe, auxiliary_weights, oversample
from mmduet.training.batches import CurriculumStage, SamplingConfig
from mmduet.training.optimizer import Schedule


def test_auxiliary_losses_have_full_weight_at_the_start_and_little_at_the_end() -> None:
    recipe = NanoRecipe()
    stages = (recipe.sampling.stage_at(0.0), recipe.sampling.stage_at(0.999))
    first, last = (auxiliary_weights(dict(recipe.auxiliary_weights), stage, ("asked", "change")) for stage in stages)
    assert first == {"asked": 6.0, "change": 1.0}
    assert last == pytest.approx({"asked": 0.9, "change": 0.15})


def test_stages_cover_the_whole_run_in_order() -> None:
    stages = NanoRecipe().sampling.stages
    ends = [stage.until for stage in stages]
    assert ends == sorted(ends)
    assert ends[-1] == 1.0


def test_queries_about_rare_kinds_are_repeated_until_as_common_as_the_most_common() -> None:
    def qa_sample(text: str) -> Sample:
        return Sample("qa", "v", (Query(text),))

    common, rare = qa_sample("Tell me when something enters."), qa_sample("say so when an object hides")
    others = [
        qa_sample("What does the red circle do?"),
        Sample("captioning", "v"),
        Sample("grounding", "v", (Query("hides"),)),
    ]
    samples = oversample([*[common] * 9, *[rare] * 2, *others])
    assert samples.count(common) == 9
    assert samples.count(rare) == 8  # each is repeated 9 / 2 times, rounded to 4
    assert [samples.count(other) for other in others] == [1, 1, 1]


def test_fingerprints_have_the_format_of_saved_states() -> None:
    """Existing state files contain these texts; with other texts their runs would be rejected."""
    tower = tower_fingerprint(6, (11.5, 13.0), 128, 20241117)
    assert tower == (
        "6 clips of (11.5, 13.0) s, annotations 2, batch 128, seed 20241117, VisionShape(image_size=64, patch_size=8, "
        "hidden_size=128, intermediate_size=384, layers=4, heads=4, family='siglip', position_side=0)"
    )
    schedule = Schedule(steps=3, lr=0.001, muon_lr=0.003)
    schedule_text = "Schedule(steps=3, lr=0.001, muon=0.003, warmup=0.05, weight_decay=0.05, clip=1.0, floor=0.02)"
    assert duet_fingerprint(tower, schedule, (("asked", 6.0), ("told", 0.5))) == (
        f"tower {schedule_text} {tower}, TextShape(vocab_size=640, hidden_size=192, intermediate_size=576, layers=4, heads=4, "
        "kv_heads=2, head_dim=48, max_positions=2048, rope_theta=10000.0, rms_norm_eps=1e-06, tied=False, family='qwen2') "
        "2 4.0, lessons (('asked', 6.0), ('told', 0.5))"
    )
    stage = CurriculumStage(
        (2, 4), (("qa", 1.0),), until=0.5, auxiliary_weight=0.15, unanswerable_share=0.25, without_query_share=0.1
    )
    sampling = SamplingConfig((stage,), instructions=("Go.", "Say."), side_questions=("What?",), window=16)
    assert stage_fingerprint("refine", schedule, sampling) == (
        f"refine {schedule_text} Mixture(phases=(Phase(frames=(2, 4), shares=(('qa', 1.0),), until=0.5, lesson_share=0.15, "
        "unanswered=0.25, unasked=0.1),), frames_per_batch=256, most_samples=48, keep_replies=0.25, "
        "instructions=('Go.', 'Say.'), frames_per_look=8, look_questions=('What?',), window=16)"
    )
