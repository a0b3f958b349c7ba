"""Write adapters in PEFT's layout, with a manifest beside them, and read and change what the manifest recommends.

An adapter is a directory of ``adapter_config.json``, ``adapter_model.safetensors`` and ``mmduet.json`` (manifest). The manifest
names the base with a digest of its weights, and holds the settings that the adapter was trained for.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from mmduet.errors import CheckpointError, OptionError
from mmduet.files import visible_files, write_json
from mmduet.model.adapter import CONFIG, PREFIX, WEIGHTS
from mmduet.model.checkpoint import FORMAT, MANIFEST, atomic_directory, describe_checkpoint
from mmduet.model.config import Recommended
from mmduet.model.config_files import read_json_object
from mmduet.model.source import ModelSource
from mmduet.model.tensor_files import StoredTensor, model_weights
from mmduet.text import did_you_mean

logger = logging.getLogger(__name__)
DIGEST_BYTES = 4096  # read from each tensor of a base
NO_TARGETS = "dummy-target-modules"  # PEFT's name for an adapter that has no LoRA layers


@dataclass(frozen=True)
class Base:
    """The model that an adapter belongs to.

    ``revision`` is its commit on the hub, and ``digest`` that of its weights. Either may be unknown (None).
    """

    name: str
    revision: str | None = None
    digest: str | None = None

    @classmethod
    def of(cls, name: str, source: ModelSource | None) -> Base:
        """Describe the model that was loaded as ``name``. A directory is named by its whole path."""
        if source is None or source.base is None:
            return cls(name)
        name = name if source.base.revision or not Path(name).is_dir() else Path(name).resolve().as_posix()
        revision = source.base.revision and source.base.revision.rpartition("@")[2]
        return cls(name, revision, weights_digest(source.base.path))

    def to_dict(self) -> dict[str, Any]:
        """Return the base as JSON values under the names of the manifest."""
        return {"name": self.name, "revision": self.revision, "digest": self.digest}


@dataclass(frozen=True)
class LoraSettings:
    """Rank and scale of an adapter's LoRA layers, and a pattern of their paths in a ``DuetModel``."""

    rank: int
    alpha: float
    dropout: float
    targets: str


def save_adapter(
    directory: str | Path,
    tensors: Mapping[str, Tensor],
    base: Base,
    recommended: Recommended,
    *,
    lora: LoraSettings | None = None,
    saved_modules: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write an adapter to ``directory``, which is replaced if it exists.

    ``tensors`` are named by module path (``lm.layers.0.self_attn.q_proj.lora_A.weight``, ``heads.informative.weight``),
    ``saved_modules`` are the paths of modules that are stored whole, ``extra`` is added to the manifest. Raises
    ``OptionError`` if it cannot be written.
    """
    target = Path(directory)
    manifest = {"format": FORMAT, "base": base.to_dict(), "recommended": recommended.to_dict(), **(extra or {})}
    with atomic_directory(target) as temporary:
        stored = {f"{PREFIX}{name}": tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(stored, temporary / WEIGHTS, metadata={"format": "pt"})
        (temporary / CONFIG).write_text(json.dumps(_peft_config(base, lora, saved_modules), indent=2) + "\n")
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return target


def _peft_config(base: Base, lora: LoraSettings | None, saved_modules: Sequence[str]) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base.name,
        "revision": base.revision,
        "inference_mode": True,
        "bias": "none",
        "r": lora.rank if lora else 1,
        "lora_alpha": lora.alpha if lora else 1,
        "lora_dropout": lora.dropout if lora else 0.0,
        "target_modules": lora.targets if lora else NO_TARGETS,
        "modules_to_save": list(saved_modules) or None,
    }


def weights_digest(root: Path) -> str | None:
    """Return a digest of a checkpoint's weights, None for pickles.

    It covers names, data types and shapes of all tensors and up to 4 KiB from the middle of each, so it is found in seconds for
    a model of any size. It does not depend on names or order in the files.
    """
    if not model_weights([file.name for file in visible_files(root)]):
        return None
    digest, tensors = sha256(), describe_checkpoint(root)[2]
    offsets: dict[Path, tuple[int, dict[str, Any]]] = {}
    for key, entry in sorted(tensors.items()):
        if entry.file not in offsets:
            offsets[entry.file] = _safetensors_header(entry.file)
        digest.update(f"{key} {entry.dtype} {entry.shape}".encode())
        digest.update(_middle_bytes(entry, *offsets[entry.file]))
    return f"sampled-sha256:{digest.hexdigest()}"


def _safetensors_header(file: Path) -> tuple[int, dict[str, Any]]:
    """Return where the data of a safetensors file begin, and its header."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        return 8 + length, json.loads(opened.read(length))


def _middle_bytes(entry: StoredTensor, data_start: int, header: Mapping[str, Any]) -> bytes:
    begin, end = header[entry.name]["data_offsets"]
    skipped = max(0, end - begin - DIGEST_BYTES) // 2
    with entry.file.open("rb") as opened:
        opened.seek(data_start + begin + skipped)
        return opened.read(min(DIGEST_BYTES, end - begin))


def read_adapter_manifest(directory: Path) -> dict[str, Any] | None:
    """Return the manifest of an adapter, or None without one. Raises ``CheckpointError`` for one of another format."""
    path = directory / MANIFEST
    if not path.exists():
        return None
    manifest = read_json_object(path)
    if (found := manifest.get("format")) != FORMAT:
        raise CheckpointError(f"{path} has format {found!r}; this version reads format {FORMAT}")
    return manifest


def check_base(directory: Path, source: ModelSource) -> None:
    """Log a warning if an adapter's manifest names a base with other weights than those of ``source``."""
    manifest = read_adapter_manifest(directory)
    described = manifest.get("base") if manifest else None
    base: dict[str, Any] = described if isinstance(described, dict) else {}
    expected = base.get("digest")
    if expected is None or source.base is None or expected == weights_digest(source.base.path):
        return
    logger.warning(
        "%s was trained on %s, whose weights are not those of %s; its replies and scores may be wrong",
        directory, base.get("name"), source.base.path,
    )  # fmt: skip


def read_recommended(directory: Path) -> Recommended | None:
    """Return the settings that a checkpoint's or an adapter's manifest recommends, None if it has none.

    Raises ``CheckpointError`` for a manifest that cannot be read.
    """
    manifest = read_adapter_manifest(directory)
    section = None if manifest is None else _recommended_section(manifest)
    return None if section is None else _parse_recommended(directory / MANIFEST, section)


def update_recommended(directory: str | Path, **changes: Any) -> Recommended:
    """Change settings, by their names in ``Recommended``, in the manifest of a checkpoint or an adapter.

    Raises ``CheckpointError`` if the directory has no manifest or a value is not valid, ``OptionError`` for an unknown name.
    """
    path = Path(directory) / MANIFEST
    for name in changes:
        if name not in (known := Recommended().to_dict()):
            suggestion = did_you_mean(name, known)
            raise OptionError(f"{name!r} is not a recommended setting{suggestion}")
    manifest = read_adapter_manifest(path.parent)
    section = None if manifest is None else _recommended_section(manifest)
    if manifest is None or section is None:
        raise CheckpointError(f"{path} has no recommended settings; use a checkpoint or an adapter that mmduet wrote")
    recommended = _parse_recommended(path, {**section, **changes})
    section.update(recommended.to_dict())
    write_json(path, manifest, indent=2)
    return recommended


def _recommended_section(manifest: dict[str, Any]) -> dict[str, Any] | None:
    """Return the settings of a checkpoint's manifest, which are part of the model's description, or of an adapter's."""
    holder = manifest.get("model", manifest)
    section = holder.get("recommended") if isinstance(holder, dict) else None
    return section if isinstance(section, dict) else None


def _parse_recommended(path: Path, values: Mapping[str, Any]) -> Recommended:
    try:
        recommended = Recommended(**values)
        return replace(recommended, score_heads=tuple(recommended.score_heads))
    except TypeError as error:
        raise CheckpointError(f"{path}: the recommended settings cannot be read: {error}; write it again") from error
