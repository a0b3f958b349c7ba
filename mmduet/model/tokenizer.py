"""Text to token ids and back, piece by piece; wraps one ``tokenizers`` file, knows nothing of turns or of models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as Backend

from mmduet.duet import END, START, Piece
from mmduet.errors import CheckpointError

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Tokenizer:
    """A byte-level BPE with the duet format's special tokens."""

    def __init__(self, backend: Backend, source: str = "tokenizer") -> None:
        self.backend = backend
        end, start = backend.token_to_id(END), backend.token_to_id(START)
        if end is None or start is None:
            raise CheckpointError(f"{source} has no {START} or {END} token; a duet model needs both")
        self.end_id: int = end
        self.start_id: int = start

    @classmethod
    def from_file(cls, path: str | Path) -> Tokenizer:
        """Read ``tokenizer.json``; raises ``CheckpointError`` where it is missing or unreadable."""
        try:
            return cls(Backend.from_file(str(path)), str(path))
        except CheckpointError:
            raise
        except Exception as error:  # the backend raises bare Exception
            raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}") from error

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``; special tokens written in it become themselves."""
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def encode_piece(self, piece: Piece) -> list[int]:
        """Token ids of a text piece."""
        return self.encode(piece.text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids`` without special tokens."""
        return str(self.backend.decode(list(ids), skip_special_tokens=True))

    @property
    def size(self) -> int:
        """Number of token ids."""
        return int(self.backend.get_vocab_size(with_added_tokens=True))


class TextStream:
    """Token ids in, text deltas out; a character whose bytes are not all there yet is held back."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._sent = ""

    def push(self, token: int) -> str:
        """The text that ``token`` makes certain; may be empty."""
        self._ids.append(token)
        text = self._tokenizer.decode(self._ids)
        return "" if text.endswith(REPLACEMENT) else self._advance(text)

    def flush(self) -> str:
        """What was held back, at the end of the reply."""
        return self._advance(self._tokenizer.decode(self._ids))

    @property
    def text(self) -> str:
        """Everything handed out so far."""
        return self._sent

    def _advance(self, text: str) -> str:
        delta = text[len(self._sent) :]
        self._sent = text
        return delta
