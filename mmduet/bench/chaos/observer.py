"""Observe the server during a chaos run: how fast it answers, its metrics and its log."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import httpx2
import numpy as np

from mmduet.bench.chaos.disturbance import server_root

PROBE_SECONDS = 0.5
MAX_HEALTH_SECONDS = 5.0
"""Longest acceptable time of a probe of ``/health``: it answers as long as the event loop is not blocked."""
NOT_JOURNALED = re.compile(r"^mmduet:sessions_not_journaled (\S+)$", re.MULTILINE)


@dataclass
class ServerObserver:
    """Probe ``/health`` and ``/metrics`` twice per second.

    With ``expect_journal_problems``, sessions without journal must have been reported, and none may be left at the end.
    """

    url: str
    expect_journal_problems: bool = False
    seconds: list[float] = field(default_factory=list)
    not_journaled: list[int] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    name = "server"
    observes = True

    async def run(self, end: float) -> None:
        """Probe until the end."""
        async with httpx2.AsyncClient(base_url=server_root(self.url), timeout=30.0) as client:
            while monotonic() < end:
                try:
                    await self._probe(client)
                except httpx2.HTTPError as error:
                    self.failures[type(error).__name__] += 1
                await asyncio.sleep(PROBE_SECONDS)

    async def _probe(self, client: httpx2.AsyncClient) -> None:
        start = monotonic()
        (await client.get("/health")).raise_for_status()
        self.seconds.append(monotonic() - start)
        page = await client.get("/metrics")
        found = NOT_JOURNALED.search(page.raise_for_status().text)
        if found is not None:
            self.not_journaled.append(round(float(found[1])))

    @property
    def faults(self) -> list[str]:
        """Return what was wrong with the answers."""
        wrong = {
            f"probes failed: {dict(self.failures)}": self.failures,
            "the server was never probed": not self.seconds,
            f"/health took {max(self.seconds, default=0):.1f} s": max(self.seconds, default=0) > MAX_HEALTH_SECONDS,
        }
        if self.expect_journal_problems:
            wrong["no session was reported as not journaled"] = not any(self.not_journaled)
            wrong["sessions were not journaled again after the last disturbance"] = any(self.not_journaled[-2:])
        return [text for text, bad in wrong.items() if bad]

    def to_dict(self) -> dict[str, Any]:
        """Return the times of ``/health`` and the largest number of sessions that were not journaled."""
        times = np.array(self.seconds or [0.0])
        return {
            "health_ms_p50": 1000 * float(np.percentile(times, 50)),
            "health_ms_p99": 1000 * float(np.percentile(times, 99)),
            "health_ms_max": 1000 * float(times.max()),
            "max_sessions_not_journaled": max(self.not_journaled, default=0),
        }


def check_log(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the number of lines of a log in JSON by level, and descriptions of lines that it must not have."""
    levels, errors = Counter[str](), Counter[str]()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            levels[entry["level"]] += 1
        except (ValueError, KeyError, TypeError):
            errors[f"a line of the log is not JSON: {line[:120]}"] += 1
            continue
        if "error" in entry:  # a traceback
            errors[f"the log has a traceback: {entry['message'][:120]}"] += 1
    return {"lines": dict(sorted(levels.items()))}, [f"{text} ({count} times)" for text, count in errors.items()]
