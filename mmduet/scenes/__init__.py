"""Procedural videos with exact ground truth: H.264 clips and annotations in the benchmarks' formats."""

from mmduet.scenes.dataset import SPLITS, SplitSpec, make_clip, make_split

__all__ = ["SPLITS", "SplitSpec", "make_clip", "make_split"]
