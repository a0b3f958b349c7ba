"""What to feed for each thing that happens on a timeline, under either profile; text pieces only, no token ids.

``fixed`` is the template as it is. ``paper`` reproduces what the reference feeds (Q1, Q2, Q3, Q13, Q14 of
docs/duet_format.md), so that published numbers can be matched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from mmduet.duet.roles import END, START, Role
from mmduet.duet.template import Piece, Renderer

#: What the reference's tokenizer closes up when it cleans a text.
SPACED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


class Feed(Protocol):
    """The order of calls is the order of the timeline; each returns the pieces to feed before going on."""

    def begin(self, *, query_first: bool) -> list[Piece]:
        """Before anything else: the system turn. ``query_first``: a query stands before the first frame."""

    def text(self, role: Role, text: str) -> list[Piece]:
        """A user or context turn."""

    def frame(self) -> list[Piece]:
        """One frame; the last piece is the frame itself."""

    def begin_reply(self) -> list[Piece]:
        """The header of a reply; decoding follows."""

    def end_reply(self, *, removed: bool, cut: bool) -> list[Piece]:
        """After a reply; ``removed``: it has been rolled back; ``cut``: it reached its token limit."""

    def clean_reply(self, text: str) -> str:
        """Return the text of a finished reply as it is emitted."""


@dataclass
class FixedFeed:
    """The format as a careful engineer would feed it."""

    system_prompt: str

    def __post_init__(self) -> None:
        self._renderer = self._before = Renderer()

    def begin(self, *, query_first: bool) -> list[Piece]:
        """The system turn, always."""
        return self._renderer.text_turn(Role.SYSTEM, self.system_prompt)

    def text(self, role: Role, text: str) -> list[Piece]:
        """Closes the stream turn, then the turn."""
        return self._renderer.text_turn(role, text)

    def frame(self) -> list[Piece]:
        """Opens a stream turn where none is open."""
        return self._renderer.frame()

    def begin_reply(self) -> list[Piece]:
        """Closes the stream turn and opens the assistant's."""
        self._before = replace(self._renderer)
        return self._renderer.begin_reply()

    def end_reply(self, *, removed: bool, cut: bool) -> list[Piece]:
        """Closes the turn, cut or not; a removed reply was never begun."""
        if removed:
            self._renderer = self._before
            return []
        return self._renderer.end_reply()

    def clean_reply(self, text: str) -> str:
        """As it was decoded."""
        return text


@dataclass
class PaperFeed:
    """What the reference feeds, quirk by quirk."""

    system_prompt: str

    def __post_init__(self) -> None:
        self._open = False  # a stream turn is open
        self._header_due = False  # the next frame needs a stream header
        self._after_reply = False  # nothing was fed since a reply ended
        self._cut = False  # that reply was cut at its limit
        self._before = (False, False)  # open and header due, before the reply

    def begin(self, *, query_first: bool) -> list[Piece]:
        """Q1: a query before the first frame displaces the system turn. Q2: else frames follow it without a header."""
        return [] if query_first else [Piece(f"{START}{Role.SYSTEM}\n{self.system_prompt}{END}", Role.SYSTEM)]

    def text(self, role: Role, text: str) -> list[Piece]:
        """Q3: right after a reply neither the reply nor, where it was removed, the stream turn is closed."""
        close = [Piece(END, Role.STREAM)] if self._open and not self._after_reply else []
        self._open, self._after_reply, self._header_due = False, False, True
        return [*close, Piece(f"\n{START}{role}\n{text}{END}", role)]

    def frame(self) -> list[Piece]:
        """A header only after a text turn or a kept reply."""
        closing = [Piece(END, Role.ASSISTANT)] if self._header_due and self._after_reply and not self._cut else []
        header = [*closing, Piece(f"\n{START}{Role.STREAM}\n", Role.STREAM)] if self._header_due else []
        self._open, self._header_due, self._after_reply = True, False, False
        return [*header, Piece("", Role.STREAM, frame=True)]

    def begin_reply(self) -> list[Piece]:
        """As in the format."""
        self._before = self._open, self._header_due
        close = [Piece(END, Role.STREAM)] if self._open else []
        return [*close, Piece(f"\n{START}{Role.ASSISTANT}\n", Role.ASSISTANT)]

    def end_reply(self, *, removed: bool, cut: bool) -> list[Piece]:
        """Q13: a cut reply is not closed. Nothing is fed yet: what follows decides (Q3)."""
        self._open, self._header_due = self._before if removed else (False, True)
        self._after_reply, self._cut = self._open or not removed, cut
        return []

    def clean_reply(self, text: str) -> str:
        """Q14: tokenization spaces are closed up."""
        for spaced in SPACED:
            text = text.replace(spaced, spaced.replace(" ", ""))
        return text


def make_feed(profile: str, system_prompt: str) -> Feed:
    """The feed of a profile."""
    return PaperFeed(system_prompt) if profile == "paper" else FixedFeed(system_prompt)
