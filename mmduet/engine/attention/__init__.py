"""Attention of the new tokens of many sessions over their slots: one contract, several backends."""

from mmduet.engine.attention.backend import Attention, Backend
from mmduet.engine.attention.choice import choose_backend, unavailable

__all__ = ["Attention", "Backend", "choose_backend", "unavailable"]
