"""Disturbances of a chaos run: what they do is real, they are refused where they could harm others, and faults are detected."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from live_server import RunningServer, jpeg, run_test_server
from typer.testing import CliRunner

from mmduet.bench.chaos.clock import ClockJumps, fake_clock_environment
from mmduet.bench.chaos.disk import BALLAST_NAME, BlockedDisk, FullDisk
from mmduet.bench.chaos.observer import ServerObserver, check_log
from mmduet.bench.chaos.setup import DisturbanceOptions
from mmduet.bench.chaos.source import Camera, CameraOutages
from mmduet.bench.server_process import server_process
from mmduet.cli.main import app
from mmduet.errors import OptionError

IMAGES = [jpeg(seed) for seed in range(12)]
SOURCES = {"pull_hosts": "127.0.0.1", "pull_networks": "127.0.0.0/8"}
MOUNT = "mount tests need root"


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB in memory, for tests that run as root."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = os.geteuid() == 0 and shutil.which("mount") is not None
    if (
        not mounted
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=False).returncode
    ):
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def server() -> Iterator[RunningServer]:
    with run_test_server(**SOURCES) as running:
        yield running


def url_of(server: RunningServer) -> str:
    return f"127.0.0.1:{server.port}"


def test_a_large_file_system_is_neither_filled_nor_frozen(tmp_path: Path) -> None:
    for disturbance in (FullDisk, BlockedDisk):
        with pytest.raises(OptionError, match="may be used by others; mount one of at most 1024 MiB"):
            disturbance(tmp_path)
    with pytest.raises(OptionError, match="needs a journal"):
        DisturbanceOptions(full_disk=True)
    result = CliRunner().invoke(app, ["bench", "chaos", "--all-faults", "--journal", str(tmp_path)])
    assert isinstance(result.exception, OptionError)


def test_a_full_disk_has_no_room_until_it_is_emptied(small_file_system: Path) -> None:
    disk = FullDisk(small_file_system, pause_seconds=0.1, hold_seconds=0.3)

    async def watch() -> list[int]:
        free = []
        running = asyncio.create_task(disk.run(monotonic() + 1))
        while not running.done():
            stats = os.statvfs(small_file_system)
            free.append(stats.f_bavail * stats.f_frsize)
            await asyncio.sleep(0.01)
        return free

    free = asyncio.run(watch())
    assert min(free) == 0
    assert max(free) > 3 << 20
    assert disk.times >= 1
    assert not (small_file_system / BALLAST_NAME).exists()


def test_a_session_on_a_camera_survives_its_death(server: RunningServer) -> None:
    source = CameraOutages(url_of(server), None, Camera(IMAGES, 10.0), 1, up_seconds=0.3, down_seconds=0.3)
    asyncio.run(source.run(monotonic() + 2.5))
    assert source.faults == []
    assert source.outages >= 1
    figures = source.to_dict()["frames"]
    assert figures["received"] == figures["scored"] + figures["dropped"] > 0


def test_a_session_that_is_lost_with_its_camera_is_a_fault() -> None:
    with run_test_server() as server:  # may not read the camera
        source = CameraOutages(url_of(server), None, Camera(IMAGES, 10.0), 1)
        asyncio.run(source.run(monotonic() + 1))
    assert source.faults[0].startswith("a session on a source was lost")


def test_the_server_is_observed(server: RunningServer) -> None:
    observer = ServerObserver(url_of(server))
    asyncio.run(observer.run(monotonic() + 0.3))
    assert observer.faults == []
    assert observer.to_dict()["health_ms_p50"] > 0
    assert ServerObserver(url_of(server), seconds=[6.0]).faults == ["/health took 6.0 s"]
    disk = ServerObserver(url_of(server), True, [0.1], [0, 0, 0])
    assert disk.faults == ["no session was reported as not journaled"]
    disk.not_journaled = [0, 3, 3]
    assert disk.faults == ["sessions were not journaled again after the last disturbance"]
    disk.not_journaled = [0, 3, 0, 0]
    assert disk.faults == []


def test_tracebacks_and_lines_that_are_not_json_are_faults(tmp_path: Path) -> None:
    log = tmp_path / "log"
    entries = [{"level": "info", "message": "opened"}, {"level": "error", "message": "failed", "error": "Traceback"}]
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert check_log(log) == ({"lines": {"error": 1, "info": 1}}, ["the log has a traceback: failed (1 times)"])
    log.write_text("Fatal error\n")
    assert check_log(log)[1] == ["a line of the log is not JSON: Fatal error (1 times)"]


@pytest.mark.slow
def test_clock_jumps_reach_the_server(tmp_path: Path) -> None:
    try:
        environment = fake_clock_environment(tmp_path / "clock")
    except OptionError:
        pytest.skip("needs libfaketime")
    with server_process("--model", "random:tiny", environment=environment, log=tmp_path / "log") as (url, _):
        clock = ClockJumps(url, None, tmp_path / "clock", pause_seconds=0.1)
        asyncio.run(clock.run(monotonic() + 1))
    assert clock.faults == []
    assert clock.jumps >= 1
    assert clock.rejected_after == {"+3600 s": 1}


@pytest.mark.slow
def test_all_disturbances_together(tmp_path: Path, small_file_system: Path) -> None:
    report = tmp_path / "report.json"
    arguments = ["--minutes", "1.5", "--honest", "3", "--villains", "2", "--journal", str(small_file_system)]
    switches = ["--full-disk", "--dying-source", "--key-limits", "--clock-jumps"]
    result = CliRunner().invoke(app, ["bench", "chaos", *arguments, *switches, "--json", str(report)])
    assert result.exit_code == 0, result.output
    figures = json.loads(report.read_text())
    assert figures["faults"] == []
    assert figures["laps"] >= 3
    assert min(figures["full_disk"]["times"], figures["clock_jumps"]["jumps"], figures["dying_source"]["outages"]) >= 1
