"""Locate the bundled checkpoint, which ``scripts/train_nano.sh`` trains from scratch."""

from pathlib import Path

#: Directories of the checkpoints that come with the package, by name.
BUNDLED: dict[str, Path] = {"nano": Path(__file__).parent / "checkpoint"}
