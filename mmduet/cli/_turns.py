"""Parse the turns that a user types on the command line: ``TEXT`` or ``TEXT@SECONDS``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from mmduet.errors import OptionError
from mmduet.events import Context, Query

TIMED_TEXT = re.compile(r"(?P<text>.*)@(?P<time>[+-]?(\d+(\.\d*)?|\.\d+))\s*", re.DOTALL)
EXAMPLE = "as in 'What is this?@12.5'"
Turn = TypeVar("Turn", Query, Context)


def parse_turns(option: str, texts: Iterable[str] | None, kind: Callable[[str, float], Turn]) -> list[Turn]:
    """Return a turn of ``kind`` for each text of an option. Raises ``OptionError`` for an invalid one."""
    return [kind(*parse_timed_text(option, text)) for text in texts or ()]


def parse_timed_text(option: str, text: str) -> tuple[str, float]:
    """Return text and time in seconds of one turn; the time is 0 without a number after the last ``@``.

    Raises:
        OptionError: The text is empty or not valid UTF-8, or the time is negative or not finite.
    """
    timed = TIMED_TEXT.fullmatch(text)
    content, time = (timed["text"].rstrip(), float(timed["time"])) if timed else (text, 0.0)
    if time < 0 or not math.isfinite(time):
        raise OptionError(f"{option} {text!r} has the time {time}; use seconds from 0 up, {EXAMPLE}")
    if not content.strip():
        raise OptionError(f"{option} {text!r} has no text; write it before the time, {EXAMPLE}")
    return check_text(option, content), time


def check_text(option: str, text: str) -> str:
    """Return ``text``. Raises ``OptionError`` if it is blank or not valid UTF-8."""
    if not text.strip():
        raise OptionError(f"{option} {text!r} has no text; write the query")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise OptionError(f"{option} {text!r} is not valid UTF-8; use a terminal or script encoded in UTF-8")
    return text
