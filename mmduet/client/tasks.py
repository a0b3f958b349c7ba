"""A remote session as tasks want it: what the model there is best run with, and how the session is set for a task."""

from __future__ import annotations

from mmduet.client.blocking import RemoteStream
from mmduet.options import SpeakOptions
from mmduet.protocol.server_events import Session
from mmduet.tasks.base import ModelDefaults, RunConfig

USUAL_FPS = 2.0


def model_defaults(session: Session) -> ModelDefaults:
    """What the server tells of its model when the session is created."""
    duet = session.duet
    speak = SpeakOptions.from_dict(duet.speak)
    return ModelDefaults(duet.fps or USUAL_FPS, duet.query or "", speak)


def configure(stream: RemoteStream, setting: RunConfig) -> None:
    """Set the session for a task, before anything is pushed. Raises ``OptionError`` where the server refuses."""
    fields = {} if setting.max_new_tokens is None else {"max_output_tokens": setting.max_new_tokens}
    stream.update(duet=setting.to_duet_settings(), **fields)
