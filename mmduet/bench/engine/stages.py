"""Which stage of a step a dispatched operation belongs to, found from the functions that are being executed.

The innermost function that a rule names decides. Rules name files and functions of ``mmduet`` and of Transformers, so the
engine needs no marks for measurements. Functions without a rule belong to the stage of their callers.
"""

from __future__ import annotations

import re
import sys
from types import CodeType, FrameType
from typing import NamedTuple

STAGES = (
    "tower", "projector", "embedding", "planning", "lm_linear", "lm_other", "attention", "cache_writes", "evictions", "heads",
    "sampling", "other",
)  # fmt: skip
LANGUAGE_MODEL = "lm"  # becomes lm_linear or lm_other, by the operation
LINEAR_OPERATIONS = frozenset(
    {"linear", "mm", "addmm", "bmm", "matmul", "_linear_pointwise", "_mkl_linear", "_scaled_mm"}
)


class Rule(NamedTuple):
    """Functions of files whose path matches ``file`` and whose qualified name matches ``function`` belong to ``stage``."""

    file: re.Pattern[str]
    function: re.Pattern[str]
    stage: str


def _rule(file: str, function: str, stage: str) -> Rule:
    return Rule(re.compile(file), re.compile(function), stage)


#: The first rule that matches a function counts.
RULES = (
    _rule(r"mmduet/engine/kv_pool", r"\.write\b", "cache_writes"),
    _rule(r"mmduet/engine/kv_pool", r"\.(view|gather)\b", "attention"),
    _rule(r"mmduet/engine/(kv_pool|relocation|window)", "", "evictions"),
    _rule(r"mmduet/engine/attention/", r"\.(plan|__init__)\b|mask", "planning"),
    _rule(r"mmduet/engine/attention/", "", "attention"),
    _rule(r"mmduet/engine/forward", r"LayerAttention", "attention"),
    _rule(r"mmduet/engine/(step_batch|forward|graphs|static_step)", "", "planning"),
    _rule(r"mmduet/engine/sampling", "", "sampling"),
    _rule(r"mmduet/engine/runner", r"_read|_rows", "heads"),
    _rule(r"mmduet/engine/runner", r"embed|encode", "embedding"),
    _rule(r"mmduet/model/adapter_bank", r"route_rows", "planning"),
    _rule(r"mmduet/model/network", r"Projector", "projector"),
    _rule(r"mmduet/model/network", r"Heads", "heads"),
    _rule(r"mmduet/engine/frame_encoder", "", "tower"),
    _rule(r"mmduet/model/network", r"embed_tokens", "embedding"),
    _rule(r"mmduet/model/(tower|preprocess|inference/vision)|transformers/models/siglip", "", "tower"),
    _rule(r"mmduet/model/inference/decoder|transformers/models/qwen", "", LANGUAGE_MODEL),
)
_NO_RULE = ""
_stage_of_code: dict[CodeType, str] = {}


def current_stage(operation: str, depth: int = 1) -> str:
    """Return the stage of ``operation`` (its name without namespace), called by the function ``depth`` levels above."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        stage = _stage_of_code.get(frame.f_code)
        if stage is None:
            stage = _stage_of_code[frame.f_code] = find_stage(frame.f_code.co_filename, frame.f_code.co_qualname)
        if stage == LANGUAGE_MODEL:
            return "lm_linear" if operation in LINEAR_OPERATIONS else "lm_other"
        if stage != _NO_RULE:
            return stage
        frame = frame.f_back
    return "other"


def find_stage(file: str, function: str) -> str:
    """Return the stage of a function by the rules, or an empty string if it belongs to the stage of its caller."""
    path = file.replace("\\", "/")
    return next((rule.stage for rule in RULES if rule.file.search(path) and rule.function.search(function)), _NO_RULE)
