"""Remove credentials from URLs before they reach a message, an event or a log line."""

from __future__ import annotations

import re

_SCHEMES = "rtsps?|rtmps?|https?|wss?|ftps?|srt|udp|rtp"  # recognised even if the colon or the slashes are missing
_URL_START = rf"(?:[a-z][a-z0-9+.-]+:[/\\]+|[a-z]:/{{2,}}|(?:{_SCHEMES})(?::|(?=//))/*)"
_STARTS_AS_URL = re.compile(rf"\s*({_URL_START})", re.IGNORECASE)
_URL_IN_TEXT = re.compile(rf"(?:{_URL_START}|://)\S*", re.IGNORECASE)
_FINAL_PUNCTUATION = "\"'()[]{}<>.,;:!?"
_DATA_URL = re.compile(r"\s*(data:[\w.+/;=-]{0,60}),", re.IGNORECASE)


def address_scheme(name: str) -> str | None:
    """Return the scheme of ``SCHEME://...``, None for other names."""
    found = re.match(r"([a-z][a-z0-9+.-]+)://", name, re.IGNORECASE)
    return None if found is None else found[1]


def redact(name: str) -> str:
    """Return the name of a source for messages and logs: a URL without credentials, query and data; a file name unchanged.

    Everything before the last ``@`` counts as credentials, because a password may contain unescaped delimiters. If a query
    starts before it, either side of the ``@`` may be secret and neither is returned.
    """
    if re.match(r"\s*data:", name, re.IGNORECASE):
        head = _DATA_URL.match(name)
        return head[1] if head else "data:"
    start = _STARTS_AS_URL.match(name)
    if start is None and "://" not in name:
        return name
    hidden, at, rest = name.rpartition("@")
    prefix = start[1] if start else ""
    if at and re.search(r"[?#]", hidden):
        return f"{prefix}..."
    return re.split(r"[?#]", prefix + rest if at else name)[0]


def redact_text(text: str) -> str:
    """Return a message with every URL in it as ``redact`` returns it. Punctuation at the end of a URL is kept."""
    if not any(mark in text for mark in "@?#"):
        return text
    return _URL_IN_TEXT.sub(_redact_match, text)


def _redact_match(match: re.Match[str]) -> str:
    url = match[0].rstrip(_FINAL_PUNCTUATION)
    return redact(url) + match[0][len(url) :]
