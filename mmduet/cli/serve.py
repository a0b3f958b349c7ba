"""``mmduet serve``: serve a model over WebSockets and HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from mmduet.cli._loading import MODEL_HELP, MODEL_METAVAR, Adapter, AllowPickle, Quantized, load
from mmduet.cli._options import takes_options


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The options of ``mmduet serve``. An option that is None keeps the value of the configuration file or the environment."""

    config: Annotated[
        Path | None, Option(help="TOML file of settings; environment variables and options take precedence.")
    ] = None
    model: Annotated[str | None, Option(metavar=MODEL_METAVAR, help=MODEL_HELP, show_default="nano")] = None
    adapter: Adapter = None
    named_adapter: Annotated[
        list[str] | None, Option(metavar="NAME=DIR", help="Adapter that sessions can select by name; repeatable.")
    ] = None
    dtype: Annotated[str | None, Option(help="Data type: float32, bfloat16, float16 or stored.")] = None
    quantized: Quantized = None
    allow_pickle: AllowPickle = False
    host: Annotated[
        str | None, Option(help="Address to listen on; any but a loopback address requires an API key.")
    ] = None
    port: Annotated[int | None, Option(help="Port to listen on; 0 selects a free one.")] = None
    max_sessions: Annotated[
        int | None, Option(help="Maximum number of sessions; by default as many as the memory allows.")
    ] = None
    kv_memory_mb: Annotated[
        int | None, Option(help="Memory for sessions in MiB; by default half of the free memory.")
    ] = None
    tracing: Annotated[
        bool | None, Option("--tracing", help="Export OpenTelemetry traces, configured by the OTEL_* variables.")
    ] = None
    journal: Annotated[
        Path | None, Option(metavar="DIR", help="Directory of journals, from which sessions resume after a crash.")
    ] = None
    log_level: Annotated[str | None, Option(help="Log level: debug, info, warning or error.")] = None
    log_json: Annotated[bool | None, Option("--log-json", help="Log one JSON object per line.")] = None


@takes_options(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Serve live streams over WebSockets until SIGTERM or Ctrl-C. API keys come from MMDUET_KEYS or the config file."""
    from mmduet.server.app import create_app
    from mmduet.server.config import load_config
    from mmduet.server.logging_config import configure_logging
    from mmduet.server.uvicorn_server import run_server

    settings = load_config(
        options.config,
        model=options.model,
        adapter=options.adapter,
        adapters=parse_named_adapters(options.named_adapter),
        dtype=options.dtype,
        host=options.host,
        port=options.port,
        max_sessions=options.max_sessions,
        kv_memory_mb=options.kv_memory_mb,
        tracing=options.tracing,
        journal=options.journal,
        log_level=options.log_level,
        log_json=options.log_json,
    )
    configure_logging(settings.log_level, as_json=settings.log_json)
    loaded = load(
        settings.model,
        settings.adapter,
        options.allow_pickle,
        settings.dtype,
        options.quantized,
        adapters=settings.adapters,
    )
    app = create_app(loaded, settings)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host

    def report_address(port: int) -> None:
        max_sessions = app.state.manager.budget.max_sessions
        typer.echo(
            f"mmduet serves {settings.model} at ws://{host}:{port}/v1/realtime, memory for {max_sessions} sessions"
        )

    run_server(app, settings, report_address)


def parse_named_adapters(texts: list[str] | None) -> dict[str, Path] | None:
    """Return the directories of ``NAME=DIR`` by name, or None without any. Raises ``OptionError``."""
    from mmduet.errors import OptionError

    adapters = {}
    for text in texts or ():
        name, separator, path = text.partition("=")
        if not (name and separator and path):
            raise OptionError(f"--named-adapter must have the form NAME=DIR (cooking=adapters/cooking), got {text!r}")
        adapters[name] = Path(path)
    return adapters or None
