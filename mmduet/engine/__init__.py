"""Serve many sessions with one model: KV slots, packed steps, policies and decoding."""

from mmduet.engine.defaults import model_defaults, recommended_options, task_options
from mmduet.engine.engine import Engine
from mmduet.engine.session import Session
from mmduet.engine.thread import EngineThread, Stream

__all__ = [
    "Engine",
    "EngineThread",
    "Session",
    "Stream",
    "model_defaults",
    "recommended_options",
    "task_options",
]
