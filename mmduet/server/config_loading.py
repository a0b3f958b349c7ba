"""Loads the server's settings from a TOML file, the environment and command-line flags, and checks them together."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from mmduet.errors import OptionError
from mmduet.server.config import LOOPBACK_HOSTS, ServerConfig
from mmduet.server.environment import CLIENT_KEY_VARIABLE, ENV_PREFIX, check_variables
from mmduet.server.tls import create_tls_context
from mmduet.text import did_you_mean


def load_config(path: Path | None = None, **flags: Any) -> ServerConfig:
    """Return the settings from the TOML file ``path``, the environment and ``flags``; later ones override earlier ones.

    A flag that is None was not given. Raises ``OptionError`` that names the setting and its source, also for an unknown
    environment variable with the prefix of settings.
    """
    check_variables(os.environ, ServerConfig.model_fields)
    from_file = {} if path is None else _read_toml(path)

    class LayeredConfig(ServerConfig):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            file_settings = (InitSettingsSource(settings_cls, from_file),) if path is not None else ()
            return init_settings, env_settings, *file_settings

    try:
        config = LayeredConfig(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise OptionError(_describe(error, path)) from None
    _check_consistent(config)
    return config


def _check_consistent(config: ServerConfig) -> None:
    """Raise ``OptionError`` for settings that exclude each other, and for TLS files that cannot be used."""
    hint = f" ({CLIENT_KEY_VARIABLE} is for clients)" if CLIENT_KEY_VARIABLE in os.environ else ""
    if config.host not in LOOPBACK_HOSTS and not config.keys:
        raise OptionError(
            f"host {config.host} is reachable from other machines and no key is set; "
            f"set {ENV_PREFIX}KEYS{hint} or listen on 127.0.0.1"
        )
    if config.trusted_proxies and not config.keys:
        raise OptionError(
            "trusted_proxies is set and no key is; a server without keys is for its own machine only: "
            f"set {ENV_PREFIX}KEYS{hint}"
        )
    if config.public:
        _check_public(config)
    if config.tls_certificate is not None:
        create_tls_context(config.tls_certificate, config.tls_key)
    elif config.tls_key is not None:
        raise OptionError("tls_key is set and tls_certificate is not; set both, or neither for plain HTTP")


def _check_public(config: ServerConfig) -> None:
    """Raise ``OptionError`` unless the page is on and every visitor is limited."""
    if not config.page:
        raise OptionError("public is set and page is not; public is for the visitors of the live page")
    for name in ("max_sessions_per_client_secret", "frames_per_second_per_client_secret"):
        if getattr(config, name) is None:
            raise OptionError(
                f"public requires a limit for every visitor; set {name}, such as 2 sessions and 16 frames"
            )


def _read_toml(path: Path) -> dict[str, Any]:
    """Return the settings in a TOML file, with or without a byte order mark. Raises ``OptionError``."""
    if not path.is_file():
        raise OptionError(f"config file {path} does not exist; check the name")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"config file {path} cannot be read ({error}); save it as UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"config file {path} is not valid TOML ({error}); fix that line") from None


def _describe(error: ValidationError, path: Path | None) -> str:
    """Return a message for the first invalid setting."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        return f"setting {name}: {first['msg'].removeprefix('Value error, ')}; see docs/settings.md"
    suggestion = did_you_mean(name, ServerConfig.model_fields)
    return f"{path or 'the command line'}: unknown setting {name}{suggestion} docs/settings.md lists all settings"
