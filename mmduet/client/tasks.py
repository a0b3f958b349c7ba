"""Task support for remote sessions: the recommended settings of the served model, and the session's configuration."""

from __future__ import annotations

from mmduet.client.blocking import RemoteStream
from mmduet.options import SpeakOptions
from mmduet.protocol.server_events import Session
from mmduet.tasks.base import ModelDefaults, RunConfig

DEFAULT_FPS = 2.0


def model_defaults(session: Session) -> ModelDefaults:
    """Return the model's recommended settings from the session as it was created."""
    duet = session.duet
    speak = SpeakOptions.from_dict(duet.speak)
    return ModelDefaults(duet.fps or DEFAULT_FPS, duet.query or "", speak)


def configure(stream: RemoteStream, config: RunConfig) -> None:
    """Configure the session for a task, before any input. Raises ``OptionError`` if the server rejects the settings."""
    fields = {} if config.max_new_tokens is None else {"max_output_tokens": config.max_new_tokens}
    stream.update(duet=config.to_duet_settings(), **fields)
