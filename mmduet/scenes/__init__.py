"""A procedural video world with exact ground truth: real H.264 clips and annotations in every benchmark's format."""

from mmduet.scenes.dataset import SPLITS, SplitSpec, make_clip, make_split

__all__ = ["SPLITS", "SplitSpec", "make_clip", "make_split"]
