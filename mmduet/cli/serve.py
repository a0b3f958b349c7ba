"""``mmduet serve``: serve a model over WebSockets and HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from mmduet.cli._loading import (
    ALLOW_PICKLE_HELP,
    ATTENTION_HELP,
    DEVICE_HELP,
    DEVICE_METAVAR,
    DTYPE_HELP,
    KV_DTYPE_HELP,
    MODEL_HELP,
    MODEL_METAVAR,
    Adapter,
    LoadingOptions,
    Quantized,
    QuantizedTower,
    Threads,
    load,
)
from mmduet.cli._options import takes_options

if TYPE_CHECKING:
    from mmduet.server.config import ServerConfig

DTYPE_METAVAR = "auto|stored|float32|bfloat16|float16"
ATTENTION_METAVAR = "auto|loop|padded|products|varlen"
NOT_SETTINGS = ("config", "named_adapter", "open")
"""Options that are not the setting of the same name: the file of settings, ``adapters``, and ``open`` of ``mmduet demo``."""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The options of a server. An option that is None keeps the value of the configuration file or the environment."""

    config: Annotated[
        Path | None,
        Option(
            metavar="FILE.toml",
            envvar="MMDUET_CONFIG",
            help="File of settings; environment variables and options take precedence.",
        ),
    ] = None
    model: Annotated[str | None, Option(metavar=MODEL_METAVAR, help=MODEL_HELP, show_default="nano")] = None
    adapter: Adapter = None
    named_adapter: Annotated[
        list[str] | None,
        Option(metavar="NAME=DIR", help="LoRA adapter that sessions can select by this name; repeatable."),
    ] = None
    device: Annotated[str | None, Option(metavar=DEVICE_METAVAR, help=DEVICE_HELP, show_default="auto")] = None
    dtype: Annotated[str | None, Option(metavar=DTYPE_METAVAR, help=DTYPE_HELP, show_default="auto")] = None
    attention: Annotated[str | None, Option(metavar=ATTENTION_METAVAR, help=ATTENTION_HELP, show_default="auto")] = None
    kv_dtype: Annotated[str | None, Option(metavar="auto|fp8", help=KV_DTYPE_HELP, show_default="auto")] = None
    quantized: Quantized = None
    quantized_tower: QuantizedTower = None
    allow_pickle: Annotated[bool | None, Option("--allow-pickle", help=ALLOW_PICKLE_HELP)] = None
    threads: Threads = None
    host: Annotated[
        str | None,
        Option(help="Address to listen on. All but addresses of this machine alone (loopback) require an API key."),
    ] = None
    port: Annotated[int | None, Option(help="Port to listen on; 0 selects a free one.")] = None
    tls_certificate: Annotated[
        Path | None, Option(metavar="FILE", help="PEM file of the certificate chain: serve https and wss.")
    ] = None
    tls_key: Annotated[
        Path | None, Option(metavar="FILE", help="PEM file of the private key; by default in that of the certificate.")
    ] = None
    root_path: Annotated[
        str | None, Option(metavar="PATH", help="Path prefix under which a reverse proxy publishes the server.")
    ] = None
    max_sessions: Annotated[
        int | None, Option(help="Maximum number of sessions at the same time; by default as many as the memory allows.")
    ] = None
    max_sessions_per_key: Annotated[
        int | None,
        Option(
            help="Maximum number of sessions of one API key at the same time; by default half of all sessions.",
        ),
    ] = None
    max_sessions_per_client_secret: Annotated[
        int | None, Option(help="Maximum number of sessions of one client secret, that is of one visitor of a page.")
    ] = None
    max_sources_per_key: Annotated[
        int | None, Option(help="Maximum number of sources that the server reads for one API key at the same time.")
    ] = None
    frames_per_second_per_key: Annotated[
        float | None, Option(help="Frames of one API key to score per second; more are dropped.")
    ] = None
    frames_per_second_per_client_secret: Annotated[
        float | None, Option(help="Frames of one client secret to score per second; more are dropped.")
    ] = None
    bytes_per_second_per_key: Annotated[
        float | None, Option(help="Bytes of one API key to receive per second; more are read more slowly.")
    ] = None
    tokens_per_second_per_key: Annotated[
        float | None, Option(help="Tokens to generate for one API key per second; replies end there.")
    ] = None
    key_burst_seconds: Annotated[
        float | None, Option(help="How many seconds of a rate per API key may be used at once.")
    ] = None
    max_utilization: Annotated[
        float | None,
        Option(help="Share of the engine's capacity that sessions may use; inf for no limit.", show_default="0.9"),
    ] = None
    kv_memory_mb: Annotated[
        int | None, Option(help="Memory for sessions in MiB; by default half of the free memory.")
    ] = None
    public: Annotated[
        bool | None,
        Option(
            "--public", help="Let visitors use the live page without an API key; requires limits per client secret."
        ),
    ] = None
    tracing: Annotated[
        bool | None, Option("--tracing", help="Export OpenTelemetry traces, configured by the OTEL_* variables.")
    ] = None
    journal: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="Record sessions in this directory, so that they continue after a crash. A second server with the same "
            "directory and port takes over from the first.",
        ),
    ] = None
    log_level: Annotated[str | None, Option(help="What to log: debug, info, warning or error and above.")] = None
    log_json: Annotated[bool | None, Option("--log-json", help="Log one JSON object per line.")] = None


@dataclass(frozen=True, kw_only=True)
class ServeOptions(ServerOptions):
    """The options of ``mmduet serve``."""

    page: Annotated[bool | None, Option("--page", help="Also serve the live page, at /page/; needs mmduet[demo].")] = (
        None
    )


@takes_options(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Serve live streams over WebSockets until SIGTERM or Ctrl-C. API keys come from MMDUET_KEYS or the config file."""
    settings = load_settings(options)

    def report(url: str, max_sessions: int) -> None:
        typer.echo(f"mmduet serves {settings.model} at {url}, up to {max_sessions} sessions")
        if settings.page:
            typer.echo(f"live page: {page_url(url)}")

    run(settings, report)


def load_settings(options: ServerOptions, **settings: Any) -> ServerConfig:
    """Return the settings from the options, the configuration file and the environment; ``settings`` override all of them."""
    from mmduet.server.config_loading import load_config

    flags = {field.name: getattr(options, field.name) for field in fields(options) if field.name not in NOT_SETTINGS}
    return load_config(options.config, **{"adapters": options.named_adapter, **flags, **settings})


def run(settings: ServerConfig, report: Callable[[str, int], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. ``report`` is called with the server's address and its maximum number of sessions."""
    from mmduet.server.allocator import limit_arenas
    from mmduet.server.environment import warn_about_client_key
    from mmduet.server.file_descriptors import raise_limit
    from mmduet.server.logging_config import configure_logging

    configure_logging(settings.log_level, as_json=settings.log_json)
    warn_about_client_key(settings.keys)
    raise_limit()
    limit_arenas()

    from mmduet.server.app import create_app
    from mmduet.server.take_over import open_journal, take_over
    from mmduet.server.uvicorn_server import run_server

    journals = open_journal(settings)
    loaded = load(settings.model, loading_options(settings), adapters=settings.adapters, streams=None)
    app = create_app(loaded, settings, journals=journals)
    if settings.page:
        from mmduet.webpage.page import add_page

        add_page(app)
    taken_over = None
    if journals is not None and not journals.locked:
        app.state.manager.admission.warm_up()  # a failure must not interrupt the other server
        taken_over = take_over(journals, settings, app.state.manager)
    max_sessions = app.state.manager.budget.max_sessions
    run_server(app, settings, lambda port: report(server_url(settings, port), max_sessions), taken_over)


def loading_options(settings: ServerConfig) -> LoadingOptions:
    """Return how the model of a server with these settings is loaded."""
    return LoadingOptions(**{field.name: getattr(settings, field.name) for field in fields(LoadingOptions)})


def server_url(settings: ServerConfig, port: int) -> str:
    """Return the address at which the server listens, as a client on this machine writes it."""
    scheme = "wss" if settings.tls_certificate is not None else "ws"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{scheme}://{host}:{port}/v1/realtime"


def page_url(url: str) -> str:
    """Return the address of the live page of the server at ``url``."""
    return f"http{url.removeprefix('ws').removesuffix('/v1/realtime')}/page/"
