"""``mmduet inspect``: describe a model or an adapter without loading it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from mmduet.cli._loading import MODEL_HELP, MODEL_METAVAR, Adapter, AllowPickle, downloads_reported

if TYPE_CHECKING:
    from mmduet.model import DuetConfig
    from mmduet.model.inspection import Inspection

GIB = 2**30


def inspect(
    model: Annotated[str, Argument(metavar=MODEL_METAVAR, help=f"{MODEL_HELP} Or the directory of an adapter.")],
    adapter: Adapter = None,
    as_json: Annotated[bool, Option("--json", help="Print a JSON object instead of a table.")] = False,
    allow_pickle: AllowPickle = False,
) -> None:
    """Show what a model consists of, whether it can be loaded, and the memory that it needs.

    The exit status is 5 if it cannot be loaded.
    """
    from mmduet.errors import CheckpointError
    from mmduet.model.inspection import inspect_model

    with downloads_reported():
        inspection = inspect_model(model, adapter, allow_pickle)
    properties = _properties(inspection)
    typer.echo(json.dumps(properties, indent=2) if as_json else _format_table(properties))
    if inspection.problem is not None:
        raise typer.Exit(CheckpointError.exit_status)


def _properties(inspection: Inspection) -> dict[str, object]:
    """Return the properties of a directory by name, in the order in which they are displayed."""
    properties: dict[str, object] = {
        "path": str(inspection.path),
        "kind": inspection.kind,
        "loads": inspection.problem is None,
        "problem": inspection.problem,
        "heads": list(inspection.heads),
        "dtype": str(inspection.dtype).removeprefix("torch."),
        "parameters": inspection.parameters,
        "weight_bytes": inspection.weight_bytes,
    }
    if inspection.revisions:
        properties["revisions"] = list(inspection.revisions)
    if inspection.rank:
        properties["rank"] = inspection.rank
    if config := inspection.config:
        properties |= {
            "tower": f"{config.vision.layers} layers of {config.vision.hidden_size}, {config.vision.image_size} px",
            "language_model": f"{config.text.layers} layers of {config.text.hidden_size}",
            "vocabulary": config.text.vocab_size,
            "tokens_per_frame": config.frame_tokens,
            "positions": config.text.max_positions,
            "stream_bytes_per_frame": inspection.stream_bytes(1),
            "window": config.recommended.window,
            "stream_bytes": _stream_bytes(config, inspection),
        }
    return properties


def _stream_bytes(config: DuetConfig, inspection: Inspection) -> int:
    """Return the size of one stream's keys and values with the recommended options, in the stored data type."""
    from mmduet.engine.defaults import recommended_options, slot_tokens

    itemsize = inspection.dtype.itemsize if inspection.dtype is not None else 0
    return slot_tokens(config, recommended_options(config.recommended)) * config.kv_bytes_per_token(itemsize)


def _format_table(properties: dict[str, object]) -> str:
    width = max(len(name) for name in properties)
    return "\n".join(
        f"{name.replace('_', ' '):{width}}  {_format_value(name, value)}" for name, value in properties.items()
    )


def _format_value(name: str, value: object) -> str:
    if name == "weight_bytes" and isinstance(value, int):
        return f"{value / GIB:.3f} GiB"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return f"{value:,}" if isinstance(value, int) else "-" if value is None else str(value)
