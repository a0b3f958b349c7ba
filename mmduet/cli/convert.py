"""``mmduet convert``: write a checkpoint of another project as an mmduet checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from mmduet.cli._loading import MODEL_HELP, Adapter, AllowPickle, LoadingOptions, find, load
from mmduet.errors import OptionError

if TYPE_CHECKING:
    from mmduet.model.source import ModelSource


def convert(
    source: Annotated[str, Argument(metavar="SRC", help=MODEL_HELP)],
    target: Annotated[Path, Argument(metavar="DST", help="Directory of the new checkpoint.")],
    adapter: Adapter = None,
    dtype: Annotated[
        Literal["stored", "float32", "bfloat16", "float16"], Option(help="Data type of the new weights.")
    ] = "stored",
    allow_pickle: AllowPickle = False,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace the checkpoint in DST, if there is one.")] = False,
) -> None:
    """Write SRC as one directory with everything that serving needs. DST is written completely or not at all."""
    from mmduet.model.checkpoint import save_checkpoint
    from mmduet.model.devices import dtype_name

    _check_target(target, overwrite)
    files = find(source, adapter, allow_pickle)
    model = load(files, LoadingOptions(allow_pickle=allow_pickle, device="cpu", dtype=dtype))
    save_checkpoint(target, model.network, model.tokenizer, extra={"converted_from": _origin(source, files)})
    typer.echo(f"{target} holds {source}{f' with {adapter}' if adapter else ''}, in {dtype_name(model.network.dtype)}")


def _check_target(target: Path, overwrite: bool) -> None:
    """Raise ``OptionError`` if writing to ``target`` would replace something that may not be replaced."""
    from mmduet.model.checkpoint import MANIFEST

    if target.exists() and not (target / MANIFEST).exists():
        raise OptionError(f"{target} exists and is not an mmduet checkpoint; give a directory that does not exist")
    if target.exists() and not overwrite:
        raise OptionError(f"{target} already holds a checkpoint; give another directory, or --overwrite to replace it")


def _origin(source: str, files: ModelSource) -> dict[str, str | None]:
    """Return where the weights come from: names of directories, or commits on the hub."""
    base, adapter = files.base, files.adapter
    return {
        "source": (base.revision if base else None) or Path(source).name,
        "adapter": None if adapter is None else adapter.revision or adapter.path.name,
    }
