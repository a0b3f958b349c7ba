"""Train a small byte-level BPE tokenizer; text outside its vocabulary is encoded as bytes."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from mmduet.duet import END, IMAGE, START
from mmduet.model.tokenizer import Tokenizer

#: Words with their preceding space, single digits, punctuation, single newlines.
WORDS = Regex(r"[^\S\r\n]?\p{L}+|\p{N}|[^\S\r\n]?[^\s\p{L}\p{N}]+|[\r\n]|\s")


def train_tokenizer(sentences: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a tokenizer with at most ``vocab_size`` ids, including special tokens. Newlines never merge with text."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(WORDS, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[START, END, IMAGE],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(sorted(sentences), trainer)
    return Tokenizer(backend)
