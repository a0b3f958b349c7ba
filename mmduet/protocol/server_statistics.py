"""What a server reports about its load, for the server that writes it and the client that reads it."""

from __future__ import annotations

from pydantic import ConfigDict
from pydantic.config import JsonDict

from mmduet.protocol.wire import ServerModel

EXAMPLE: JsonDict = {
    "sessions": 3,
    "max_sessions": 64,
    "queued": 0,
    "frames_per_second": 12.0,
    "step_ms_p50": 6.1,
    "step_ms_p95": 14.2,
    "frames_per_step": 1.4,
    "frame_age_ms_p50": 11.3,
    "frame_age_ms_p95": 40.9,
    "utilization": 0.08,
    "tokens_per_second": 3.5,
    "uptime_s": 3600.0,
}


class ServerStatistics(ServerModel):
    """The load of the server over the last ten seconds, of all sessions together.

    ``queued`` is the number of clients that wait for a session. A step of the engine scores ``frames_per_step`` frames of
    different sessions at once. The age of a frame is the time from its arrival to its scores. ``utilization`` is the share of
    the engine's time for live streams. ``tokens_per_second`` counts replies when they end. Without frames, ages are null.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    sessions: int
    max_sessions: int
    queued: int = 0
    frames_per_second: float
    step_ms_p50: float | None = None
    step_ms_p95: float | None = None
    frames_per_step: float | None = None
    frame_age_ms_p50: float | None = None
    frame_age_ms_p95: float | None = None
    utilization: float
    tokens_per_second: float
    uptime_s: float
