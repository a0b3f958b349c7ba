"""Edit one line of text from the bytes that a terminal sends."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

MAX_LENGTH = 4000  # characters
ERASE, CLEAR, ERASE_WORD, ESCAPE = "\x7f\b", "\x15", "\x17", "\x1b"


class LineEditor:
    """The line that is being typed. Backspace, Ctrl-U (clear) and Ctrl-W (erase a word) edit it; other keys do nothing."""

    def __init__(self) -> None:
        self.text = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._sequence = ""  # an escape sequence that is not complete, such as that of an arrow key

    def feed(self, data: bytes) -> Iterator[str]:
        """Process what was typed and yield the lines that it completes."""
        for char in self._decoder.decode(data):
            if self._is_in_sequence(char):
                continue
            if char in "\r\n":
                line, self.text = self.text, ""
                yield line
            else:
                self.text = self._edit(char)[:MAX_LENGTH]

    def _edit(self, char: str) -> str:
        """Return the text after a key."""
        if char in ERASE:
            return self.text[:-1]
        if char == CLEAR:
            return ""
        if char == ERASE_WORD:
            kept = self.text.rstrip().rpartition(" ")
            return kept[0] + kept[1]
        return self.text + (" " if char == "\t" else char if char.isprintable() else "")

    def _is_in_sequence(self, char: str) -> bool:
        """Return whether ``char`` belongs to an escape sequence: ESC, then [ or O, up to a letter or ~."""
        before, self._sequence = self._sequence, ""
        if char == ESCAPE:
            self._sequence = char
        elif before == ESCAPE and char in "[O":
            self._sequence = before + char
        elif len(before) > 1:
            self._sequence = "" if "@" <= char <= "~" else before + char
        else:
            return False
        return True
