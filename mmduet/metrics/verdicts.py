"""A judge's words as a whole number, in every way that evaluators of the field read them; pure functions.

Each takes a reply and the highest score there is (the lowest is 1) and gives the score, or None where it finds none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Reading = Callable[[str, int], int | None]

# A digit that is no part of a word, a decimal fraction, a date or another number.
ALONE = re.compile(r"(?<![\w./-])(?<!\d[,:])(\d+)(?:\.0+)?(?![\w/]|[.,:-]\d)")
SCALE = re.compile(r"\s*(?:/|\bout of\b)\s*\d+(?![\w.,/-]*\d)", re.IGNORECASE)


def only_one(reply: str, highest: int) -> int | None:
    """The score that the reply names, if it names one and no other: ``Score: 4``, ``**4**``, ``4/5``, ``4 out of 5``.

    What leaves a choice (``3 or 4``) or lies between scores (``4.5``) is no verdict; nothing is guessed.
    """
    named = set(_alone(reply, highest))
    return named.pop() if len(named) == 1 else None


def first_alone(reply: str, highest: int) -> int | None:
    """The first score that stands by itself; copies of the PAUC evaluator read so."""
    return next(iter(_alone(reply, highest)), None)


def last_alone(reply: str, highest: int) -> int | None:
    """The last score that stands by itself; copies of the PAUC evaluator read so."""
    return next(reversed(_alone(reply, highest)), None)


def first_character(reply: str, highest: int) -> int | None:
    """MMDuet with a local judge, and copies of the PAUC evaluator: the very first character, be it a space."""
    return _digit(reply[:1], highest)


def last_character(reply: str, highest: int) -> int | None:
    """MMDuet with a judge behind a server: the very last character, so that ``4.`` is none and ``3 of 5`` is 5."""
    return _digit(reply[-1:], highest)


def whole_number(reply: str, highest: int) -> int | None:
    """MMDuet with GPT as judge: the reply is the number."""
    try:
        number = int(reply)
    except ValueError:
        return None
    return number if 1 <= number <= highest else None


READINGS: Mapping[str, Reading] = {
    "only_one": only_one,
    "first_alone": first_alone,
    "last_alone": last_alone,
    "first_character": first_character,
    "last_character": last_character,
    "whole_number": whole_number,
}


def _alone(reply: str, highest: int) -> list[int]:
    numbers = [int(found) for found in ALONE.findall(SCALE.sub("", reply)) if len(found) < 3]
    return [number for number in numbers if 1 <= number <= highest]


def _digit(character: str, highest: int) -> int | None:
    return int(character) if character in "123456789"[:highest] and character else None
