"""Start the server of a chaos run with the settings that its disturbances need."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmduet.bench.chaos.clock import ClockJumps, fake_clock_environment
from mmduet.bench.chaos.disk import BlockedDisk, FullDisk
from mmduet.bench.chaos.disturbance import Disturbance
from mmduet.bench.chaos.observer import ServerObserver, check_log
from mmduet.bench.chaos.source import Camera, CameraOutages
from mmduet.bench.server_process import server_process
from mmduet.errors import OptionError

KEY, HOSTILE_KEY = "well-behaved", "hostile"
SPARE_SESSIONS = 8
"""Sessions per key beyond the number of clients: an iteration opens its session before that of the last one is forgotten."""


@dataclass(frozen=True)
class DisturbanceOptions:
    """Which disturbances to run; ``journal`` is the folder of the server's journal."""

    journal: Path | None = None
    full_disk: bool = False
    blocked_disk: bool = False
    clock_jumps: bool = False
    dying_source: bool = False
    key_limits: bool = False

    def __post_init__(self) -> None:
        """Raise ``OptionError`` for a disturbance of the disk without a journal."""
        if self.journal is None and (self.full_disk or self.blocked_disk):
            raise OptionError("a full or blocked disk needs a journal on a small file system; give its folder")


@dataclass(frozen=True)
class DisturbedServer:
    """A running server, its process id, what will disturb it, and its log."""

    url: str
    pid: int
    key: str | None
    hostile_key: str | None
    disturbances: Sequence[Disturbance]
    log: Path

    def check_log(self) -> tuple[dict[str, Any], list[str]]:
        """Return the number of log lines by level, and descriptions of faults."""
        return check_log(self.log)


@contextmanager
def disturbed_server(
    model: Sequence[str], clients: int, images: Sequence[bytes], fps: float, options: DisturbanceOptions
) -> Iterator[DisturbedServer]:
    """Run a server for ``clients`` well-behaved clients. ``model`` are its arguments that choose the model and its device.

    Raises ``OptionError`` if a disturbance is not possible here.
    """
    key, hostile_key = (KEY, HOSTILE_KEY) if options.key_limits else (None, None)
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        disk = _disk_disturbances(options)
        arguments = [*model, "--log-level", "info", "--log-json"]
        if options.journal is not None:
            options.journal.mkdir(parents=True, exist_ok=True)
            journal = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="chaos-", dir=options.journal))
            arguments += ["--journal", journal]  # without the sessions of an earlier run
        environment = {"MMDUET_PULL_HOSTS": "127.0.0.1", "MMDUET_PULL_NETWORKS": "127.0.0.0/8"}
        if options.key_limits:
            environment["MMDUET_KEYS"] = f"{KEY},{HOSTILE_KEY}"
            environment["MMDUET_MAX_SESSIONS_PER_KEY"] = str(clients + SPARE_SESSIONS)
        if options.clock_jumps:
            environment |= fake_clock_environment(folder / "clock")
        log = folder / "server.log"
        with server_process(*arguments, environment=environment, log=log) as (url, pid):
            disturbances: list[Disturbance] = [ServerObserver(url, bool(disk)), *disk]
            if options.clock_jumps:
                disturbances.append(ClockJumps(url, key, folder / "clock"))
            if options.dying_source:
                disturbances.append(CameraOutages(url, key, Camera(images, fps)))
            yield DisturbedServer(url, pid, key, hostile_key, disturbances, log)


def _disk_disturbances(options: DisturbanceOptions) -> list[Disturbance]:
    disk: list[Disturbance] = []
    if options.journal is not None and options.full_disk:
        disk.append(FullDisk(options.journal))
    if options.journal is not None and options.blocked_disk:
        disk.append(BlockedDisk(options.journal))
    return disk
