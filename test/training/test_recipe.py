"""The recipe's numbers as they work out."""

from __future__ import annotations

import pytest

from mmduet.annotations.training_samples import Sample
from mmduet.events import Query
from mmduet.recipes.nano.recipe import NanoRecipe, balanced, counted


def test_lessons_count_fully_at_first_and_little_at_the_end() -> None:
    recipe = NanoRecipe()
    phases = (recipe.mixture.phase(0.0), recipe.mixture.phase(0.999))
    first, last = (counted(dict(recipe.lesson_weights), phase, ("asked", "change")) for phase in phases)
    assert first == {"asked": 6.0, "change": 1.0}
    assert last == pytest.approx({"asked": 0.9, "change": 0.15})


def test_phases_cover_the_whole_run_in_order() -> None:
    phases = NanoRecipe().mixture.phases
    ends = [phase.until for phase in phases]
    assert ends == sorted(ends)
    assert ends[-1] == 1.0


def test_seldom_questions_become_as_common_as_the_commonest() -> None:
    def asked(text: str) -> Sample:
        return Sample("qa", "v", (Query(text),))

    often, seldom = asked("Tell me when something enters."), asked("say so when an object hides")
    others = [
        asked("What does the red circle do?"),
        Sample("captioning", "v"),
        Sample("grounding", "v", (Query("hides"),)),
    ]
    samples = balanced([*[often] * 9, *[seldom] * 2, *others])
    assert samples.count(often) == 9
    assert samples.count(seldom) == 8  # four or five times each: the nearest
    assert [samples.count(other) for other in others] == [1, 1, 1]
