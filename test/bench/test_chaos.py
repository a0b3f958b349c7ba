"""A short chaos run: hostile clients do not change the results of honest ones, and faults of a server are detected."""

from __future__ import annotations

import asyncio
import os
import re

import pytest
from live_server import jpeg, run_test_server

from mmduet.bench.chaos import ChaosConfig, ChaosReport, run_chaos
from mmduet.bench.chaos.honest_clients import is_same_view
from mmduet.bench.chaos.hostile_clients import HOSTILE_CLIENTS
from mmduet.errors import OptionError

IMAGES = [jpeg(seed) for seed in range(12)]


def test_hostile_clients_do_not_affect_honest_ones() -> None:
    with run_test_server(message_burst=100, messages_per_second=200, send_timeout=0.3, time_to_live=0.5) as served:
        config = ChaosConfig(2, 4, 20.0, 0.12, IMAGES, "What?", seed=3)
        report = asyncio.run(run_chaos(f"127.0.0.1:{served.port}", os.getpid(), config, lambda done: None))
    assert report.iterations >= 2
    assert (report.changed, report.unaccounted, report.losses) == (0, 0, [])
    assert report.frames == report.iterations * len(IMAGES)
    assert sum(report.attacks.values()) >= 4
    assert set(report.attacks) <= set(HOSTILE_CLIENTS)


def test_changed_results_and_faults_are_detected() -> None:
    alone = ((0.5, False), (0.9, True), "a cat")
    assert is_same_view(((0.5004, False), (0.9, True), "a cat"), alone)
    for other in (
        ((0.502, False), (0.9, True), "a cat"),
        ((0.5, True), (0.9, True), "a cat"),
        ((0.5, False), (0.9, True), "a dog"),
        ((0.5, False), "a cat", (0.9, True)),
        alone[:2],
    ):
        assert not is_same_view(other, alone)
    faulty = ChaosReport(
        iterations=1, changed=1, unaccounted=2, losses=["OSError()"], memory_before_mb=100, memory_after_mb=200
    )
    assert faulty.faults == [
        "1 iterations had other results than the client alone",
        "2 frames were not accounted for",
        "honest clients were lost: OSError()",
        "memory grew by 100.0 MiB",
    ]
    assert ChaosReport(iterations=1).faults == []


def test_a_report_keeps_the_names_of_its_file() -> None:
    report = ChaosReport(3, 36, 1, 2, ["OSError()"], {"garbage": 4}, 100.0, 101.0)
    assert report.to_dict() == {
        "laps": 3,
        "frames": 36,
        "changed": 1,
        "unaccounted": 2,
        "losses": ["OSError()"],
        "villainy": {"garbage": 4},
        "memory_before_mb": 100.0,
        "memory_after_mb": 101.0,
        "faults": report.faults,
    }


@pytest.mark.parametrize(("honest", "fps", "minutes"), [(0, 2.0, 1.0), (1, 0.0, 1.0), (1, 2.0, 0.0)])
def test_runs_without_clients_frames_or_duration_are_rejected(honest: int, fps: float, minutes: float) -> None:
    message = f"honest clients, minutes and fps must be greater than 0, got {honest}, {minutes}, {fps}"
    with pytest.raises(OptionError, match=re.escape(message)):
        ChaosConfig(honest, 1, fps, minutes, IMAGES, "?")
