"""``mmduet serve``: puts a model on the network; what it serves and how is the business of ``mmduet.server``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from mmduet.cli._loading import Adapter, AllowPickle, Quantized, load


def serve(
    config: Annotated[Path | None, Option(help="TOML file of settings; environment and flags outrank it.")] = None,
    model: Annotated[str | None, Option(help="nano, random:SIZE or a checkpoint directory.")] = None,
    adapter: Adapter = None,
    named_adapter: Annotated[
        list[str] | None, Option(metavar="NAME=DIR", help="An adapter that sessions may choose; repeatable.")
    ] = None,
    dtype: Annotated[str | None, Option(help="float32, bfloat16, float16 or stored.")] = None,
    quantized: Quantized = None,
    allow_pickle: AllowPickle = False,
    host: Annotated[str | None, Option(help="Address to listen on; others than loopback need a key.")] = None,
    port: Annotated[int | None, Option(help="0 for any that is free.")] = None,
    max_sessions: Annotated[int | None, Option(help="By default as many as memory allows.")] = None,
    kv_memory_mb: Annotated[int | None, Option(help="Memory for sessions; by default half of what is free.")] = None,
    tracing: Annotated[bool | None, Option("--tracing", help="Send spans by OpenTelemetry (OTEL_* variables).")] = None,
    journal: Annotated[Path | None, Option(metavar="DIR", help="Where sessions outlive a crash of the server.")] = None,
    log_level: Annotated[str | None, Option(help="debug, info, warning or error.")] = None,
    log_json: Annotated[bool | None, Option("--log-json", help="Log one JSON object a line.")] = None,
) -> None:
    """Serve live streams over WebSockets until SIGTERM or Ctrl-C. Keys come from MMDUET_KEYS or the config file."""
    from mmduet.server.app import create_app
    from mmduet.server.config import load_config
    from mmduet.server.logging_config import configure_logging
    from mmduet.server.uvicorn_server import run_server as run

    settings = load_config(
        config,
        model=model,
        adapter=adapter,
        adapters=named(named_adapter),
        dtype=dtype,
        host=host,
        port=port,
        max_sessions=max_sessions,
        kv_memory_mb=kv_memory_mb,
        tracing=tracing,
        journal=journal,
        log_level=log_level,
        log_json=log_json,
    )
    configure_logging(settings.log_level, as_json=settings.log_json)
    loaded = load(settings.model, settings.adapter, allow_pickle, settings.dtype, quantized, adapters=settings.adapters)
    app = create_app(loaded, settings)
    name = f"[{settings.host}]" if ":" in settings.host else settings.host

    def started(port: int) -> None:
        max_sessions = app.state.manager.budget.max_sessions
        typer.echo(
            f"mmduet serves {settings.model} at ws://{name}:{port}/v1/realtime, room for {max_sessions} sessions"
        )

    run(app, settings, started)


def named(adapters: list[str] | None) -> dict[str, Path] | None:
    """``NAME=DIR`` each. Raises ``OptionError``."""
    from mmduet.errors import OptionError

    found = {name: Path(path) for name, _, path in (text.partition("=") for text in adapters or ())}
    for text in adapters or ():
        if not all(text.partition("=")):
            raise OptionError(f"--named-adapter {text!r} is not NAME=DIR; name it, as in cooking=adapters/cooking")
    return found or None
