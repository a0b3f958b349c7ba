"""Many streams through one model: sessions, slots, packed steps, policies, decoding."""

from mmduet.engine.defaults import recommended_options
from mmduet.engine.engine import Engine
from mmduet.engine.session import Session
from mmduet.engine.thread import EngineThread, Stream

__all__ = ["Engine", "EngineThread", "Session", "Stream", "recommended_options"]
