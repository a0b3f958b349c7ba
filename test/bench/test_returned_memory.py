"""The measurement of memory that a server returns."""

from __future__ import annotations

import asyncio
import os

import pytest
from live_server import jpeg, run_test_server, wait_for
from typer.testing import CliRunner

from mmduet.bench.returned_memory import ReturnedMemory, measure_returned_memory
from mmduet.cli.main import app


def test_memory_that_is_not_returned_is_a_fault() -> None:
    assert ReturnedMemory(300, 400, 450, (1700, 1700, 1700), (480, 470, 485)).faults == []
    faults = ReturnedMemory(300, 400, 450, (1700, 1700, 1700), (500, 505, 520)).faults
    assert faults == [
        "500 MiB after the first round, 450 after the warm-up",
        "520 MiB after the last round, 500 after the first",
    ]


def test_sessions_are_open_at_the_same_time() -> None:
    images, reports = [jpeg(0), jpeg(1)], []
    with run_test_server(max_sessions=40) as served:
        result = asyncio.run(
            measure_returned_memory(
                f"127.0.0.1:{served.port}", os.getpid(), 3, 2, images, lambda *done: reports.append(done), 0.1
            )
        )
        wait_for(lambda: not served.manager.sessions)
    assert len(result.open_mb) == len(result.rounds_mb) == 2
    assert min(result.start_mb, result.warm_up_mb, *result.open_mb, *result.rounds_mb) > 50
    assert reports == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.slow
def test_a_server_returns_the_memory_of_closed_sessions() -> None:
    result = CliRunner().invoke(app, ["bench", "memory"])
    assert result.exit_code == 0, result.output
