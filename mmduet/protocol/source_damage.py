"""Describe the damage of a source that the server reads, as part of ``input_source.closed``."""

from __future__ import annotations

from mmduet.protocol.wire import ServerModel


class DamagedSpan(ServerModel):
    """A time interval in seconds from the source's first frame."""

    start: float
    end: float


class SourceDamage(ServerModel):
    """What of a source could not be decoded: ``skipped`` frames in ``spans``, and in seconds where the video breaks off."""

    skipped: int
    spans: list[DamagedSpan]
    truncated_at: float | None
