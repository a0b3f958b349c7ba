"""``--device``, ``--dtype``, ``--attention`` and ``--kv-dtype`` on the command line: where they are, and wrong ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Command

from mmduet.cli._help import build_command, walk
from mmduet.cli.main import app

LOADING = {
    ("run",), ("demo",), ("caption",), ("ground",), ("highlight",), ("ask",), ("serve",), ("predict",), ("scenes", "score"),
    ("scenes", "window"), ("scenes", "drift"), ("bench", "soak"), ("bench", "serve"), ("bench", "engine"), ("bench", "chaos"),
    ("bench", "memory"), ("bench", "upgrade"), ("calibrate",),
}  # fmt: skip


def test_every_command_that_loads_a_model_has_the_options() -> None:
    commands = {names: {each.name for each in command.params} for names, command in walk((), build_command(app))}
    assert {
        names for names, options in commands.items() if {"device", "dtype", "attention", "kv_dtype"} <= options
    } == LOADING
    assert {"device", "dtype"} <= commands["bench", "load"]
    loading = {names for names, options in commands.items() if "model" in options}
    assert loading - LOADING <= {("inspect",), ("bench", "load"), ("bench", "capacity"), ("sessions", "list")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "meta"), "device must be auto, cpu, cuda, cuda:N or mps, got 'meta'"),
        (("--device", "cuda:999"), "device cuda:999 is not available"),
        (("--dtype", "float8"), "'float8' is not one of"),
        (("--attention", "flash"), "'flash' is not one of"),
        (("--kv-dtype", "int4"), "'int4' is not one of"),
    ],
)
def test_a_wrong_option_is_an_error_before_the_model_is_loaded(
    mmduet: Command, video: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = mmduet("run", video, *arguments)
    assert done.status == 2
    assert message in " ".join(done.err.replace("│", " ").split())


def test_a_model_runs_in_the_requested_type(mmduet: Command, video: Path) -> None:
    done = mmduet("run", video, "--dtype", "bfloat16", "--device", "cpu", "--attention", "loop", "--max-frames", "2")
    assert done.status == 0


def test_keys_and_values_are_stored_in_the_requested_type(mmduet: Command, video: Path, tmp_path: Path) -> None:
    scores = []
    for kv_dtype in ("auto", "fp8"):
        path = tmp_path / f"{kv_dtype}.jsonl"
        mmduet("run", video, "--kv-dtype", kv_dtype, "--output", str(path), "--max-frames", "4")
        lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        scores.append([each["informative"] for each in lines if "informative" in each])
    assert len(scores[0]) == len(scores[1]) == 4
    assert scores[0] != scores[1]
    assert scores[0] == pytest.approx(scores[1], abs=0.1)


def test_a_server_and_a_device_contradict_each_other(mmduet: Command, video: Path) -> None:
    done = mmduet("caption", video, "--server", "ws://127.0.0.1:1", "--device", "cpu")
    assert done.status == 2
    assert "--device and --server contradict each other" in done.err
