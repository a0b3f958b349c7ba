"""Measurements of a server: the load generator, the overhead, connection churn, and the server process they use."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest
from duet_rig import lively_model
from live_server import jpeg, run_test_server, wait_for

from mmduet.bench.connection_churn import ConnectionChurn, measure_connection_churn
from mmduet.bench.overhead import Overhead, measure_overhead
from mmduet.bench.overload import OverloadResult, measure_overload
from mmduet.bench.serve import Load, ServeResult, find_max_streams, measure_load
from mmduet.bench.server_process import server_process
from mmduet.engine import Engine
from mmduet.errors import OptionError, ServerError

IMAGES = [jpeg(seed) for seed in range(8)]


def test_every_frame_of_a_small_load_is_counted() -> None:
    with run_test_server() as served:
        result = measure_load(f"127.0.0.1:{served.port}", Load(3, 5.0, 2.0, "What?"), IMAGES)
    assert result.frames == 3 * 8  # ten frames each, the first two of them warm-up
    assert (result.late, result.other_drops, result.unaccounted) == (0, 0, 0)
    assert 0 < result.age_p50 <= result.age_p99
    assert result.load.streams == 3


@pytest.mark.slow
def test_an_overloaded_server_does_not_hold_the_load() -> None:
    model = lively_model()
    forward = model.network.features

    def slow(pixels: object) -> object:
        import time

        time.sleep(0.4)
        return forward(pixels)  # type: ignore[arg-type]

    model.network.features = slow  # type: ignore[method-assign,assignment]
    with run_test_server(model, max_waiting_frames=2) as served:
        result = measure_load(f"127.0.0.1:{served.port}", Load(1, 10.0, 2.0, None), IMAGES)
    assert not result.held
    assert result.late > 0
    assert result.unaccounted == 0


def test_the_largest_held_number_of_streams_is_bisected() -> None:
    tried = []

    def measure(load: Load) -> ServeResult:
        tried.append(load.streams)
        return ServeResult(load, 10, int(load.streams > 11), 0, 0, 1.0, 2.0, 0, 1.0, 1.0)

    best = find_max_streams(Load(2, 2.0, 2.0, None), measure)
    assert best is not None
    assert best.load == Load(11, 2.0, 2.0, None)
    assert tried == [2, 4, 8, 16, 12, 10, 11]


def test_no_number_of_streams_is_found_if_a_single_stream_is_not_held() -> None:
    def measure(load: Load) -> ServeResult:
        return ServeResult(load, 1, 1, 0, 0, 1.0, 1.0, 0, 1.0, 1.0)

    assert find_max_streams(Load(1, 2.0, 2.0, None), measure) is None


@pytest.mark.parametrize("invalid", [(0, 2.0, 5.0), (1, 0.0, 5.0), (1, 2.0, 1.0), (1, float("nan"), 5.0)])
def test_loads_out_of_range_are_rejected(invalid: tuple) -> None:
    message = "a load needs at least 1 stream, more than 0 frames per second and at least 2 seconds, got {}, {} and {}"
    with pytest.raises(OptionError, match=re.escape(message.format(*invalid))):
        Load(*invalid, None)


@pytest.mark.slow
def test_a_server_process_ends_with_the_block() -> None:
    with server_process("--model", "random:tiny") as (address, pid):
        assert re.fullmatch(r"ws://127\.0\.0\.1:\d+/v1/realtime", address)
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert (b"mmduet" in command, b"serve" in command, pid != os.getpid()) == (True, True, True)
    assert not Path(f"/proc/{pid}").exists()
    with (
        pytest.raises(ServerError, match=r"the server did not start: .* serve .*--port 0 .*wide"),
        server_process("--window", "wide"),
    ):
        pass


def test_the_overhead_of_a_server_is_measured() -> None:
    model = lively_model()
    with run_test_server(model) as served:
        result = measure_overhead(f"127.0.0.1:{served.port}", Engine(model), IMAGES * 5, "What?")
    assert result.frames == 20
    assert 0 < result.step_p50 <= result.step_p99
    assert 0 < result.round_trip_p50 <= result.round_trip_p99
    assert result.overhead_p50 <= result.overhead_p99 < result.round_trip_p99  # the amount depends on the machine


def test_closed_sessions_leak_neither_memory_nor_files() -> None:
    with run_test_server() as served:
        result = asyncio.run(measure_connection_churn(f"127.0.0.1:{served.port}", os.getpid(), 64, IMAGES[0]))
        wait_for(lambda: not served.manager.sessions)
    assert result.connects == 64
    assert result.file_growth <= 4
    leaked = ConnectionChurn(10, 1.0, 1.0, 99.0, 99)
    assert leaked.faults == [
        "memory grew by 99.0 MiB in the second half",
        "99 more files are open than in the middle",
    ]


def test_results_keep_the_names_of_their_files() -> None:
    result = ServeResult(Load(4, 2.0, 20.0, None), 128, 1, 2, 3, 50.0, 90.0, 7, 60.0, 95.0)
    assert result.to_dict() == {
        "streams": 4,
        "fps": 2.0,
        "seconds": 20.0,
        "held": False,
        "frames": 128,
        "late": 1,
        "other_drops": 2,
        "unaccounted": 3,
        "age_p50": 50.0,
        "age_p99": 90.0,
        "replies": 7,
        "first_delta_p50": 60.0,
        "first_delta_p99": 95.0,
    }
    assert Overhead(40, 10.0, 20.0, 8.0, 16.0, 2.0, 4.0).to_dict() == {
        "frames": 40,
        "round_trip_p50": 10.0,
        "round_trip_p99": 20.0,
        "step_p50": 8.0,
        "step_p99": 16.0,
        "overhead_p50": 2.0,
        "overhead_p99": 4.0,
    }
    assert ConnectionChurn(1000, 44.0, 70.0, -4.0, -3).to_dict() == {
        "connects": 1000,
        "milliseconds_p50": 44.0,
        "milliseconds_p99": 70.0,
        "memory_growth_mb": -4.0,
        "file_growth": -3,
        "faults": [],
    }


def test_streams_that_are_refused_are_counted() -> None:
    with run_test_server(max_utilization=1e-6) as served:
        result = measure_overload(f"127.0.0.1:{served.port}", Load(3, 10.0, 2.0, None), IMAGES)
    assert (result.admitted, result.refused, result.dropped) == (1, 2, 0)
    assert 5 <= result.frames <= 10  # those of the second half
    assert 0 < result.age_p50 <= result.age_p99
    assert result.age_p50 <= result.delay_p50
    assert not [fault for fault in result.faults if "dropped" in fault]


def test_results_of_an_overload_name_what_is_wrong() -> None:
    result = OverloadResult(Load(200, 4.0, 20.0, None), 90, 970, 30, 50.0, 1500.0, 60.0, 1600.0)
    assert result.to_dict() == {
        "offered": 200,
        "fps": 4.0,
        "seconds": 20.0,
        "admitted": 90,
        "refused": 110,
        "frames": 970,
        "dropped": 30,
        "dropped_percent": 3.0,
        "age_p50": 50.0,
        "age_p99": 1500.0,
        "delay_p50": 60.0,
        "delay_p99": 1600.0,
        "faults": [
            "one frame in a hundred was scored after more than 1000 ms",
            "more than 2 % of the frames were dropped",
        ],
    }
    assert OverloadResult(Load(2, 4.0, 20.0, None), 0, 0, 0, *[float("nan")] * 4).faults == ["no stream was admitted"]
