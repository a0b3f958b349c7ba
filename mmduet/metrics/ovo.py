"""OVO-Bench: what a response to each of its twelve tasks is taken for, and the averages; pure functions.

Source: OVO-Bench (arXiv 2501.05510) and its scorer. ``*_contained`` and ``digits_joined`` are the scorer's own rules;
``option``, ``yes_no`` and ``number`` find the answer that a reader would.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

GROUPS: Mapping[str, tuple[str, ...]] = {
    "backward": ("EPM", "ASI", "HLD"),
    "realtime": ("OCR", "ACR", "ATR", "STU", "FPD", "OJR"),
    "forward": ("REC", "SSR", "CRR"),
}
GROUP_OF = {task: group for group, tasks in GROUPS.items() for task in tasks}
AVERAGES = {"backward": "Backward", "realtime": "Realtime", "forward": "Forward"}
TOTAL = "Total"

OPENING, CLOSING = r"[\s\"'*(\[]*", r"[\s\"'*)\].:;,]*"
ALONE = r"(?!A\s+(?!and\b|or\b)[a-z])([A-H])(?![\w'\u2019])"  # "A dog" begins with an article
BARE = re.compile(f"{OPENING}([A-Ha-h]){CLOSING}")
LABEL = re.compile(rf"{OPENING}(?:(?i:option|choice)\s*)?{OPENING}([A-Ha-h])\s*[)\].:;*]")
SAID = re.compile(rf"\b(?i:answer|option|choice)(?:\s+is)?\s*:?{OPENING}{ALONE}")
LETTER = re.compile(rf"(?<![\w'\u2019]){ALONE}")
AFFIRMED = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
NUMERAL = re.compile(r"(?<![\w.,])\d+(?:\.\d+)?(?![\w]|[.,]\d)")
NUMBER_OF = {
    "zero": 0.0, "one": 1.0, "once": 1.0, "two": 2.0, "twice": 2.0, "three": 3.0, "thrice": 3.0, "four": 4.0, "five": 5.0,
    "six": 6.0, "seven": 7.0, "eight": 8.0, "nine": 9.0, "ten": 10.0, "eleven": 11.0, "twelve": 12.0, "thirteen": 13.0,
    "fourteen": 14.0, "fifteen": 15.0, "sixteen": 16.0, "seventeen": 17.0, "eighteen": 18.0, "nineteen": 19.0, "twenty": 20.0,
}  # fmt: skip
WORD = re.compile(rf"\b({'|'.join(NUMBER_OF)})\b", re.IGNORECASE)


def letter_contained(response: str, gold: str) -> bool:
    """The scorer's rule: right if the gold letter is anywhere in the response ("Because" is right for B)."""
    return gold in response


def digits_joined(response: str) -> str:
    """The scorer's rule for counts: all digits of the response, one after the other ("2.0" is 20)."""
    return "".join(re.findall(r"\d+", response))


def answer_contained(response: str, gold: str) -> bool:
    """The scorer's rule for "Yes" and "No": contained ("Not sure" is No), or the one letter Y or N."""
    return gold in response or response == gold[0]


def option(response: str) -> str | None:
    """The option, A to H, that a response chooses; None where it chooses none or leaves several open.

    A letter that labels the beginning ("B. red", "(C) blue") is the choice; else one that is called the answer; else the
    only letter that stands by itself.
    """
    if bare := BARE.fullmatch(response):
        return bare[1].upper()
    listed = set(LETTER.findall(response))
    if (label := LABEL.match(response)) and not _listing(response, listed):
        return label[1].upper()
    said = set(SAID.findall(response))
    return _only(said) if said else _only(listed)


def yes_no(response: str) -> str | None:
    """ "Yes" or "No": the word that the response begins with, else the only one of them in it."""
    if response.strip().rstrip(".").upper() in ("Y", "N"):
        return "Yes" if response.strip()[0] in "yY" else "No"
    found = [word.capitalize() for word in AFFIRMED.findall(response)]
    begins = AFFIRMED.match(response.lstrip(" \t\r\n\"'*("))
    return found[0] if begins else _only(set(found))


def number(response: str) -> float | None:
    """The only number of a response, in figures ("2.0", "03"), or in words where it has no figures ("three times")."""
    figures = {float(figure) for figure in NUMERAL.findall(response)}
    return _only(figures or {NUMBER_OF[word.lower()] for word in WORD.findall(response)})


def averages(accuracies: Mapping[str, float]) -> dict[str, float]:
    """Each group's unweighted mean over those of its tasks that ``accuracies`` has; ``Total``, where all three are there."""
    means = {}
    for group, tasks in GROUPS.items():
        present = [accuracies[task] for task in tasks if task in accuracies]
        if present:
            means[AVERAGES[group]] = sum(present) / len(present)
    if len(means) == len(GROUPS):
        means[TOTAL] = sum(means.values()) / len(means)
    return means


def accuracy(right: Sequence[bool]) -> float:
    """Share of right answers, 0 to 1; NaN of none."""
    return sum(right) / len(right) if right else float("nan")


def _listing(response: str, letters: set[str]) -> bool:
    """Whether a response does nothing but enumerate letters ("A. B. C")."""
    return len(letters) > 1 and not re.search(r"[^\W\d_]{2,}|\d", re.sub(r"\b(?:and|or)\b", "", response))


def _only(values: set[T]) -> T | None:
    return next(iter(values)) if len(values) == 1 else None
