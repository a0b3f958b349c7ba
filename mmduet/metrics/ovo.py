"""Parse responses to OVO-Bench's tasks, and average accuracies over groups of tasks.

Source: OVO-Bench (arXiv 2501.05510) and its scorer. ``contains_*`` and ``join_digits`` are the scorer's own rules;
``chosen_option``, ``stated_yes_no`` and ``stated_number`` find the answer as a reader would.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

TOTAL = "Total"

OPENING, CLOSING = r"[\s\"'*(\[]*", r"[\s\"'*)\].:;,]*"
STANDALONE_LETTER = (
    r"(?!A\s+(?!and\b|or\b)[a-z])([A-H])(?![\w'\u2019])"  # "A dog" starts with an article, not with option A
)
BARE_LETTER = re.compile(f"{OPENING}([A-Ha-h]){CLOSING}")
LABEL = re.compile(rf"{OPENING}(?:(?i:option|choice)\s*)?{OPENING}([A-Ha-h])\s*[)\].:;*]")
NAMED_ANSWER = re.compile(rf"\b(?i:answer|option|choice)(?:\s+is)?\s*:?{OPENING}{STANDALONE_LETTER}")
LETTER = re.compile(rf"(?<![\w'\u2019]){STANDALONE_LETTER}")
YES_OR_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
NUMERAL = re.compile(r"(?<![\w.,])\d+(?:\.\d+)?(?![\w]|[.,]\d)")
NUMBER_OF = {
    "zero": 0.0, "one": 1.0, "once": 1.0, "two": 2.0, "twice": 2.0, "three": 3.0, "thrice": 3.0, "four": 4.0, "five": 5.0,
    "six": 6.0, "seven": 7.0, "eight": 8.0, "nine": 9.0, "ten": 10.0, "eleven": 11.0, "twelve": 12.0, "thirteen": 13.0,
    "fourteen": 14.0, "fifteen": 15.0, "sixteen": 16.0, "seventeen": 17.0, "eighteen": 18.0, "nineteen": 19.0, "twenty": 20.0,
}  # fmt: skip
WORD = re.compile(rf"\b({'|'.join(NUMBER_OF)})\b", re.IGNORECASE)


def contains_letter(response: str, gold: str) -> bool:
    """Apply the scorer's rule: correct if the gold letter occurs anywhere ("Because" is correct for B)."""
    return gold in response


def join_digits(response: str) -> str:
    """Apply the scorer's rule for counts: join all digits of the response ("2.0" gives 20)."""
    return "".join(re.findall(r"\d+", response))


def contains_yes_no(response: str, gold: str) -> bool:
    """Apply the scorer's rule for "Yes" and "No": contained ("Not sure" is No), or exactly Y or N."""
    return gold in response or response == gold[0]


def chosen_option(response: str) -> str | None:
    """Return the option, A to H, that a response chooses; None where it chooses none, or leaves several open.

    The choice is the letter that labels the beginning ("B. red", "(C) blue"), else the letter that is called the answer, else
    the only standalone letter.
    """
    if bare := BARE_LETTER.fullmatch(response):
        return bare[1].upper()
    listed = set(LETTER.findall(response))
    if (label := LABEL.match(response)) and not _is_listing(response, listed):
        return label[1].upper()
    named = set(NAMED_ANSWER.findall(response))
    return _only(named) if named else _only(listed)


def stated_yes_no(response: str) -> str | None:
    """Return "Yes" or "No": the word that the response starts with, else the only one of the two in it; else None."""
    if response.strip().rstrip(".").upper() in ("Y", "N"):
        return "Yes" if response.strip()[0] in "yY" else "No"
    found = [word.capitalize() for word in YES_OR_NO.findall(response)]
    begins = YES_OR_NO.match(response.lstrip(" \t\r\n\"'*("))
    return found[0] if begins else _only(set(found))


def stated_number(response: str) -> float | None:
    """Return the only number of a response, in figures ("2.0", "03"), or in words if it has no figures ("three times")."""
    figures = {float(figure) for figure in NUMERAL.findall(response)}
    return _only(figures or {NUMBER_OF[word.lower()] for word in WORD.findall(response)})


def group_averages(accuracies: Mapping[str, float], tasks_of_group: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Return the unweighted mean of each group over those of its tasks that ``accuracies`` has.

    ``Total`` is the mean over the groups, and present only where every group is.
    """
    means = {}
    for group, tasks in tasks_of_group.items():
        present = [accuracies[task] for task in tasks if task in accuracies]
        if present:
            means[average_name(group)] = sum(present) / len(present)
    if len(means) == len(tasks_of_group):
        means[TOTAL] = sum(means.values()) / len(means)
    return means


def average_name(group: str) -> str:
    """Return the name of a group's average, such as ``Backward``."""
    return group.capitalize()


def accuracy(correct: Sequence[bool]) -> float:
    """Return the share of correct answers, 0 to 1; NaN without answers."""
    return sum(correct) / len(correct) if correct else float("nan")


def _is_listing(response: str, letters: set[str]) -> bool:
    """Return whether a response only enumerates letters ("A. B. C")."""
    return len(letters) > 1 and not re.search(r"[^\W\d_]{2,}|\d", re.sub(r"\b(?:and|or)\b", "", response))


def _only(values: set[T]) -> T | None:
    return next(iter(values)) if len(values) == 1 else None
