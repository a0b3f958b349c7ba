"""``mmduet convert``: write a checkpoint of another project as an mmduet checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from mmduet.cli._loading import Adapter, AllowPickle, load


def convert(
    source: Annotated[str, Argument(metavar="SRC", help="A LLaVA-OneVision directory or an mmduet checkpoint.")],
    target: Annotated[Path, Argument(metavar="DST", help="Directory of the new checkpoint.")],
    adapter: Adapter = None,
    dtype: Annotated[
        Literal["stored", "float32", "bfloat16", "float16"], Option(help="Data type of the new weights.")
    ] = "stored",
    allow_pickle: AllowPickle = False,
) -> None:
    """Write SRC as one directory with everything that serving needs. DST is written completely or not at all."""
    from mmduet.errors import OptionError
    from mmduet.model.checkpoint import MANIFEST, save_checkpoint
    from mmduet.model.inspection import resolve_dtype

    if target.exists() and not (target / MANIFEST).exists():
        raise OptionError(f"{target} exists and is not an mmduet checkpoint; give a directory that does not exist")
    dtype_name = str(resolve_dtype(dtype, source, allow_pickle)).removeprefix("torch.")
    model = load(source, adapter, allow_pickle, dtype_name)
    extra = {"converted_from": {"source": Path(source).name, "adapter": adapter.name if adapter else None}}
    save_checkpoint(target, model.network, model.tokenizer, extra=extra)
    typer.echo(f"{target} holds {source}{f' with {adapter}' if adapter else ''}, in {dtype_name}")
