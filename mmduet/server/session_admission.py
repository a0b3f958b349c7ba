"""Decides whether sessions may open: by memory, limits of keys, and load. Accounts for those that are open."""

from __future__ import annotations

from mmduet.errors import RateLimitError
from mmduet.options import SessionOptions
from mmduet.protocol.session.settings import SessionSettings
from mmduet.server.admission import AdmissionControl
from mmduet.server.async_engine import AsyncEngine
from mmduet.server.kv_budget import KVBudget
from mmduet.server.metrics import Metrics
from mmduet.server.session_load import SessionLoad


class SessionAdmission:
    """The share of each session in the KV memory of ``budget`` and in the engine's time, of which ``load`` keeps account.

    ``max_frame_age`` is the server's, in seconds.
    """

    def __init__(
        self, engine: AsyncEngine, budget: KVBudget, load: AdmissionControl, metrics: Metrics, max_frame_age: float
    ) -> None:
        self.budget, self.load = budget, load
        self._engine, self._metrics, self._max_frame_age = engine, metrics, max_frame_age
        self._default_rate = engine.model_config.recommended.fps
        self._warm = False

    def warm_up(self) -> None:
        """Run the model and measure its first steps, unless that was done. Call it before the engine's thread is started."""
        if not self._warm:
            self._warm = True
            for seconds, frames in self._engine.warm_up():
                self.load.step_cost.on_step(seconds, frames)

    @property
    def free_sessions(self) -> int:
        """Return how many more sessions with default settings would be admitted at once."""
        return self.load.free_sessions(self._default_rate, self._max_frame_age, self.budget.free_sessions)

    def check_load(self, settings: SessionSettings) -> None:
        """Raise ``CapacityError`` if the frames of another session with these settings would be scored too late."""
        self.load.check(settings.fps or self._default_rate, self._age_limit(settings))

    def reserve(self, session_id: str, settings: SessionSettings, owner: str, *, restored: bool = False) -> SessionLoad:
        """Reserve memory for a session, or change its reservation, and return what records its load.

        Raises as ``reserve_memory`` does.
        """
        self.reserve_memory(session_id, settings.options, owner, restored=restored)
        return self.track(session_id, settings)

    def reserve_memory(self, session_id: str, options: SessionOptions, owner: str, *, restored: bool = False) -> None:
        """Reserve memory. Raises as ``KVBudget.reserve`` does, and for options that the engine rejects."""
        self._engine.check(options)
        try:
            self.budget.reserve(session_id, self._engine.slot_bytes(options), owner, restored=restored)
        except RateLimitError:
            self._metrics.on_limited("sessions")
            raise

    def track(self, session_id: str, settings: SessionSettings) -> SessionLoad:
        """Count a session's load. What a client sets must not close admission, so only low rates are believed."""
        rate = min(settings.fps or self._default_rate, self._default_rate)
        return self.load.open(session_id, rate, self._age_limit(settings))

    def release(self, session_id: str) -> None:
        """Release what a session has reserved; do nothing if it has nothing."""
        self.load.close(session_id)
        self.budget.release(session_id)

    def _age_limit(self, settings: SessionSettings) -> float | None:
        return None if settings.max_frame_age is None else self._max_frame_age
