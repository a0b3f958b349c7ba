"""``mmduet convert``: other people's checkpoints, made ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from mmduet.cli._loading import Adapter, AllowPickle, load


def convert(
    source: Annotated[str, Argument(metavar="SRC", help="A LLaVA-OneVision directory, or a checkpoint of ours.")],
    target: Annotated[Path, Argument(metavar="DST", help="Directory of the finished checkpoint.")],
    adapter: Adapter = None,
    dtype: Annotated[
        Literal["stored", "float32", "bfloat16", "float16"], Option(help="Number type of the weights written.")
    ] = "stored",
    allow_pickle: AllowPickle = False,
) -> None:
    """Write SRC as one directory that holds everything needed to serve; DST is whole or not there."""
    from mmduet.errors import OptionError
    from mmduet.model.checkpoint import MANIFEST, save_checkpoint
    from mmduet.model.inspection import resolve_dtype

    if target.exists() and not (target / MANIFEST).exists():
        raise OptionError(f"{target} exists and is not an mmduet checkpoint; give a directory that does not exist")
    number = resolve_dtype(dtype, source, allow_pickle)
    model = load(source, adapter, allow_pickle, str(number).removeprefix("torch."))
    extra = {"converted_from": {"source": Path(source).name, "adapter": adapter.name if adapter else None}}
    save_checkpoint(target, model.network, model.tokenizer, extra=extra)
    typer.echo(
        f"{target} holds {source}{f' with {adapter}' if adapter else ''}, in {str(number).removeprefix('torch.')}"
    )
