"""Read what is needed to build a model's inputs, its description and its tokenizer, without its weights."""

from __future__ import annotations

from pathlib import Path

from mmduet.model.checkpoint import describe_checkpoint, read_tokenizer
from mmduet.model.config import DuetConfig
from mmduet.model.presets import byte_tokenizer, random_config
from mmduet.model.source import find_model
from mmduet.model.tokenizer import Tokenizer


def read_description(name: str | Path) -> tuple[DuetConfig, Tokenizer]:
    """Return the description and the tokenizer of a model that ``load_model`` would load; it is downloaded if necessary.

    Raises as ``load_model`` does for models that do not exist or cannot be read.
    """
    source = find_model(name)
    if source.base is None:
        return random_config(source.random_size or ""), byte_tokenizer()
    config, _, _ = describe_checkpoint(source.base.path)
    return config, read_tokenizer(source.base.path, config.text.vocab_size)
