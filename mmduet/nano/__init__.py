"""The bundled checkpoint: where it lies. It is made from nothing by ``scripts/train_nano.sh``."""

from pathlib import Path

#: Models that come with the package, by name.
BUNDLED: dict[str, Path] = {"nano": Path(__file__).parent / "checkpoint"}
