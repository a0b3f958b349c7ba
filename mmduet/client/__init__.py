"""Clients of a server: push frames, ask, and listen; they reconnect and resume by themselves. No torch."""

from mmduet.client.blocking import RemoteStream
from mmduet.client.session import RemoteSession

__all__ = ["RemoteSession", "RemoteStream"]
