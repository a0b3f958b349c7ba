"""Bounds the text of a session with a window, in its context and queued, so that its slot cannot overflow."""

from __future__ import annotations

from mmduet.duet import END, START, Role
from mmduet.errors import CapacityError
from mmduet.model.tokenizer import Tokenizer
from mmduet.options import SessionOptions


class TextBudget:
    """A budget of ``options.text_tokens`` tokens. Sessions without a window have no bound."""

    def __init__(self, tokenizer: Tokenizer, options: SessionOptions) -> None:
        self._tokenizer = tokenizer
        self._bound = None if options.window is None else options.text_tokens
        self._reserved = 0

    def reserve(self, role: Role, text: str) -> None:
        """Reserve the tokens of a turn. Raise ``CapacityError`` if the budget is exceeded."""
        if self._bound is None:
            return
        need = self._token_bound(role, text)
        if self._reserved + need > self._bound:
            raise CapacityError(
                f"the turn {text[:40]!r} needs {need} tokens, and {self._reserved} of the {self._bound} for texts beside a "
                "window are used; shorten it, or use no window"
            )
        self._reserved += need

    def release(self, role: Role, text: str) -> None:
        """Release the tokens of an unpinned turn that has been read: it leaves the context together with the frames."""
        if self._bound is not None:
            self._reserved -= self._token_bound(role, text)

    def _token_bound(self, role: Role, text: str) -> int:
        """Return an upper bound of its tokens: the turn, the end of the stream turn before it, the header of the next one."""
        around = f"{END}\n{START}{role}\n{END}\n{START}{Role.STREAM}\n"
        return len(self._tokenizer.encode(around)) + len(self._tokenizer.encode(text))
