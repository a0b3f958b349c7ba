"""Prometheus metrics of a server; vLLM's names where the meaning is the same, the ``mmduet:`` prefix otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mmduet.engine.thread import StepStats
from mmduet.protocol.limits import LimitName
from mmduet.protocol.server_events import DropReason, FrameDropped, Response, ResponseDone, ServerEvent
from mmduet.server.recent_stats import RecentStats

LATENCY_BUCKETS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0)
STEP_BUCKETS_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
BATCH_SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)


class ServerStats(Protocol):
    """The values that the gauges are read from."""

    @property
    def active_count(self) -> int: ...
    @property
    def queued_count(self) -> int: ...
    @property
    def kv_used_bytes(self) -> int: ...
    @property
    def kv_total_bytes(self) -> int: ...
    @property
    def utilization(self) -> float: ...
    @property
    def not_journaled_count(self) -> int: ...


class Metrics:
    """Counters, histograms and gauges in a registry of their own, so that servers in one process do not share them.

    ``recent`` has figures about the last seconds.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.recent = RecentStats()
        self.frames_received = self._counter("mmduet:frames_received", "Frames received")
        self.frames_scored = self._counter("mmduet:frames_scored", "Frames scored by the model")
        self.frames_dropped = self._counter("mmduet:frames_dropped", "Frames dropped, by reason", ("reason",))
        self.frame_age = self._histogram(
            "mmduet:frame_age_seconds", "Time from receiving a frame to its scores", LATENCY_BUCKETS_SECONDS
        )
        self.step_time = self._histogram("mmduet:step_time_seconds", "Duration of an engine step", STEP_BUCKETS_SECONDS)
        self.batch_size = self._histogram("mmduet:step_sessions", "Sessions in an engine step", BATCH_SIZE_BUCKETS)
        self.sessions_total = self._counter("mmduet:sessions", "Sessions opened")
        self.replies = self._counter("vllm:request_success", "Replies finished, by status", ("finished_reason",))
        self.first_token = self._histogram(
            "vllm:time_to_first_token_seconds", "Time from a reply's frame to its first text", LATENCY_BUCKETS_SECONDS
        )
        self.tokens = self._counter("vllm:generation_tokens", "Tokens generated")
        self.key_limits = self._counter(
            "mmduet:key_limit_reached", "How often a limit of a key has taken effect, by limit", ("limit",)
        )
        self.frames_spoken = self._counter("mmduet:frames_spoken", "Frames that triggered a reply")

    def on_step(self, step: StepStats) -> None:
        """Record an engine step; called by the engine's thread."""
        self.recent.on_step(step)
        self.step_time.observe(step.seconds)
        self.batch_size.observe(step.sessions)

    def on_frame_scored(self, age: float, speak: bool) -> None:
        """Record a frame that was scored ``age`` seconds after it was received."""
        self.recent.on_frame_scored(age)
        self.frames_scored.inc()
        self.frame_age.observe(age)
        self.frames_spoken.inc(speak)

    def on_limited(self, name: LimitName) -> None:
        """Record that a limit of a key has taken effect; called by any thread."""
        self.key_limits.labels(name).inc()

    def on_event(self, event: ServerEvent) -> None:
        """Record an event sent to a client."""
        match event:
            case FrameDropped():
                self.frames_dropped.labels(event.reason).inc()
            case ResponseDone(response=response):
                self._on_response_done(response)

    def _on_response_done(self, response: Response) -> None:
        self.replies.labels(response.status).inc()
        if response.usage is not None:
            self.tokens.inc(response.usage.output_tokens)
            self.recent.on_tokens(response.usage.output_tokens)
        timing = response.duet.timing
        if timing is not None and timing.first_delta_ms is not None:
            self.first_token.observe(timing.first_delta_ms / 1000)

    def bind_gauges(self, stats: ServerStats) -> None:
        """Read the gauges from ``stats`` at every scrape."""
        gauges: tuple[tuple[str, str, Callable[[], float]], ...] = (
            ("vllm:num_requests_running", "Active sessions", lambda: stats.active_count),
            ("vllm:num_requests_waiting", "Clients waiting for a session", lambda: stats.queued_count),
            ("mmduet:kv_bytes_reserved", "KV memory reserved by sessions", lambda: stats.kv_used_bytes),
            ("mmduet:kv_bytes_total", "KV memory available to sessions", lambda: stats.kv_total_bytes),
            (
                "mmduet:sessions_not_journaled",
                "Sessions whose journal cannot be written, although there is a journal folder",
                lambda: stats.not_journaled_count,
            ),
            (
                "vllm:kv_cache_usage_perc",
                "Share of the KV memory that is reserved, 0 to 1",
                lambda: stats.kv_used_bytes / stats.kv_total_bytes,
            ),
            (
                "mmduet:utilization",
                "Share of the engine's time for the frames of live sessions, as admission estimates it",
                lambda: stats.utilization,
            ),
        )
        for name, text, read in gauges:
            Gauge(name, text, registry=self.registry).set_function(read)
        for reason in get_args(DropReason):
            self.frames_dropped.labels(reason)
        for limit in get_args(LimitName):
            self.key_limits.labels(limit)

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, registry=self.registry, buckets=buckets)
