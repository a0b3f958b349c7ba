"""Map tensor names of other projects' checkpoints and adapters to internal keys; all foreign names are in this file.

Layouts: the original LLaVA-OneVision layout (``model.mm_projector.0``), Transformers' (``multi_modal_projector.linear_1``,
with the language model's prefix before or after version 5), and the heads' names in published adapters.
"""

from __future__ import annotations

import re

_TOWER = r"(?:model\.)?(?:vision_tower\.){1,2}(?:vision_model\.)?"
RULES: tuple[tuple[str, str], ...] = (
    (rf"{_TOWER}((?:embeddings|encoder)\..+)", r"tower.siglip.\1"),
    (r"(?:model\.)?mm_projector\.0(\..+)?", r"projector.fc1\1"),
    (r"(?:model\.)?mm_projector\.2(\..+)?", r"projector.fc2\1"),
    (r"(?:model\.)?multi_modal_projector\.linear_([12])(\..+)?", r"projector.fc\1\2"),
    (r"(?:model\.)?language_model\.lm_head(\..+)?", r"lm_head\1"),
    (r"(?:model\.)?language_model\.(?:model\.)?((?:layers|embed_tokens|norm)(?:\..+)?)", r"lm.\1"),
    (r"model\.((?:layers|embed_tokens|norm)(?:\..+)?)", r"lm.\1"),
    (r"(?:model\.)?(?:informative_head|response_head)(\..+)?", r"heads.informative\1"),
    (r"(?:model\.)?(?:relevance_head|related_head)(\..+)?", r"heads.relevance\1"),
)
#: Tensors of such checkpoints that a duet model does not use.
UNUSED = re.compile(
    rf"(?:model\.)?image_newline|{_TOWER}(?:post_layernorm|head)\..+|.+\.position_ids|.+\.rotary_emb\.inv_freq"
)
_RULES = tuple((re.compile(pattern), replacement) for pattern, replacement in RULES)


def to_internal_key(name: str) -> str:
    """Return the internal key of a tensor or module; a name that no rule matches is returned unchanged."""
    for pattern, replacement in _RULES:
        if match := pattern.fullmatch(name):
            return match.expand(replacement)
    return name
