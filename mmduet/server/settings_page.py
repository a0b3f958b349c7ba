"""Writes docs/settings.md from the settings themselves, so that the page says what the code does."""

from __future__ import annotations

from typing import Any, get_args

from mmduet.server.config import PREFIX, ServerConfig

HEAD = f"""\
# Settings of the server

Written by `make docs` from `mmduet/server/config.py`; a test holds it to it. A setting is read from the TOML file that
`mmduet serve --config FILE` names, then from the environment (`{PREFIX}` and the name in capitals; lists with commas), then
from flags, each over the one before. [deploy/](../deploy) has a TOML file, a systemd unit and a Dockerfile to begin with.

| setting | default | |
|---|---|---|
"""


def page() -> str:
    """The whole document."""
    return HEAD + "".join(row(name) for name in ServerConfig.model_fields)


def row(name: str) -> str:
    """One setting."""
    field = ServerConfig.model_fields[name]
    words = (field.description or MEANINGS.get(name, "")).replace("|", "\\|")
    choices = [f"`{value}`" for value in get_args(field.annotation) if isinstance(value, str)]
    return f"| `{name}` | {shown(field.default)} | {words}{': ' * bool(words and choices)}{', '.join(choices)} |\n"


def shown(value: Any) -> str:
    """A default as a TOML file would have it."""
    if value is None or value == ():
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


MEANINGS = {
    "host": "address to listen on; others than loopback need a key",
    "port": "0 for any that is free",
    "model": "nano, random:SIZE or a checkpoint directory",
    "adapter": "directory of a LoRA that is merged into the model",
    "dtype": "number type to compute in: stored, float32, bfloat16 or float16",
    "max_sessions_per_key": "at most so many at once; by default no bound of its own",
    "max_message_bytes": "of one WebSocket message; larger ones close the socket",
    "max_request_bytes": "of the body of a chat completion",
    "max_picture_pixels": "of one frame, checked before it is decoded",
    "max_waiting_frames": "of one session; then the oldest gives way",
    "max_waiting_turns": "of one session; then turns are refused",
    "messages_per_second": "of one session, over time",
    "message_burst": "of one session, at once",
    "log_bytes": "characters of them",
    "send_timeout": "seconds that a client may take to read a message",
    "ping_interval": "seconds between pings, and for the answer to one",
    "drain_seconds": "how long replies may take to finish after SIGTERM",
    "client_secret_seconds": "how long a client secret opens sessions",
    "max_download_bytes": "of one file that is fetched",
    "max_chat_frames": "of one video in a chat completion",
    "log_level": "from here up",
    "log_json": "one JSON object a line",
}
