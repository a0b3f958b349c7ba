"""The chaos benchmark in small: hostile clients change no result of the others, and a wrong server is detected."""

from __future__ import annotations

import asyncio
import os

import pytest
from live_server import jpeg, run_test_server

from mmduet.bench.chaos import HOSTILE_CLIENTS, ChaosConfig, ChaosReport, is_same_view, run_chaos
from mmduet.errors import OptionError

PICTURES = [jpeg(seed) for seed in range(12)]


def test_nothing_that_villains_do_reaches_the_honest() -> None:
    with run_test_server(message_burst=100, messages_per_second=200, send_timeout=0.3, time_to_live=0.5) as served:
        plot = ChaosConfig(2, 4, 20.0, 0.12, PICTURES, "What?", seed=3)
        report = asyncio.run(run_chaos(f"127.0.0.1:{served.port}", os.getpid(), plot, lambda done: None))
    assert report.iterations >= 2
    assert (report.changed, report.unaccounted, report.losses) == (0, 0, [])
    assert report.frames == report.iterations * len(PICTURES)
    assert sum(report.attacks.values()) >= 4
    assert set(report.attacks) <= set(HOSTILE_CLIENTS)


def test_what_is_told_otherwise_is_noticed() -> None:
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
    assert len(faulty.faults) == 4
    assert ChaosReport(iterations=1).faults == []


def test_plots_that_prove_nothing_are_refused() -> None:
    with pytest.raises(OptionError):
        ChaosConfig(0, 1, 2.0, 1.0, PICTURES, "?")
