"""The pieces to feed for each event of a timeline, under both profiles. Text only, no token ids.

``fixed`` follows the template. ``paper`` reproduces what the reference implementation feeds (Q1, Q2, Q3, Q13 and Q14 of
docs/duet_format.md), so that published numbers can be matched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from mmduet.duet.roles import END, START, Role
from mmduet.duet.template import Piece, Renderer

#: Tokenization spaces that the tokenizer of the reference removes from decoded text.
TOKENIZATION_SPACES = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


class Feed(Protocol):
    """Converts events to pieces. Call the methods in the order of the timeline; each returns the pieces to feed next."""

    def begin(self, *, query_first: bool) -> list[Piece]:
        """Return the system turn. Call it first. ``query_first``: a query comes before the first frame."""

    def text(self, role: Role, text: str) -> list[Piece]:
        """Return a user or context turn."""

    def frame(self) -> list[Piece]:
        """Return one frame. The last piece is the frame itself."""

    def begin_reply(self) -> list[Piece]:
        """Return the header of a reply. Decoding follows."""

    def end_reply(self, *, removed: bool, cut: bool) -> list[Piece]:
        """Return the end of a reply. ``removed``: it was rolled back. ``cut``: it reached its token limit."""

    def clean_reply(self, text: str) -> str:
        """Return the text of a finished reply as it is emitted."""


@dataclass
class FixedFeed:
    """Feeds the format as docs/duet_format.md defines it."""

    system_prompt: str

    def __post_init__(self) -> None:
        self._renderer = self._before = Renderer()

    def begin(self, *, query_first: bool) -> list[Piece]:
        """Return the system turn in any case."""
        return self._renderer.text_turn(Role.SYSTEM, self.system_prompt)

    def text(self, role: Role, text: str) -> list[Piece]:
        """Close an open stream turn, and return the turn."""
        return self._renderer.text_turn(role, text)

    def frame(self) -> list[Piece]:
        """Open a stream turn if none is open, and return the frame."""
        return self._renderer.frame()

    def begin_reply(self) -> list[Piece]:
        """Close an open stream turn and open the assistant turn."""
        self._before = replace(self._renderer)
        return self._renderer.begin_reply()

    def end_reply(self, *, removed: bool, cut: bool) -> list[Piece]:
        """Close the turn, cut or not. A removed reply leaves no trace."""
        if removed:
            self._renderer = self._before
            return []
        return self._renderer.end_reply()

    def clean_reply(self, text: str) -> str:
        """Return the text unchanged."""
        return text


@dataclass
class PaperFeed:
    """Feeds what the reference implementation feeds, with its deviations from the format."""

    system_prompt: str

    def __post_init__(self) -> None:
        self._open = False  # whether a stream turn is open
        self._header_due = False  # whether the next frame needs a stream header
        self._after_reply = False  # whether nothing was fed since the last reply
        self._cut = False  # whether that reply was cut at its limit
        self._before = (False, False)  # (_open, _header_due) before the reply

    def begin(self, *, query_first: bool) -> list[Piece]:
        """Q1: with a query before the first frame there is no system turn. Q2: otherwise frames follow it without a header."""
        return [] if query_first else [Piece(f"{START}{Role.SYSTEM}\n{self.system_prompt}{END}", Role.SYSTEM)]

    def text(self, role: Role, text: str) -> list[Piece]:
        """Q3: directly after a reply, neither the reply nor (if it was removed) the stream turn is closed."""
        close = [Piece(END, Role.STREAM)] if self._open and not self._after_reply else []
        self._open, self._after_reply, self._header_due = False, False, True
        return [*close, Piece(f"\n{START}{role}\n{text}{END}", role)]

    def frame(self) -> list[Piece]:
        """Return a frame, with a stream header only after a text turn or a kept reply."""
        header = [*self._close_reply(), Piece(f"\n{START}{Role.STREAM}\n", Role.STREAM)] if self._header_due else []
        self._open, self._header_due, self._after_reply = True, False, False
        return [*header, Piece("", Role.STREAM, frame=True)]

    def begin_reply(self) -> list[Piece]:
        """Close an open stream turn or a kept reply, and open the assistant turn, as in the format."""
        self._before = self._open, self._header_due
        close = [Piece(END, Role.STREAM)] if self._open else self._close_reply()
        return [*close, Piece(f"\n{START}{Role.ASSISTANT}\n", Role.ASSISTANT)]

    def end_reply(self, *, removed: bool, cut: bool) -> list[Piece]:
        """Q13: a cut reply is not closed. Nothing is fed here, because it depends on what follows (Q3)."""
        self._open, self._header_due = self._before if removed else (False, True)
        self._after_reply, self._cut = self._open or not removed, cut
        return []

    def _close_reply(self) -> list[Piece]:
        """Return the end of a kept reply that was the last to be fed, unless it was cut (Q13)."""
        kept = self._after_reply and not self._open
        return [Piece(END, Role.ASSISTANT)] if kept and not self._cut else []

    def clean_reply(self, text: str) -> str:
        """Q14: remove tokenization spaces."""
        for ending in TOKENIZATION_SPACES:
            text = text.replace(ending, ending.replace(" ", ""))
        return text


def make_feed(profile: str, system_prompt: str) -> Feed:
    """Return the feed of a profile."""
    return PaperFeed(system_prompt) if profile == "paper" else FixedFeed(system_prompt)
