"""The measurement of the engine: what streams do in a round, what a report holds, and how operations are recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from duet_rig import endless_model

from mmduet.bench.engine.arguments import build_parser, main, parse_options
from mmduet.bench.engine.frames import FramePool, reply_indices
from mmduet.bench.engine.limits import MachineLimit, StepLoad, frame_load, lm_operations, token_load
from mmduet.bench.engine.measurement import open_streams
from mmduet.bench.engine.operations import OperationRecorder
from mmduet.bench.engine.options import EngineBenchOptions, parse_references, parse_streams, parse_window
from mmduet.bench.engine.profile import count_operations
from mmduet.bench.engine.report import format_table
from mmduet.bench.engine.run import Extras, run_engine_bench
from mmduet.bench.engine.stages import find_stage
from mmduet.bench.engine.streams import StepRecord
from mmduet.engine import Engine
from mmduet.errors import OptionError
from mmduet.model.presets import SHAPES, random_model

TINY = EngineBenchOptions(
    model="random:tiny",
    streams=(3,),
    frames=6,
    rounds=2,
    warm_up=1,
    window=2,
    speak_rate=0.4,
    tokens_per_reply=3,
    threads=1,
)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return run_engine_bench(TINY, Extras(operations=True, profile=True))


def test_every_stream_scores_its_frames_and_replies() -> None:
    engine = Engine(endless_model())
    streams = open_streams(engine, TINY, FramePool(engine, "pixels"), 3)
    record = streams.run(frames=5, replies=2)
    assert record.frames == 15
    assert sum(step.frames for step in record.steps) == 15
    assert sum(step.sampled for step in record.steps) == 3 * 2 * TINY.tokens_per_reply
    assert len(record.first_token_seconds) == 6
    assert all(0 < seconds < record.seconds for seconds in record.first_token_seconds)
    assert sum(step.seconds for step in record.steps) <= record.seconds
    assert {step.streams for step in record.steps} == {3}  # no stream waits, because all do the same amount of work
    assert "mixed" in {step.kind for step in record.steps}
    assert [type(output).__name__ for output in streams.outputs(0)].count("Reply") == 2
    streams.close()
    assert not engine.busy


@pytest.mark.parametrize(("frames", "replies"), [(8, 2), (5, 5), (7, 3), (4, 0)])
def test_replies_are_distributed_evenly(frames: int, replies: int) -> None:
    for phase in (0.0, 0.3, 0.99):
        indices = sorted(reply_indices(frames, replies, phase))
        assert len(indices) == replies
        assert all(0 <= index < frames for index in indices)
    if replies > 1:
        assert max(b - a for a, b in pairwise(indices)) <= frames / replies + 1


def test_streams_see_different_frames_in_the_order_of_time() -> None:
    engine = Engine(endless_model())
    pool = FramePool(engine, "embeds", seed=1)
    first, second, other = pool.frame(0, 0), pool.frame(0, 1), pool.frame(1, 0)
    assert (first.frame.index, second.frame.index) == (0, 1)
    assert first.frame.time < second.frame.time
    tokens = [frame.embeds for frame in (first, second, other)]
    assert all(rows is not None and rows.shape == (engine.model.config.frame_tokens, 48) for rows in tokens)
    assert len({float(rows.sum()) for rows in tokens if rows is not None}) == 3


def test_report_has_all_figures(report: dict[str, Any]) -> None:
    (run,) = report["runs"]
    assert run["batch_occupancy"] == pytest.approx(1.0)
    for name in ("paper", "tight"):
        reference = run["references"][name]
        assert reference["score_difference"] < 1e-4
        assert reference["equal_replies"] == reference["replies"] >= 1
        assert run["ratios"][name]["min"] <= run["ratios"][name]["median"] <= run["ratios"][name]["max"]
    assert run["frame_step"]["fraction_of_limit"] < 1
    assert run["first_token_ms"]["p50"] <= run["first_token_ms"]["p99"]
    assert report["limit"]["gemm_flops"] > 0
    assert set(run["steps"][0]) == {"streams", "frames", "tokens", "sampled", "seconds"}
    assert json.loads(json.dumps(report)) == report
    assert "3" in format_table(report["runs"]).splitlines()[1]


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [({"quantized": "fp8", "quantized_tower": "fp8"}, 1e-4), ({"kv_dtype": "fp8"}, 0.2)],
)
def test_quantized_engine_is_measured_next_to_references_with_the_same_weights(
    options: dict[str, Any], tolerance: float
) -> None:
    report = run_engine_bench(replace(TINY, references=("tight",), **options))
    assert options.items() <= report["options"].items()
    assert report["runs"][0]["references"]["tight"]["score_difference"] < tolerance


def test_stages_add_up(report: dict[str, Any]) -> None:
    operations = report["runs"][0]["operations"]["frame_step"]
    assert sum(operations["stages"].values()) == operations["total"]
    assert {"tower", "projector", "lm_linear", "attention", "cache_writes", "evictions", "heads"} <= set(
        operations["stages"]
    )
    assert {"sampling", "lm_linear", "attention"} <= set(report["runs"][0]["operations"]["token_step"]["stages"])
    assert "evictions" not in report["runs"][0]["operations"]["token_step"]["stages"]
    assert operations["stages"].get("other", 0) <= 0.05 * operations["total"]
    profile = report["runs"][0]["profile"]["frame_step"]
    assert profile["python_ms"] == pytest.approx(profile["wall_ms"] - profile["operations_ms"])
    assert set(profile["stages_ms"]) == set(operations["stages"])


def test_steps_with_a_full_window_dispatch_the_same_operations() -> None:
    engine = Engine(endless_model())
    pool = FramePool(engine, "embeds")
    first, second = (count_operations(engine, TINY, pool, 2) for _ in range(2))
    assert first == second
    assert "tower" not in first["frame_step"]["stages"]
    layers = engine.model.config.text.layers
    assert first["token_step"]["attention_calls"] >= layers
    assert first["token_step"]["cache_copies"] >= layers


def test_recorder_counts_calls_and_time() -> None:
    with OperationRecorder() as recorder:
        torch.ones(3).add(1).add(2)
    assert recorder.most_frequent()["add"] == 2
    assert recorder.total_calls == sum(recorder.calls_by_stage().values()) == 3
    assert set(recorder.calls_by_stage()) == {"other"}


@pytest.mark.parametrize(
    ("file", "function", "stage"),
    [
        ("/x/mmduet/engine/kv_pool.py", "KVPool.write", "cache_writes"),
        ("/x/mmduet/engine/kv_pool.py", "KVPool._rotate", "evictions"),
        ("C:\\x\\mmduet\\engine\\attention\\loop.py", "LoopAttention.attend", "attention"),
        ("/x/site-packages/torch/nn/modules/linear.py", "Linear.forward", ""),
        ("/x/site-packages/transformers/models/qwen2/modeling_qwen2.py", "Qwen2MLP.forward", "lm"),
    ],
)
def test_rules_find_the_stage(file: str, function: str, stage: str) -> None:
    assert find_stage(file, function) == stage


def test_limit_is_the_longer_of_arithmetic_and_reading() -> None:
    machine = MachineLimit(gemm_flops=1e9, copy_bytes=1e6, gemm_method="linear")
    load = StepLoad(operations=2e6, weight_bytes=5000)
    assert load.limit_seconds(machine, 1) == pytest.approx(5e-3)  # reading
    assert load.limit_seconds(machine, 10) == pytest.approx(20e-3)  # arithmetic


def test_load_counts_the_weights_of_the_layers() -> None:
    network = random_model(SHAPES["tiny"])
    d, m, kv, layers = 48, 96, 2 * 2 * 12, 2
    layer = 2 * d * d + kv * d + 3 * d * m
    assert lm_operations(network, 1) == 2 * layers * layer
    assert lm_operations(network, 4) == 2 * (4 * layer + 4 * kv * d + (layer - kv * d))
    tokens = token_load(network)
    assert tokens.operations == 2 * (layers * layer + 512 * d)
    assert tokens.weight_bytes == 4 * (layers * layer + 512 * d)
    assert frame_load(network, with_tower=True).operations > frame_load(network, with_tower=False).operations


def test_tokens_of_mixed_steps_are_counted() -> None:
    assert StepRecord(3, 3, 12, 0, 0.1).kind == "frames"
    assert StepRecord(3, 0, 3, 3, 0.1).kind == "tokens"
    assert StepRecord(3, 1, 6, 2, 0.1).kind == "mixed"


def test_module_has_the_options_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parsed = build_parser().parse_args(
        ["--model", "nano", "--streams", "1,2", "--window", "none", "--embeds", "--no-speed"]
    )
    options = parse_options(parsed)
    assert (options.streams, options.window, options.frame_input, parsed.speed) == ((1, 2), None, "embeds", False)
    path = tmp_path / "absent" / "report.json"
    assert main(["--json", str(path)]) == OptionError("").exit_status
    assert "absent" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"streams": ()},
        {"streams": (0,)},
        {"frames": 2, "rounds": 3},
        {"speak_rate": 1.5},
        {"references": ("fast",)},
        {"window": 0},
        {"dtype": "int8"},
    ],
)
def test_invalid_options_are_rejected(change: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        EngineBenchOptions(**change)


def test_lists_are_parsed() -> None:
    assert parse_streams("1,16") == (1, 16)
    assert parse_references("none") == ()
    assert parse_window("none") is None
    for parse in (parse_streams, parse_window):
        with pytest.raises(OptionError):
            parse("many")


def test_measurement_without_references_has_no_ratios() -> None:
    report = run_engine_bench(EngineBenchOptions(**{**TINY.__dict__, "references": (), "speak_rate": 0.0, "rounds": 1}))
    (run,) = report["runs"]
    assert run["ratios"] == {} == run["references"]
    assert run["token_step"] is None
    assert run["first_token_ms"] == {}
    assert "-" in format_table(report["runs"])


def test_command_and_module_have_the_same_options() -> None:
    from mmduet.cli._help import build_command, walk
    from mmduet.cli.main import app

    command = next(each for names, each in walk((), build_command(app)) if names[-2:] == ("bench", "engine"))
    parameters = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    actions = {flag for action in build_parser()._actions for flag in action.option_strings}
    assert parameters - {"--help"} == actions - {"-h", "--help"}
