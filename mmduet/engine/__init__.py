"""Many streams through one model: sessions, slots, packed steps, policies, decoding."""

from mmduet.engine.defaults import own, recommended_options, task_options
from mmduet.engine.engine import Engine
from mmduet.engine.session import Session
from mmduet.engine.thread import EngineThread, Stream
from mmduet.pipelines.local import Job, Played, play

__all__ = [
    "Engine",
    "EngineThread",
    "Job",
    "Played",
    "Session",
    "Stream",
    "own",
    "play",
    "recommended_options",
    "task_options",
]
