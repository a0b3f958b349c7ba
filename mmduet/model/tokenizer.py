"""Convert text to token ids and back, also incrementally; wraps the ``tokenizers`` library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as Backend

from mmduet.duet import END, START, Piece
from mmduet.errors import CheckpointError

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Tokenizer:
    """A byte-level BPE tokenizer with the duet format's special tokens. ``source`` names its file in errors."""

    def __init__(self, backend: Backend, source: str = "tokenizer") -> None:
        self.backend = backend
        end = backend.token_to_id(END)
        if end is None or backend.token_to_id(START) is None:
            raise CheckpointError(f"{source} has no {START} or no {END} token; a duet model needs both")
        self.end_id: int = end

    @classmethod
    def from_file(cls, path: str | Path) -> Tokenizer:
        """Read ``tokenizer.json``. Raises ``CheckpointError`` if it is missing or unreadable."""
        try:
            return cls(Backend.from_str(Path(path).read_text(encoding="utf-8-sig")), str(path))
        except CheckpointError:
            raise
        except Exception as error:  # the backend raises bare Exception
            raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}; download it again") from error

    def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``; special tokens in the text are recognised."""
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def encode_piece(self, piece: Piece) -> list[int]:
        """Return the token ids of a text piece."""
        return self.encode(piece.text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids`` without special tokens."""
        return str(self.backend.decode(list(ids), skip_special_tokens=True))

    @property
    def size(self) -> int:
        """The number of token ids."""
        return int(self.backend.get_vocab_size(with_added_tokens=True))


class TextStream:
    """Decodes token ids to text deltas. An incomplete UTF-8 character is held back."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._text = ""

    def push(self, token: int) -> str:
        """Add a token and return the text that is complete with it; may be empty."""
        self._ids.append(token)
        text = self._tokenizer.decode(self._ids)
        return "" if text.endswith(REPLACEMENT) else self._advance_to(text)

    def flush(self) -> str:
        """Return the text that was held back, at the end of the reply."""
        return self._advance_to(self._tokenizer.decode(self._ids))

    @property
    def text(self) -> str:
        """All text returned so far."""
        return self._text

    def _advance_to(self, text: str) -> str:
        delta = text[len(self._text) :]
        self._text = text
        return delta
