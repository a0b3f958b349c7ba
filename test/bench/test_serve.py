"""The load generator counts what a server tells, and notices a server that cannot keep up."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from duet_rig import lively_model
from live_server import jpeg, run_test_server, wait_for

from mmduet.bench.connection_churn import ConnectionChurn, measure_connection_churn
from mmduet.bench.overhead import measure_overhead
from mmduet.bench.serve import Load, ServeResult, find_max_streams, measure_load
from mmduet.bench.server_process import server_process
from mmduet.engine import Engine
from mmduet.errors import OptionError, ServerError

PICTURES = [jpeg(seed) for seed in range(8)]


def test_a_small_load_is_counted_frame_by_frame() -> None:
    with run_test_server() as served:
        result = measure_load(f"127.0.0.1:{served.port}", Load(3, 5.0, 2.0, "What?"), PICTURES)
    assert result.frames == 3 * 8  # ten frames each, the first two of them warm-up
    assert (result.late, result.other_drops, result.unaccounted) == (0, 0, 0)
    assert 0 < result.age_p50 <= result.age_p99
    assert result.to_dict()["streams"] == 3


def test_a_server_that_cannot_keep_up_is_found_out() -> None:
    model = lively_model()
    forward = model.network.features

    def slow(pixels: object) -> object:
        import time

        time.sleep(0.4)
        return forward(pixels)  # type: ignore[arg-type]

    model.network.features = slow  # type: ignore[method-assign,assignment]
    with run_test_server(model, max_waiting_frames=2) as served:
        result = measure_load(f"127.0.0.1:{served.port}", Load(1, 10.0, 2.0, None), PICTURES)
    assert not result.held
    assert result.late > 0
    assert result.unaccounted == 0


def test_the_most_is_searched_for_between_held_and_not(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fake(url: str, load: Load, pictures: object, key: object = None) -> ServeResult:
        tried.append(load.streams)
        late = int(load.streams > 11)
        return ServeResult(load, 10, late, 0, 0, 1.0, 2.0, 0, 1.0, 1.0)

    monkeypatch.setattr("mmduet.bench.serve.measure_load", fake)
    best = find_max_streams("x", Load(2, 2.0, 2.0, None), PICTURES, None, lambda result: None)
    assert best is not None
    assert best.load.streams == 11
    assert tried == [2, 4, 8, 16, 12, 10, 11]
    monkeypatch.setattr(
        "mmduet.bench.serve.measure_load", lambda *a: ServeResult(a[1], 1, 1, 0, 0, 1.0, 1.0, 0, 1.0, 1.0)
    )
    assert find_max_streams("x", Load(1, 2.0, 2.0, None), PICTURES, None, lambda result: None) is None


@pytest.mark.parametrize("wrong", [(0, 2.0, 5.0), (1, 0.0, 5.0), (1, 2.0, 1.0), (1, float("nan"), 5.0)])
def test_loads_that_measure_nothing_are_refused(wrong: tuple) -> None:
    with pytest.raises(OptionError):
        Load(*wrong, None)


def test_a_server_in_its_own_process(tmp_path: Path) -> None:
    with server_process("--model", "random:tiny") as (address, pid):
        assert address.startswith("ws://127.0.0.1:")
        assert Path(f"/proc/{pid}").exists()
    with pytest.raises(ServerError, match="did not start"), server_process("--model", str(tmp_path / "none")):
        pass


def test_what_a_server_adds_to_the_engine_is_measured() -> None:
    model = lively_model()
    with run_test_server(model) as served:
        result = measure_overhead(f"127.0.0.1:{served.port}", Engine(model), PICTURES * 5, "What?")
    assert result.frames == 20
    assert 0 < result.step_p50 <= result.step_p99
    assert 0 < result.round_trip_p50 <= result.round_trip_p99
    assert (
        result.overhead_p50 <= result.overhead_p99 < result.round_trip_p99
    )  # how much it is a busy machine cannot tell


def test_clients_that_come_and_go_leave_nothing_behind() -> None:
    with run_test_server() as served:
        result = asyncio.run(measure_connection_churn(f"127.0.0.1:{served.port}", os.getpid(), 64, PICTURES[0]))
        wait_for(lambda: not served.manager.sessions)
    assert result.connects == 64
    assert result.file_growth <= 4
    leaked = ConnectionChurn(10, 1.0, 1.0, 99.0, 99)
    assert len(leaked.faults) == 2
