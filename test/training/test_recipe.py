"""The recipe's numbers as they work out."""

from __future__ import annotations

import pytest

from mmduet.training.nano_recipe import NanoRecipe, counted


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
