"""``mmduet convert`` and ``mmduet inspect``: other people's checkpoints, made ours or merely looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from mmduet.model.inspection import Inspection

Pickles = Annotated[bool, Option("--allow-pickle", help="Read .bin weights too; a pickle can run any code.")]
Adapter = Annotated[Path | None, Option(metavar="DIR", help="A LoRA that PEFT saved, merged into the model.")]
GIB = 2**30


def convert(
    source: Annotated[str, Argument(metavar="SRC", help="A LLaVA-OneVision directory, or a checkpoint of ours.")],
    target: Annotated[Path, Argument(metavar="DST", help="Directory of the finished checkpoint.")],
    adapter: Adapter = None,
    dtype: Annotated[
        Literal["stored", "float32", "bfloat16", "float16"], Option(help="Number type of the weights written.")
    ] = "stored",
    allow_pickle: Pickles = False,
) -> None:
    """Write SRC as one directory that holds everything needed to serve; DST is whole or not there."""
    import torch

    from mmduet.errors import OptionError
    from mmduet.model import load_model
    from mmduet.model.checkpoint import MANIFEST, save_checkpoint
    from mmduet.model.inspection import stored_dtype

    if target.exists() and not (target / MANIFEST).exists():
        raise OptionError(f"{target} exists and is no checkpoint of ours; give a directory that does not exist")
    number = stored_dtype(source, allow_pickle) if dtype == "stored" else getattr(torch, dtype)
    with _bar("reading") as report:
        model = load_model(source, dtype=number, adapter=adapter, pickles=allow_pickle, progress=report)
    extra = {"converted_from": {"source": Path(source).name, "adapter": adapter.name if adapter else None}}
    save_checkpoint(target, model.network, model.tokenizer, extra=extra)
    typer.echo(
        f"{target} holds {source}{f' with {adapter}' if adapter else ''}, in {str(number).removeprefix('torch.')}"
    )


def inspect(
    directory: Annotated[Path, Argument(metavar="DIR", help="A checkpoint or an adapter.")],
    adapter: Adapter = None,
    as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
    allow_pickle: Pickles = False,
) -> None:
    """Say what DIR is, whether it would load, and what it would cost. Exit status 5 if it would not load."""
    from mmduet.errors import CheckpointError
    from mmduet.model.inspection import inspect_directory

    seen = inspect_directory(directory, adapter, allow_pickle)
    facts = _facts(seen)
    typer.echo(json.dumps(facts, indent=2) if as_json else _table(facts))
    if seen.problem is not None:
        raise typer.Exit(CheckpointError.exit_status)


def _facts(seen: Inspection) -> dict[str, object]:
    """Everything worth knowing, by name, in the order in which it is shown."""
    facts: dict[str, object] = {
        "path": str(seen.path),
        "kind": seen.kind,
        "loads": seen.problem is None,
        "problem": seen.problem,
        "heads": list(seen.heads),
        "dtype": str(seen.dtype).removeprefix("torch."),
        "parameters": seen.parameters,
        "weight_bytes": seen.weight_bytes,
    }
    if seen.rank:
        facts["rank"] = seen.rank
    if config := seen.config:
        facts |= {
            "tower": f"{config.vision.layers} layers of {config.vision.hidden_size}, {config.vision.image_size} px",
            "language_model": f"{config.text.layers} layers of {config.text.hidden_size}",
            "vocabulary": config.text.vocab_size,
            "tokens_per_frame": config.frame_tokens,
            "positions": config.text.max_positions,
            "stream_bytes_per_frame": seen.stream_bytes(1),
            "window": config.recommended.window,
        }
    return facts


def _table(facts: dict[str, object]) -> str:
    width = max(len(name) for name in facts)
    return "\n".join(f"{name.replace('_', ' '):{width}}  {_shown(name, value)}" for name, value in facts.items())


def _shown(name: str, value: object) -> str:
    if name == "weight_bytes" and isinstance(value, int):
        return f"{value / GIB:.3f} GiB"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return f"{value:,}" if isinstance(value, int) else "-" if value is None else str(value)


def _bar(title: str) -> AbstractContextManager[Callable[[int, int], None]]:
    """A progress bar on stderr."""
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import Progress

    @contextmanager
    def shown() -> Iterator[Callable[[int, int], None]]:
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    return shown()
