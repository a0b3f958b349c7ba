"""The numbers of nano's recipe, and the texts of its state files."""

from __future__ import annotations

import pytest

from mmduet.annotations.training_samples import Sample
from mmduet.events import Query
from mmduet.recipes.nano.fingerprints import duet_fingerprint, stage_fingerprint, tower_fingerprint
from mmduet.recipes.nano.recipe import NanoRecipe, auxiliary_weights, oversample
from mmduet.training.batches import CurriculumStage, SamplingConfig
from mmduet.training.optimizer import Schedule


def test_auxiliary_losses_have_full_weight_at_first_and_little_at_the_end() -> None:
    recipe = NanoRecipe()
    stages = (recipe.sampling.stage_at(0.0), recipe.sampling.stage_at(0.999))
    first, last = (auxiliary_weights(dict(recipe.auxiliary_weights), phase, ("asked", "change")) for phase in stages)
    assert first == {"asked": 6.0, "change": 1.0}
    assert last == pytest.approx({"asked": 0.9, "change": 0.15})


def test_stages_cover_the_whole_run_in_order() -> None:
    stages = NanoRecipe().sampling.stages
    ends = [phase.until for phase in stages]
    assert ends == sorted(ends)
    assert ends[-1] == 1.0


def test_rare_questions_become_as_common_as_the_most_common() -> None:
    def asked(text: str) -> Sample:
        return Sample("qa", "v", (Query(text),))

    often, seldom = asked("Tell me when something enters."), asked("say so when an object hides")
    others = [
        asked("What does the red circle do?"),
        Sample("captioning", "v"),
        Sample("grounding", "v", (Query("hides"),)),
    ]
    samples = oversample([*[often] * 9, *[seldom] * 2, *others])
    assert samples.count(often) == 9
    assert samples.count(seldom) == 8  # four or five times each: the nearest
    assert [samples.count(other) for other in others] == [1, 1, 1]


def test_fingerprints_have_the_format_of_saved_states() -> None:
    """The texts below are in the state files of runs made before; changing them would refuse those runs."""
    tower = tower_fingerprint(6, (11.5, 13.0), 128, 20241117)
    assert tower == (
        "6 clips of (11.5, 13.0) s, annotations 2, batch 128, seed 20241117, VisionShape(image_size=64, patch_size=8, "
        "hidden_size=128, intermediate_size=384, layers=4, heads=4, family='siglip', position_side=0)"
    )
    schedule = Schedule(steps=3, lr=0.001, muon=0.003)
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
