"""Limits that a server reports to its clients, and how much of them is left."""

from __future__ import annotations

from typing import Literal

from mmduet.protocol.wire import ServerModel

LimitName = Literal["sessions", "frames", "bytes", "tokens", "sources"]


class KeyLimits(ServerModel):
    """Limits of one API key, over all of its sessions and requests; null: unlimited.

    The rates apply to frames to be scored, received bytes and generated tokens. A key that has used less than a rate may use up
    to ``burst_s`` seconds of it at once.
    """

    max_sessions: int | None = None
    max_sources: int | None = None
    frames_per_second: float | None = None
    bytes_per_second: float | None = None
    tokens_per_second: float | None = None
    burst_s: float = 0.0

    @property
    def has_limits(self) -> bool:
        """Return whether anything is limited."""
        limits = self.model_dump(exclude={"burst_s"})
        return any(limit is not None for limit in limits.values())


class Limits(ServerModel):
    """Limits of the session, of its key, and the adapters that it can choose. ``window`` is in frames."""

    max_sessions: int
    max_message_bytes: int
    max_waiting_frames: int
    fps: float
    window: int | None
    idle_timeout_s: float
    time_to_live_s: float
    adapters: tuple[str, ...] = ()
    per_key: KeyLimits = KeyLimits()


class RateLimit(ServerModel):
    """A limit of the key: its maximum, how much is left now, and the seconds until all of it is.

    ``limit`` is the number of sessions or sources that may be open at a time, or that of frames, bytes or tokens that may be
    used at once. ``reset_seconds`` is null for sessions and sources, which are available again when others end.
    """

    name: LimitName
    limit: int
    remaining: int
    reset_seconds: float | None
