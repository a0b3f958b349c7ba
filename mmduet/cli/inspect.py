"""``mmduet inspect``: what a directory is, without loading it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from mmduet.cli._loading import Adapter, AllowPickle

if TYPE_CHECKING:
    from mmduet.model import DuetConfig
    from mmduet.model.inspection import Inspection

GIB = 2**30


def inspect(
    directory: Annotated[Path, Argument(metavar="DIR", help="A checkpoint or an adapter.")],
    adapter: Adapter = None,
    as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
    allow_pickle: AllowPickle = False,
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
            "stream_bytes": _stream_bytes(config, seen),
        }
    return facts


def _stream_bytes(config: DuetConfig, seen: Inspection) -> int:
    """Keys and values of one stream as the model recommends it, in the stored number type."""
    from mmduet.engine.defaults import recommended_options, slot_tokens

    width = seen.dtype.itemsize if seen.dtype is not None else 0
    return slot_tokens(config, recommended_options(config.recommended)) * config.kv_bytes_per_token(width)


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
