"""Render turns to pieces of text, all at once or incrementally, with the same result. No token ids.

A ``Piece`` is literal text or a frame, which the model replaces by its K visual tokens. Rendering all at once runs the
incremental renderer over a list of turns, so the two cannot differ. See ``Renderer`` for tokenization at the borders of pieces.
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
    """Renders a conversation incrementally: each method returns the pieces that an event adds.

    Every border between pieces is at a special token (``<|im_start|>``, ``<|im_end|>``) or a frame, across which no tokenizer
    merges; ``role\\n`` and its text are one piece. The token ids of the pieces, concatenated, are those of the whole text.
    """

    started: bool = False
    streaming: bool = False  # whether a stream turn is open
    replying: bool = False  # whether an assistant turn is open

    def text_turn(self, role: Role, text: str) -> list[Piece]:
        """Return a complete system or user turn."""
        if role not in (Role.SYSTEM, Role.USER):
            raise FormatError(
                f"text_turn() got role {role}, expected system or user; use frame() for stream and begin_reply() for assistant"
            )
        check_no_markers(text, role)
        return [*self._close(), self._open(role, text + END)]

    def frame(self) -> list[Piece]:
        """Return one frame, after a stream header if no stream turn is open."""
        header = [] if self.streaming else [*self._close(), self._open(Role.STREAM, "")]
        self.streaming = True
        return [*header, Piece("", Role.STREAM, frame=True)]

    def begin_reply(self) -> list[Piece]:
        """Close an open stream turn and open an assistant turn. Decoding follows."""
        pieces = [*self._close(), self._open(Role.ASSISTANT, "")]
        self.replying = True
        return pieces

    def end_reply(self) -> list[Piece]:
        """Return the closing token of the assistant turn. A decoder has usually produced it already."""
        if not self.replying:
            raise FormatError("end_reply() without an open assistant turn; call begin_reply() first")
        self.replying = False
        return [Piece(END, Role.ASSISTANT)]

    def finish(self) -> list[Piece]:
        """Close an open stream turn at the end of the conversation."""
        return self._close()

    def _close(self) -> list[Piece]:
        if self.replying:
            raise FormatError("a reply is still open; call end_reply() before the next turn")
        pieces = [Piece(END, Role.STREAM)] if self.streaming else []
        self.streaming = False
        return pieces

    def _open(self, role: Role, rest: str) -> Piece:
        newline = "\n" if self.started else ""
        self.started = True
        return Piece(f"{newline}{START}{role}\n{rest}", role)


def render(turns: Iterable[Turn], *, close: bool = True) -> list[Piece]:
    """Return the pieces of a whole conversation. ``close``: end an open stream turn. Raise ``FormatError`` if invalid."""
    renderer = Renderer()
    pieces = [piece for turn in turns for piece in _render_turn(renderer, turn)]
    return [*pieces, *renderer.finish()] if close else pieces


def _render_turn(renderer: Renderer, turn: Turn) -> Iterator[Piece]:
    if turn.role is Role.STREAM:
        if turn.frames < 1:
            raise FormatError(f"a stream turn must have at least one frame, got {turn.frames}")
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
    """Raise ``FormatError`` if the text of a turn contains a marker that opens or closes turns."""
    for marker in (START, END):
        if marker in text:
            raise FormatError(f"the {role} turn {text[:40]!r} contains the marker {marker}; remove it from the text")
