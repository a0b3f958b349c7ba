"""Renders turns to text pieces, whole or as they happen; both ways give the same pieces. Knows no token ids.

A rendering is a sequence of ``Piece``: literal text, or a frame (which the model replaces by its K visual tokens). The
incremental form is the definition; the whole form is nothing but the incremental form run over a list of turns, so that
they cannot differ. What *can* differ is tokenisation across piece borders: see ``Renderer``'s note.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mmduet.duet.roles import END, START, Role
from mmduet.errors import FormatError


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation. A stream turn has ``frames`` > 0 and no text; the others have text."""

    role: Role
    text: str = ""
    frames: int = 0


@dataclass(frozen=True)
class Piece:
    """Literal ``text``, or one frame where ``frame`` is true. ``role`` is the turn it belongs to."""

    text: str
    role: Role
    frame: bool = False


@dataclass
class Renderer:
    """Follows a conversation and says which pieces each new thing adds.

    Every border between pieces lies at a special token (``<|im_start|>``, ``<|im_end|>``, a frame), where no tokenizer
    merges across, or between ``role\\n`` and its text, where pieces are kept together. So token ids of the pieces,
    concatenated, are the token ids of the whole text.
    """

    started: bool = False
    streaming: bool = False  # a stream turn is open
    speaking: bool = False  # an assistant turn is open

    def text_turn(self, role: Role, text: str) -> list[Piece]:
        """A system or user turn, complete."""
        if role not in (Role.SYSTEM, Role.USER):
            raise FormatError(
                f"a {role} turn is not a text turn; use frame() for stream and begin_reply() for assistant"
            )
        check_no_markers(text, role)
        return [*self._close(), self._open(role, text + END)]

    def frame(self) -> list[Piece]:
        """One frame, with the stream header before it where a stream turn must be opened."""
        header = [] if self.streaming else [*self._close(), self._open(Role.STREAM, "")]
        self.streaming = True
        return [*header, Piece("", Role.STREAM, frame=True)]

    def begin_reply(self) -> list[Piece]:
        """Close what is open and open an assistant turn; decoding comes next."""
        pieces = [*self._close(), self._open(Role.ASSISTANT, "")]
        self.speaking = True
        return pieces

    def end_reply(self) -> list[Piece]:
        """The closing token of an assistant turn, which a decoder has usually produced by itself."""
        if not self.speaking:
            raise FormatError("end_reply() without an open assistant turn; call begin_reply() first")
        self.speaking = False
        return [Piece(END, Role.ASSISTANT)]

    def finish(self) -> list[Piece]:
        """Close an open stream turn at the end of the conversation."""
        return self._close()

    def _close(self) -> list[Piece]:
        if self.speaking:
            raise FormatError("a reply is still open; call end_reply() before the next turn")
        pieces = [Piece(END, Role.STREAM)] if self.streaming else []
        self.streaming = False
        return pieces

    def _open(self, role: Role, rest: str) -> Piece:
        newline = "\n" if self.started else ""
        self.started = True
        return Piece(f"{newline}{START}{role}\n{rest}", role)


def render(turns: Iterable[Turn], *, close: bool = True) -> list[Piece]:
    """The pieces of a whole conversation; ``close`` ends an open stream turn. Raises ``FormatError`` on impossible turns."""
    renderer = Renderer()
    pieces = [piece for turn in turns for piece in _turn(renderer, turn)]
    return [*pieces, *renderer.finish()] if close else pieces


def _turn(renderer: Renderer, turn: Turn) -> Iterator[Piece]:
    if turn.role is Role.STREAM:
        if turn.frames < 1:
            raise FormatError(f"a stream turn with {turn.frames} frames; it needs at least one")
        for _ in range(turn.frames):
            yield from renderer.frame()
    elif turn.role is Role.ASSISTANT:
        check_no_markers(turn.text, turn.role)
        yield from renderer.begin_reply()
        yield Piece(turn.text, Role.ASSISTANT)
        yield from renderer.end_reply()
    else:
        yield from renderer.text_turn(turn.role, turn.text)


def check_no_markers(text: str, role: Role) -> None:
    """Raise ``FormatError`` where a turn's text would open or close turns of its own."""
    for marker in (START, END):
        if marker in text:
            raise FormatError(f"the {role} turn {text[:40]!r} contains the marker {marker}; remove it from the text")
