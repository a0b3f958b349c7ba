"""Procedural videos with exact ground truth: H.264 clips and annotations in the benchmarks' formats.

Names are imported when they are first used, so that the colours of the scenes can be read without PyAV and Pillow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmduet.scenes.dataset import SPLITS, SplitSpec, make_clip, make_split

__all__ = ["SPLITS", "SplitSpec", "make_clip", "make_split"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module("mmduet.scenes.dataset"), name)
    globals()[name] = value
    return value
