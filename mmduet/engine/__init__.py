"""Many streams through one model: sessions, slots, packed steps, policies, decoding."""

from mmduet.engine.engine import Engine
from mmduet.engine.session import Session

__all__ = ["Engine", "Session"]
