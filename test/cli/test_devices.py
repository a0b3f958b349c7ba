"""``--device``, ``--dtype`` and ``--attention`` on the command line: where they are, and wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Command

from mmduet.cli._help import build_command, walk
from mmduet.cli.main import app

LOADING = {
    ("run",), ("demo",), ("caption",), ("ground",), ("highlight",), ("ask",), ("serve",), ("predict",), ("scenes", "score"),
    ("scenes", "window"), ("scenes", "drift"), ("bench", "soak"), ("bench", "serve"), ("bench", "engine"), ("bench", "chaos"),
    ("bench", "memory"), ("bench", "upgrade"),
}  # fmt: skip


def test_every_command_that_loads_a_model_has_the_three_options() -> None:
    commands = {names: {each.name for each in command.params} for names, command in walk((), build_command(app))}
    assert {names for names, options in commands.items() if {"device", "dtype", "attention"} <= options} == LOADING
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


def test_a_server_and_a_device_contradict_each_other(mmduet: Command, video: Path) -> None:
    done = mmduet("caption", video, "--server", "ws://127.0.0.1:1", "--device", "cpu")
    assert done.status == 2
    assert "--device and --server contradict each other" in done.err
