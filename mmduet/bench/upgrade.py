"""Upgrade a server under load: start another one on the same journal and port while clients stream, and count what is lost.

Each client counts the outcomes of its frames and the replies that it received. It may neither miss an outcome nor receive an
outcome or a reply twice, and it must be served again within ``MAX_GAP_SECONDS``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmduet.client import RemoteSession
from mmduet.errors import OptionError
from mmduet.protocol import server_events

MAX_GAP_SECONDS = 5.0
REPEAT_SECONDS = 10.0
"""``repeat_window`` of the sessions: stream time in which the same text must not come twice."""


@dataclass(frozen=True)
class UpgradeConfig:
    """``streams`` clients send ``query`` and encoded ``images`` at ``fps``, for ``seconds`` before and after the upgrade."""

    streams: int
    fps: float
    seconds: float
    images: Sequence[bytes]
    query: str

    def __post_init__(self) -> None:
        """Raise ``OptionError`` for values that are out of range."""
        if not (self.streams >= 1 and self.fps > 0 and self.seconds > 0):
            raise OptionError(
                "streams must be at least 1, fps and seconds greater than 0, "
                f"got {self.streams}, {self.fps} and {self.seconds}"
            )


@dataclass
class StreamTally:
    """What one client sent and received. Times are in seconds on the event loop's clock; ``outcomes`` counts them by seq."""

    sent: int = 0
    received: int = 0  # by the server, as reported at the end
    outcomes: Counter[int] = field(default_factory=Counter)
    dropped: int = 0
    responses: Counter[str] = field(default_factory=Counter)  # finished replies by id
    triggers: Counter[int] = field(
        default_factory=Counter
    )  # complete replies by the pts of the frame that triggered them
    repeated_texts: int = 0
    interrupted: int = 0
    scored_at: list[float] = field(default_factory=list)
    go_away_at: float | None = None
    resumed_at: float | None = None
    loss: str | None = None
    _recent_texts: dict[str, float] = field(default_factory=dict)  # stream time in seconds

    def on_event(self, event: Any, now: float) -> None:
        """Count an event that was received at ``now``."""
        match event:
            case server_events.FrameScored():
                self.outcomes[event.seq] += 1
                self.scored_at.append(now)
            case server_events.FrameDropped():
                self.outcomes[event.seq] += 1
                self.dropped += 1
            case server_events.ResponseDone():
                self._on_reply(event.response)
            case server_events.GoAway():
                self.go_away_at = now
            case server_events.SessionResumed() | server_events.ResyncRequired():
                self.resumed_at = now
            case server_events.SessionClosed(frames=frames):
                self.received = frames.get("received", 0)

    def _on_reply(self, response: server_events.Response) -> None:
        self.responses[response.id] += 1
        if response.status == "cancelled":  # cut by the upgrade, and generated again
            self.interrupted += 1
            return
        pts, text = response.duet.trigger_pts or 0, str(response.output[0].content[0]["text"])
        self.triggers[pts] += 1
        self.repeated_texts += pts / 1e6 - self._recent_texts.get(text, float("-inf")) < REPEAT_SECONDS
        self._recent_texts[text] = pts / 1e6

    @property
    def unaccounted(self) -> int:
        """Number of frames that the server did not receive, or that have no outcome or several."""
        return abs(self.sent - self.received) + sum(self.outcomes[seq] != 1 for seq in range(self.sent))

    @property
    def duplicate_replies(self) -> int:
        """Number of replies that were received more than once, or that repeat an earlier one within ``REPEAT_SECONDS``."""
        return sum(count - 1 for count in (self.responses + self.triggers).values() if count > 1) + self.repeated_texts

    @property
    def gap(self) -> float:
        """Seconds from ``session.go_away`` until the session was resumed; NaN if it was not."""
        if self.go_away_at is None or self.resumed_at is None:
            return float("nan")
        return self.resumed_at - self.go_away_at

    @property
    def scoring_gap(self) -> float:
        """Seconds between the last frame scored by the old server and the first one scored by the new; NaN without one."""
        if self.resumed_at is None:
            return float("nan")
        before = [at for at in self.scored_at if at < self.resumed_at]
        after = [at for at in self.scored_at if at >= self.resumed_at]
        return after[0] - before[-1] if before and after else float("nan")


@dataclass(frozen=True)
class UpgradeReport:
    """The outcome of an upgrade; ``exit_status`` is that of the old server."""

    tallies: Sequence[StreamTally]
    exit_status: int

    @property
    def faults(self) -> list[str]:
        """Descriptions of everything that is wrong; empty if nothing was lost."""
        values = self._values()
        losses = [tally.loss for tally in self.tallies if tally.loss is not None]
        late = sum(not tally.gap <= MAX_GAP_SECONDS for tally in self.tallies)
        wrong = {
            f"{values['unaccounted']} frames were not accounted for": values["unaccounted"],
            f"{values['replies_twice']} replies came twice": values["replies_twice"],
            f"{late} streams were not resumed within {MAX_GAP_SECONDS:g} s": late,
            f"streams were lost: {'; '.join(losses)}": losses,
            f"the old server ended with status {self.exit_status}": self.exit_status,
        }
        return [text for text, bad in wrong.items() if bad]

    def _values(self) -> dict[str, int]:
        tallies = self.tallies
        return {
            "streams": len(tallies),
            "frames": sum(tally.sent for tally in tallies),
            "received": sum(tally.received for tally in tallies),
            "scored": sum(len(tally.scored_at) for tally in tallies),
            "dropped": sum(tally.dropped for tally in tallies),
            "unaccounted": sum(tally.unaccounted for tally in tallies),
            "replies": sum(sum(tally.triggers.values()) for tally in tallies),
            "replies_twice": sum(tally.duplicate_replies for tally in tallies),
            "replies_interrupted": sum(tally.interrupted for tally in tallies),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the report under the names of its JSON file."""
        return {
            **self._values(),
            **_summary("gap", [tally.gap for tally in self.tallies]),
            **_summary("scoring_gap", [tally.scoring_gap for tally in self.tallies]),
            "faults": self.faults,
        }


def _summary(name: str, seconds: list[float]) -> dict[str, float]:
    return {f"{name}_p50_s": float(np.percentile(seconds, 50)), f"{name}_max_s": float(np.max(seconds))}


async def measure_upgrade(url: str, config: UpgradeConfig, upgrade: Callable[[], Awaitable[int]]) -> UpgradeReport:
    """Stream to the server at ``url`` while ``upgrade`` replaces it and returns the old one's exit status."""
    stopping = asyncio.Event()
    tallies = [StreamTally() for _ in range(config.streams)]
    clients = [
        asyncio.create_task(_run_client(url, config, number, tally, stopping)) for number, tally in enumerate(tallies)
    ]
    try:
        await asyncio.sleep(config.seconds)
        exit_status = await upgrade()
        await asyncio.sleep(config.seconds)
    finally:
        stopping.set()
        await asyncio.gather(*clients)
    return UpgradeReport(tallies, exit_status)


async def _run_client(
    url: str, config: UpgradeConfig, number: int, tally: StreamTally, stopping: asyncio.Event
) -> None:
    """Stream until ``stopping`` is set. The starts of the streams are spread over the interval between frames."""
    try:
        async with RemoteSession(url) as session:
            await session.update(duet={"fps": None, "speak": {"repeat_window": REPEAT_SECONDS}})
            await session.ask(config.query)
            collecting = asyncio.create_task(_collect_events(session, tally))
            loop = asyncio.get_running_loop()
            start = loop.time() + number / config.streams / config.fps
            while not stopping.is_set():
                await asyncio.sleep(max(start + tally.sent / config.fps - loop.time(), 0))
                image = config.images[(number * 7 + tally.sent) % len(config.images)]
                await session.push(image, tally.sent / config.fps)
                tally.sent += 1
            await session.end()
            await collecting
    except Exception as error:  # noqa: BLE001 - any error counts as the loss of a stream
        tally.loss = repr(error)


async def _collect_events(session: RemoteSession, tally: StreamTally) -> None:
    loop = asyncio.get_running_loop()
    async for event in session:
        tally.on_event(event, loop.time())
