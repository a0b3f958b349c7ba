"""Every setting of a server: one schema, read from a TOML file, then the environment, then flags, each over the one before."""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from mmduet.errors import OptionError
from mmduet.protocol.session.conversation import Bounds
from mmduet.server.guard import Guard

PREFIX = "MMDUET_"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class ServerConfig(BaseSettings):
    """Where to listen, whom to let in, how much to take on. Times in seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, validate_default=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65535)
    model: str = "nano"
    adapter: Path | None = None
    adapters: dict[str, Path] = Field(default={}, description="adapters that sessions may choose from, by name")
    dtype: str = "float32"
    keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(default=(), description="API keys; none: loopback only")
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="origins of pages that may connect; * for any"
    )
    max_sessions: int | None = Field(default=None, ge=1, description="at most so many; by default as memory allows")
    max_sessions_per_key: int | None = Field(default=None, ge=1)
    kv_memory_mb: int | None = Field(
        default=None, ge=1, description="for sessions' memory; by default half of what is free"
    )
    max_message_bytes: int = Field(default=4 << 20, ge=1024)
    max_request_bytes: int = Field(default=32 << 20, ge=1024)
    max_picture_pixels: int = Field(default=4096 * 4096, ge=1)
    max_waiting_frames: int = Field(default=32, ge=1)
    max_waiting_turns: int = Field(default=64, ge=1)
    messages_per_second: float = Field(default=500.0, gt=0)
    message_burst: int = Field(default=2000, ge=1)
    log_events: int = Field(default=4096, ge=16, description="events kept for clients that come back")
    log_bytes: int = Field(default=4 << 20, ge=4096)
    time_to_live: float = Field(default=60.0, ge=0, description="how long a session waits for a lost client")
    journal: Path | None = Field(
        default=None, description="folder in which sessions outlive the server; by default they end with it"
    )
    idle_timeout: float = Field(default=600.0, gt=0, description="how long a client may say nothing")
    send_timeout: float = Field(default=10.0, gt=0)
    ping_interval: float = Field(default=20.0, gt=0)
    drain_seconds: float = Field(default=20.0, ge=0)
    client_secret_seconds: float = Field(default=60.0, gt=0)
    pull_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="hosts that may be reached for a client; *.example.org for those below, * for any"
    )
    pull_networks: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="private networks that they may be in, as 192.168.1.0/24"
    )
    pull_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="folders that files may be read from"
    )
    pull_webcams: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="cameras of this machine that may be used: webcam, webcam:1"
    )
    max_download_bytes: int = Field(default=256 << 20, ge=1)
    max_chat_frames: int = Field(default=512, ge=1)
    tracing: bool = Field(default=False, description="send spans to where OTEL_EXPORTER_OTLP_ENDPOINT says")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_json: bool = False

    @property
    def bounds(self) -> Bounds:
        """What one client may have waiting, and how fast it may send."""
        return Bounds(self.max_waiting_frames, self.max_waiting_turns, self.messages_per_second, self.message_burst)

    @property
    def guard(self) -> Guard:
        """What may be reached for clients."""
        return Guard(self.pull_hosts, self.pull_networks, self.pull_roots, self.pull_webcams)

    @field_validator("pull_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)  # raises ValueError, which names it
        return value

    @field_validator(
        "keys", "allowed_origins", "pull_hosts", "pull_networks", "pull_roots", "pull_webcams", mode="before"
    )
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """``a, b`` in the environment is two values."""
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def load_config(path: Path | None = None, **flags: Any) -> ServerConfig:
    """The settings; flags that are None were not given. Raises ``OptionError`` naming the setting and where it stands."""

    class Sourced(ServerConfig):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            below = (TomlConfigSettingsSource(settings_cls, toml_file=path),) if path is not None else ()
            return init_settings, env_settings, *below

    if path is not None and not path.is_file():
        raise OptionError(f"config file {path} does not exist; check the name")
    try:
        config = Sourced(**{name: value for name, value in flags.items() if value is not None})
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"config file {path} is not TOML ({error}); mend it") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            alike = get_close_matches(name, ServerConfig.model_fields, 1)
            meant = f", perhaps {alike[0]} is meant" if alike else ""
            raise OptionError(
                f"{path or 'the command line'}: {name} is no setting{meant}; docs/settings.md has all"
            ) from None
        raise OptionError(f"setting {name}: {first['msg']}; docs/settings.md tells what it may be") from None
    if config.host not in LOOPBACK and not config.keys:
        raise OptionError(
            f"host {config.host} can be reached from elsewhere and no key is set; set {PREFIX}KEYS, or listen on 127.0.0.1"
        )
    return config
