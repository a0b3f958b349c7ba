"""What a server counts and measures, for Prometheus; vLLM's names where the meaning is the same, ``mmduet:`` for the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mmduet.protocol.server_events import FrameDropped, ResponseDone, ResponseTold, ServerEvent

AGES = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0)
STEPS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
REASONS = ("late", "rate", "decode_error", "duplicate", "closed")


class Watched(Protocol):
    """What gauges are read from."""

    @property
    def running(self) -> int: ...
    @property
    def kv_used(self) -> int: ...
    @property
    def kv_total(self) -> int: ...


class Metrics:
    """One registry of its own, so that two servers in a process do not share figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.frames_received = self._counter("mmduet:frames_received", "Frames that came")
        self.frames_scored = self._counter("mmduet:frames_scored", "Frames that were watched")
        self.frames_dropped = self._counter("mmduet:frames_dropped", "Frames that were not", ("reason",))
        self.frame_age = self._histogram("mmduet:frame_age_seconds", "From a frame's coming to its scores", AGES)
        self.step_time = self._histogram("mmduet:step_time_seconds", "One step of the engine", STEPS)
        self.batch_size = self._histogram(
            "mmduet:step_sessions", "Sessions served by a step", (1, 2, 4, 8, 16, 32, 64, 128)
        )
        self.sessions_total = self._counter("mmduet:sessions", "Sessions that were opened")
        self.replies = self._counter("vllm:request_success", "Replies that ended", ("finished_reason",))
        self.first_token = self._histogram(
            "vllm:time_to_first_token_seconds", "From a reply's frame to its words", AGES
        )
        self.tokens = self._counter("vllm:generation_tokens", "Tokens written")
        self.speak = self._counter("mmduet:frames_spoken", "Frames that set off a reply")

    def stepped(self, seconds: float, sessions: int) -> None:
        """The engine made a step; called by its thread."""
        self.step_time.observe(seconds)
        self.batch_size.observe(sessions)

    def scored(self, age: float, speak: bool) -> None:
        """A frame was watched, ``age`` seconds after it came."""
        self.frames_scored.inc()
        self.frame_age.observe(age)
        self.speak.inc(speak)

    def told(self, event: ServerEvent) -> None:
        """A client is told something."""
        match event:
            case FrameDropped():
                self.frames_dropped.labels(event.reason).inc()
            case ResponseDone(response=response):
                self._replied(response)

    def _replied(self, response: ResponseTold) -> None:
        self.replies.labels(response.status).inc()
        if response.usage is not None:
            self.tokens.inc(response.usage.output_tokens)
        timing = response.duet.timing
        if timing is not None and timing.first_delta_ms is not None:
            self.first_token.observe(timing.first_delta_ms / 1000)

    def watch(self, house: Watched) -> None:
        """Read the gauges from ``house``."""
        gauges: tuple[tuple[str, str, Callable[[], float]], ...] = (
            ("vllm:num_requests_running", "Sessions that are open", lambda: house.running),
            ("mmduet:kv_bytes_reserved", "Memory set aside for sessions", lambda: house.kv_used),
            ("mmduet:kv_bytes_total", "Memory there is for sessions", lambda: house.kv_total),
            ("vllm:kv_cache_usage_perc", "Part of it that is set aside", lambda: house.kv_used / house.kv_total),
        )
        for name, text, read in gauges:
            Gauge(name, text, registry=self.registry).set_function(read)
        for reason in REASONS:
            self.frames_dropped.labels(reason)

    def page(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, registry=self.registry, buckets=buckets)
