"""Make text from models and users safe to display: on one line, and short."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from difflib import get_close_matches
from urllib.parse import unquote

MAX_QUOTED_CHARS = 120
"""Characters of a value from outside that an error message repeats."""

_LONG_WORD = re.compile(rf"\S{{{MAX_QUOTED_CHARS + 1},}}")
_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"  # needed by Persian text and by composed emoji


def to_printable(text: str) -> str:
    """Return ``text`` on one line, without control characters, so that a model's reply cannot control a terminal.

    White space becomes a space, any other character that cannot be printed U+FFFD. The length stays the same.
    """
    return "".join(
        char if char.isprintable() or char in _JOINERS else " " if char.isspace() else _UNPRINTABLE for char in text
    )


def shorten(text: str) -> str:
    """Return ``text``, cut to ``MAX_QUOTED_CHARS`` characters with an ellipsis at the end."""
    return text if len(text) <= MAX_QUOTED_CHARS else text[: MAX_QUOTED_CHARS - 1] + "…"


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return ``", did you mean X?"`` for the known name that ``name`` resembles, ignoring case, else ``";"``.

    ``prefix`` stands before all names and is not compared.
    """
    by_key = {other.casefold(): other for other in known}
    similar = get_close_matches(shorten(name).casefold(), by_key, 1)
    return f", did you mean {prefix}{by_key[similar[0]]}?" if similar else ";"


def shorten_words(text: str) -> str:
    """Return ``text`` with every word of more than ``MAX_QUOTED_CHARS`` characters, such as a long URL, shortened."""
    return _LONG_WORD.sub(lambda found: shorten(found[0]), text)


def decode_base64(text: str) -> bytes:
    """Decode base64 as browsers do: white space, percent-encoding and missing padding are accepted. Raises ``ValueError``."""
    compact = "".join((unquote(text) if "%" in text else text).split()).rstrip("=")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
