"""Keeps account of the tokens of text that a windowed session holds or has waiting, so that it can never run out of room."""

from __future__ import annotations

from mmduet.duet import END, START, Role
from mmduet.errors import CapacityError
from mmduet.model.tokenizer import Tokenizer
from mmduet.options import SessionOptions


class TextBudget:
    """Room for ``options.text_tokens``; without a window there is no such bound."""

    def __init__(self, tokenizer: Tokenizer, options: SessionOptions) -> None:
        self._tokenizer = tokenizer
        self._bound = None if options.window is None else options.text_tokens
        self._taken = 0

    def reserve(self, role: Role, text: str) -> None:
        """Set room aside for a turn. Raises ``CapacityError`` where there is none."""
        if self._bound is None:
            return
        need = self._need(role, text)
        if self._taken + need > self._bound:
            raise CapacityError(
                f"the turn {text[:40]!r} takes {need} tokens, and {self._taken} of the {self._bound} for text are taken; "
                "shorten it, or open a session with more text_tokens"
            )
        self._taken += need

    def release(self, role: Role, text: str) -> None:
        """A turn has been read that passes with the frames."""
        if self._bound is not None:
            self._taken -= self._need(role, text)

    def _need(self, role: Role, text: str) -> int:
        """An upper bound of the tokens: the turn, the end of the stream turn before it and the header of the one after."""
        around = f"{END}\n{START}{role}\n{END}\n{START}{Role.STREAM}\n"
        return len(self._tokenizer.encode(around)) + len(self._tokenizer.encode(text))
