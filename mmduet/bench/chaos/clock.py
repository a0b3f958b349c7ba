"""Make the server's wall clock jump, with libfaketime; the machine's clock and the server's monotonic clock are not changed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from time import monotonic, time
from typing import Any

import httpx2

from mmduet.bench.chaos.disturbance import server_root, sleep_until
from mmduet.errors import OptionError

JUMPS_SECONDS = (3600, 0, -3600, 0)
READ_SECONDS = 3.0  # within which libfaketime notices a change of its file
TOLERANCE_SECONDS = 120.0  # more than a client secret is valid, less than a jump
LIBRARY_PATTERNS = (
    "lib/*/faketime/libfaketimeMT.so.1",
    "lib*/faketime/libfaketimeMT.so.1",
    "local/lib/faketime/libfaketimeMT.so.1",
)


def fake_clock_environment(file: Path) -> Mapping[str, str]:
    """Return the environment of a process whose clock differs from the machine's by the seconds in ``file``.

    Raises ``OptionError`` without libfaketime.
    """
    found = [path for pattern in LIBRARY_PATTERNS for path in sorted(Path("/usr").glob(pattern))]
    if not found or not sys.platform.startswith("linux"):
        raise OptionError("clock jumps need libfaketime on Linux; install it (Debian: apt-get install faketime)")
    _write_offset(file, 0)
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",  # otherwise every query of a clock waits for a semaphore
        "FAKETIME_CACHE_DURATION": "1",
    }


@dataclass
class ClockJumps:
    """Set the server's clock an hour forward, back, an hour backward, and back again, every ``pause_seconds``.

    After each jump a new client secret must be accepted, and its time of expiry must show that the clock has jumped.
    """

    url: str
    key: str | None
    file: Path
    pause_seconds: float = 12.0
    jumps: int = 0
    rejected_after: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    name = "clock_jumps"
    observes = False

    async def run(self, end: float) -> None:
        """Jump repeatedly; the clock is right at the end."""
        async with httpx2.AsyncClient(base_url=server_root(self.url), timeout=30.0) as client:
            try:
                for offset in cycle(JUMPS_SECONDS):
                    if not await sleep_until(monotonic() + self.pause_seconds, end):
                        break
                    await self._jump(client, offset)
            except httpx2.HTTPError as error:
                self.faults.append(f"a request after a clock jump failed: {error}")
            finally:
                _write_offset(self.file, 0)
                await asyncio.sleep(READ_SECONDS)
        if not self.jumps:
            self.faults.append("the clock never jumped; run longer")

    async def _jump(self, client: httpx2.AsyncClient, offset: int) -> None:
        older, _ = await self._create_secret(client)
        _write_offset(self.file, offset)
        await asyncio.sleep(READ_SECONDS)
        self.jumps += 1
        secret, expires_at = await self._create_secret(client)
        if abs(expires_at - (time() + offset)) > TOLERANCE_SECONDS:
            self.faults.append(
                f"a client secret expires {expires_at - time():.0f} s from now after a jump of {offset} s"
            )
        if not await _is_accepted(client, secret):
            self.faults.append(f"a new client secret was rejected after a jump to {offset:+} s")
        if not await _is_accepted(client, older):
            name = f"{offset:+} s"
            self.rejected_after[name] = self.rejected_after.get(name, 0) + 1

    async def _create_secret(self, client: httpx2.AsyncClient) -> tuple[str, float]:
        headers = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        response = await client.post("/v1/realtime/client_secrets", headers=headers)
        response.raise_for_status()
        values = response.json()
        return str(values["value"]), float(values["expires_at"])

    def to_dict(self) -> dict[str, Any]:
        """Return the number of jumps, and of older client secrets that were rejected after them, by the new offset."""
        return {"jumps": self.jumps, "older_secrets_rejected_at": dict(self.rejected_after)}


async def _is_accepted(client: httpx2.AsyncClient, secret: str) -> bool:
    response = await client.get("/v1/sessions", headers={"Authorization": f"Bearer {secret}"})
    return response.status_code == httpx2.codes.OK


def _write_offset(file: Path, seconds: int) -> None:
    part = file.with_suffix(".part")
    part.write_text(f"{seconds:+}")
    part.replace(file)
