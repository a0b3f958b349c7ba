"""Write and compare the settings file beside a prediction file: what the predictions depend on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from mmduet.annotations.json_values import Json
from mmduet.options import SessionOptions


@dataclass(frozen=True)
class PredictionSettings:
    """What predictions depend on. ``model`` and ``adapter`` are fingerprints; ``annotations`` is a digest of the file.

    ``revisions`` are the commits of what comes from the hub, as ``owner/name@commit``.
    """

    annotations: str
    videos: str
    model: str
    adapter: str | None
    quantized: str | None
    dtype: str
    fps: float | None
    max_frames: int | None
    options: SessionOptions
    revisions: Sequence[str] = ()
    quantized_tower: str | None = None
    kv_dtype: str = "auto"

    def to_dict(self) -> Json:
        """Return the content of the settings file."""
        return {
            "annotations": self.annotations,
            "videos": self.videos,
            "model": self.model,
            "adapter": self.adapter,
            **({"revisions": list(self.revisions)} if self.revisions else {}),
            "quantized": self.quantized,
            **({"quantized_tower": self.quantized_tower} if self.quantized_tower else {}),
            **({"kv_dtype": self.kv_dtype} if self.kv_dtype != "auto" else {}),
            "dtype": self.dtype,
            "fps": self.fps,
            "max_frames": self.max_frames,
            "options": self.options.to_dict(),
        }


def file_digest(path: Path) -> str:
    """Return the SHA-256 digest of a file, in hexadecimal."""
    return sha256(path.read_bytes()).hexdigest()


def settings_path(predictions: Path) -> Path:
    """Return the path of the settings file that belongs to a prediction file."""
    return predictions.with_name(f"{predictions.name}.settings.json")


def settings_to_text(settings: Json) -> str:
    """Return the text of a settings file; equal settings give equal texts."""
    return json.dumps(settings, indent=2, sort_keys=True) + "\n"


def differing_settings(text: str, settings: Json) -> list[str]:
    """Return the names of the settings that differ from those in ``text``, the text of a settings file."""
    try:
        written = dict(json.loads(text))
    except (ValueError, TypeError):
        return ["the settings file is damaged"]
    current = json.loads(json.dumps(settings))
    return [name for name in sorted({*written, *current}) if written.get(name) != current.get(name)]


def from_other_test_set(predictions: Path, annotations: Sequence[Path]) -> bool:
    """Return whether ``mmduet predict`` made the predictions for a test set that is none of ``annotations``.

    Ids alone do not show this, because those of different test sets may agree. False where it is not known.
    """
    try:
        digest = json.loads(settings_path(predictions).read_text(encoding="utf-8-sig"))["annotations"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(annotations) and digest not in map(file_digest, annotations)
