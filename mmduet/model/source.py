"""Find the files of a model by its name: a bundled one, ``random:SIZE``, a directory, or ``OWNER/NAME`` on the hub.

Only an operator's option, setting or call names models this way. Clients of a server select among those that are loaded.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mmduet.errors import CheckpointError, ModelNotFoundError, OptionError
from mmduet.files import visible_files
from mmduet.model import adapter as adapter_files
from mmduet.model.architecture import check_architecture
from mmduet.model.checkpoint import MANIFEST, TOKENIZER, TOKENIZER_SOURCES
from mmduet.model.config_files import read_json_object
from mmduet.model.hub import HubId, fetch
from mmduet.model.llava_config import CONFIG
from mmduet.model.presets import RANDOM, RANDOM_MODELS
from mmduet.model.tensor_files import INDEX, choose_weight_files, has_model_weights, pickle_error
from mmduet.nano import BUNDLED
from mmduet.text import did_you_mean


@dataclass(frozen=True)
class FoundFiles:
    """A directory, and the commit that it holds, as ``owner/name@commit``; None if it is not from the hub."""

    path: Path
    revision: str | None = None


@dataclass(frozen=True)
class ModelSource:
    """The files of a model.

    Attributes:
        base: A checkpoint, None for random weights.
        random_size: Size of a random model.
        adapter: An adapter that is merged into the model.
        name: What the model is called instead of the name in its files.
    """

    base: FoundFiles | None
    random_size: str | None = None
    adapter: FoundFiles | None = None
    name: str | None = None

    @property
    def revisions(self) -> tuple[str, ...]:
        """The commits of what comes from the hub, as ``owner/name@commit``."""
        return tuple(found.revision for found in (self.base, self.adapter) if found and found.revision)


def find_model(
    model: str | Path | ModelSource, adapter: str | Path | None = None, *, pickles: bool = False
) -> ModelSource:
    """Return the files of a model, downloading those on the hub. An existing directory wins over a name on the hub.

    A model that is itself an adapter brings the base that it names.

    Raises ``ModelNotFoundError`` if there is no such model or adapter, ``CheckpointError`` for unusable ones, ``DownloadError``
    if the hub cannot be used, ``OptionError`` if ``model`` and ``adapter`` are both adapters.
    """
    if isinstance(model, ModelSource):
        return model
    source = _find(_as_text(model), pickles)
    if adapter is None:
        return source
    if source.adapter is not None:
        raise OptionError(
            f"{model} is itself an adapter, so the adapter {adapter} cannot be applied to it; give a base model"
        )
    return replace(source, adapter=find_adapter(adapter, pickles))


def find_adapter(adapter: str | Path, pickles: bool = False) -> FoundFiles:
    """Return the files of an adapter, downloading those on the hub. Raises as ``find_model`` does."""
    name = _as_text(adapter)
    hub_id = HubId.parse(name)
    if Path(name).is_dir() or hub_id is None:
        return FoundFiles(Path(name))
    return _download(hub_id, partial(_adapter_files, hub_id, pickles))


def _as_text(name: str | Path) -> str:
    return name.as_posix() if isinstance(name, Path) else name


def _find(name: str, pickles: bool, is_base: bool = False) -> ModelSource:
    if name.startswith(RANDOM):
        return ModelSource(None, name.removeprefix(RANDOM))
    directory, hub_id = BUNDLED.get(name, Path(name)), HubId.parse(name)
    if name and directory.is_dir():
        found, label = FoundFiles(directory), directory.resolve().name
    elif hub_id is not None:
        found, label = _download_model(hub_id, pickles), hub_id.repository.partition("/")[2]
    else:
        known = (*BUNDLED, *RANDOM_MODELS)
        raise ModelNotFoundError(
            f"model {name!r} is neither a directory nor one of {', '.join(known)}, nor of the form OWNER/NAME"
            f"{did_you_mean(name, known)} check the name"
        )
    if is_adapter([file.name for file in visible_files(found.path)]):
        if is_base:
            raise CheckpointError(
                f"{name} is the base of an adapter and an adapter itself; merge it into its own base first"
            )
        return replace(_base_of(name, found, pickles), adapter=found, name=label)
    return ModelSource(found, name=label if found.revision else None)


def _base_of(name: str, adapter: FoundFiles, pickles: bool) -> ModelSource:
    """Return the source of the base that an adapter names."""
    config = read_json_object(adapter.path / adapter_files.CONFIG)
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not base:
        raise CheckpointError(
            f"{name} is an adapter whose {adapter_files.CONFIG} names no base; give a base as model, and this as adapter"
        )
    if isinstance(revision, str) and not Path(base).is_dir() and (hub_id := HubId.parse(base)) is not None:
        base = str(HubId(hub_id.repository, revision))
    try:
        return _find(base, pickles, is_base=True)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"the adapter {name} was trained on {base} ({error}); or give the base as model, and this as adapter"
        ) from error


# on the hub


def _download(hub_id: HubId, select: partial[list[str]]) -> FoundFiles:
    snapshot = fetch(hub_id, select)
    return FoundFiles(snapshot, f"{hub_id.repository}@{snapshot.name}")


def _download_model(hub_id: HubId, pickles: bool) -> FoundFiles:
    """Download an adapter or a checkpoint; its weights only if its description is of a supported kind."""
    found = _download(hub_id, partial(_description_files, hub_id, pickles))
    if (found.path / adapter_files.CONFIG).exists():
        return found
    if (found.path / CONFIG).exists() and not (found.path / MANIFEST).exists():
        check_architecture(found.path / CONFIG, str(hub_id))
    return _download(HubId(hub_id.repository, found.path.name), partial(_checkpoint_files, hub_id, pickles))


def _description_files(hub_id: HubId, pickles: bool, names: Collection[str]) -> list[str]:
    if is_adapter(names):
        return _adapter_files(hub_id, pickles, names)
    found = [name for name in (MANIFEST, CONFIG) if name in names]
    if not found:
        raise CheckpointError(
            f"{hub_id} is not a checkpoint: it contains neither {MANIFEST} nor {CONFIG}; check the name"
        )
    return found


def _adapter_files(hub_id: HubId, pickles: bool, names: Collection[str]) -> list[str]:
    if adapter_files.CONFIG not in names:
        raise CheckpointError(f"{hub_id} is not an adapter: it contains no {adapter_files.CONFIG}; check the name")
    described = [name for name in (adapter_files.CONFIG, MANIFEST) if name in names]
    if adapter_files.WEIGHTS in names:
        return [*described, adapter_files.WEIGHTS]
    if adapter_files.PICKLE not in names:
        raise CheckpointError(f"{hub_id} contains no {adapter_files.WEIGHTS}; save the adapter again with PEFT")
    if not pickles:
        raise pickle_error(hub_id, adapter_files.PICKLE)
    return [*described, adapter_files.PICKLE]


def _checkpoint_files(hub_id: HubId, pickles: bool, names: Collection[str]) -> list[str]:
    texts = (MANIFEST, CONFIG, TOKENIZER, *TOKENIZER_SOURCES, INDEX)
    return [name for name in texts if name in names] + choose_weight_files(hub_id, names, pickles)


def is_adapter(names: Collection[str]) -> bool:
    """Return whether files of these names are an adapter, without weights of a model."""
    return adapter_files.CONFIG in names and not has_model_weights(names)
