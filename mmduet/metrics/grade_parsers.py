"""Parse a judge's reply as a grade, in each of the ways that published evaluators do.

A parser takes the reply and the highest grade (the lowest is 1), and returns the grade or None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

GradeParser = Callable[[str, int], int | None]

# A number that is not part of a word, a decimal fraction, a date or another number.
STANDALONE_NUMBER = re.compile(r"(?<![\w./-])(?<!\d[,:])(\d+)(?:\.0+)?(?![\w/]|[.,:-]\d)")
SCALE = re.compile(r"\s*(?:/|\bout of\b)\s*\d+(?![\w.,/-]*\d)", re.IGNORECASE)


def only_number(reply: str, max_grade: int) -> int | None:
    """Return the grade that the reply names, if it names exactly one: ``Score: 4``, ``**4**``, ``4/5``, ``4 out of 5``.

    A choice (``3 or 4``) or a grade in between (``4.5``) gives None.
    """
    named = set(_standalone_grades(reply, max_grade))
    return named.pop() if len(named) == 1 else None


def first_number(reply: str, max_grade: int) -> int | None:
    """Return the first standalone grade, as some copies of the PAUC evaluator do."""
    return next(iter(_standalone_grades(reply, max_grade)), None)


def last_number(reply: str, max_grade: int) -> int | None:
    """Return the last standalone grade, as some copies of the PAUC evaluator do."""
    return next(reversed(_standalone_grades(reply, max_grade)), None)


def first_character(reply: str, max_grade: int) -> int | None:
    """Return the first character as a grade, as MMDuet with a local judge and some copies of the PAUC evaluator do."""
    return _digit(reply[:1], max_grade)


def last_character(reply: str, max_grade: int) -> int | None:
    """Return the last character as a grade, as MMDuet with a judge behind a server does.

    ``4.`` gives None and ``3 of 5`` gives 5.
    """
    return _digit(reply[-1:], max_grade)


def whole_number(reply: str, max_grade: int) -> int | None:
    """Return the whole reply as a grade, as MMDuet with GPT as judge does."""
    try:
        number = int(reply)
    except ValueError:
        return None
    return number if 1 <= number <= max_grade else None


GRADE_PARSERS: Mapping[str, GradeParser] = {
    "only_number": only_number,
    "first_number": first_number,
    "last_number": last_number,
    "first_character": first_character,
    "last_character": last_character,
    "whole_number": whole_number,
}


def _standalone_grades(reply: str, max_grade: int) -> list[int]:
    numbers = [int(found) for found in STANDALONE_NUMBER.findall(SCALE.sub("", reply)) if len(found) < 3]
    return [number for number in numbers if 1 <= number <= max_grade]


def _digit(character: str, max_grade: int) -> int | None:
    return int(character) if character in "123456789"[:max_grade] and character else None
