"""OVO-Bench: answers in responses, and averages over tasks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.annotations.ovo_files import GROUP_OF_TASK, TASKS_OF_GROUP
from mmduet.metrics import ovo


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("B", "B"),
        ("b", "B"),
        ("D. \n", "D"),
        ("(C) load the tire;", "C"),
        ("(B. TOM, 21;", "B"),
        ("(D) A red box and a green box.", "D"),
        ("The answer is (D).", "D"),
        ("Answer: **B**", "B"),
        ("the best choice is C because A is off", "C"),
        ("B The person", "B"),
        ("I'd say E", "E"),
        ("Because", None),
        ("A dog runs", None),
        ("the answer is a dog", None),
        ("A, B, C, D", None),
        ("A or B", None),
        ("A. B. C", None),
        ("ABCD", None),
        ("I don't see an image", None),
        ("", None),
    ],
)
def test_chosen_option_of_a_response(response: str, expected: str | None) -> None:
    assert ovo.chosen_option(response) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("2", 2),
        ("2.0", 2),
        ("03", 3),
        ("They did it 10 times.", 10),
        ("They dived three times.", 3),
        ("once", 1),
        ("The one person jumps 3 times", 3),
        ("1 2", None),
        ("one or two", None),
        ("someone", None),
        ("the 3rd", None),
        ("", None),
    ],
)
def test_number_stated_by_a_response(response: str, expected: float | None) -> None:
    assert ovo.stated_number(response) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("Yes", "Yes"),
        ("no.", "No"),
        ("**Yes**, it is", "Yes"),
        ("Y", "Yes"),
        ("n.", "No"),
        ("The answer is yes", "Yes"),
        ("No doubt about it", "No"),
        ("Not sure", None),
        ("Now", None),
        ("Either yes or no", None),
        ("", None),
    ],
)
def test_yes_or_no_stated_by_a_response(response: str, expected: str | None) -> None:
    assert ovo.stated_yes_no(response) == expected


def test_rules_of_the_original_scorer() -> None:
    assert ovo.contains_letter("Because", "B")
    assert ovo.contains_letter("Answer: C", "A")
    assert not ovo.contains_letter("b", "B")
    assert [ovo.join_digits(text) for text in ("2.0", "1 2", "03", "none")] == ["20", "12", "03", ""]
    assert ovo.contains_yes_no("Not sure", "No")
    assert ovo.contains_yes_no("N", "No")
    assert not ovo.contains_yes_no("N.", "No")
    assert not ovo.contains_yes_no("no", "No")


def test_groups_are_means_of_tasks_and_total_is_the_mean_of_groups() -> None:
    means = ovo.group_averages({"EPM": 20.0, "HLD": 40.0, "OCR": 60.0, "REC": 0.0, "CRR": 50.0}, TASKS_OF_GROUP)
    assert means == {"Backward": 30.0, "Realtime": 60.0, "Forward": 25.0, "Total": pytest.approx(115 / 3)}
    assert ovo.group_averages({"EPM": 20.0, "OCR": 60.0}, TASKS_OF_GROUP) == {"Backward": 20.0, "Realtime": 60.0}


@given(st.dictionaries(st.sampled_from(sorted(GROUP_OF_TASK)), st.floats(0, 100), min_size=1))
def test_averages_lie_between_the_worst_and_the_best_task(accuracies: dict[str, float]) -> None:
    worst, best = min(accuracies.values()), max(accuracies.values())
    assert all(worst - 1e-9 <= mean <= best + 1e-9 for mean in ovo.group_averages(accuracies, TASKS_OF_GROUP).values())
