"""The chaos plot on a small stage: honest clients are told what they would be told alone, and a lying server is found out."""

from __future__ import annotations

import asyncio
import os

import pytest
from served import jpeg, serving

from mmduet.bench.chaos import VILLAINS, Plot, Report, chaos, same
from mmduet.errors import OptionError

PICTURES = [jpeg(seed) for seed in range(12)]


def test_nothing_that_villains_do_reaches_the_honest() -> None:
    with serving(message_burst=100, messages_per_second=200, send_timeout=0.3, time_to_live=0.5) as served:
        plot = Plot(2, 4, 20.0, 0.12, PICTURES, "What?", seed=3)
        report = asyncio.run(chaos(f"127.0.0.1:{served.port}", os.getpid(), plot, lambda done: None))
    assert report.laps >= 2
    assert (report.changed, report.unaccounted, report.losses) == (0, 0, [])
    assert report.frames == report.laps * len(PICTURES)
    assert sum(report.villainy.values()) >= 4
    assert set(report.villainy) <= set(VILLAINS)


def test_what_is_told_otherwise_is_noticed() -> None:
    alone = ((0.5, False), (0.9, True), "a cat")
    assert same(((0.5004, False), (0.9, True), "a cat"), alone)
    for other in (
        ((0.502, False), (0.9, True), "a cat"),
        ((0.5, True), (0.9, True), "a cat"),
        ((0.5, False), (0.9, True), "a dog"),
        ((0.5, False), "a cat", (0.9, True)),
        alone[:2],
    ):
        assert not same(other, alone)
    faulty = Report(laps=1, changed=1, unaccounted=2, losses=["OSError()"], memory_before_mb=100, memory_after_mb=200)
    assert len(faulty.faults) == 4
    assert Report(laps=1).faults == []


def test_plots_that_prove_nothing_are_refused() -> None:
    with pytest.raises(OptionError):
        Plot(0, 1, 2.0, 1.0, PICTURES, "?")
