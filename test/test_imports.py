"""What starts light stays light: most rooms load without torch, and ``--help`` without anything large at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "mmduet"
TORCH_FREE = (
    "__init__", "errors", "events", "options", "files", "duet", "video", "scenes", "nano", "tasks", "protocol", "client",
    "index", "evaluation", "cli",
)  # fmt: skip
NEEDS_TORCH = {  # they run the engine
    "mmduet.evaluation.runs.quantization_drift",
    "mmduet.evaluation.runs.predict",
    "mmduet.evaluation.runs.scene_scores",
    "mmduet.evaluation.runs.window_ablation",
}
LARGE = {"torch", "transformers", "av", "numpy", "matplotlib", "PIL"}

IMPORT_ALL = """
import importlib, json, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:  # a package that only an extra installs
        if error.name.partition(".")[0] == "mmduet":
            raise
print(json.dumps(sorted(sys.modules)))
"""
HELP = """
import json, runpy, sys
sys.argv = ["mmduet", *sys.argv[1:]]
try:
    runpy.run_module("mmduet", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted(sys.modules)))
"""


def modules_of(room: str) -> list[str]:
    """Dotted names of every module of ``room``; none where the room does not exist."""
    files = [path for path in (PACKAGE / f"{room}.py",) if path.exists()] or sorted((PACKAGE / room).rglob("*.py"))
    parts = [path.relative_to(PACKAGE.parent).with_suffix("").parts for path in files]
    names = [".".join(part for part in each if part != "__init__") for each in parts]
    return [name for name in names if name not in NEEDS_TORCH]


def loaded_by(program: str, *arguments: str) -> set[str]:
    """Names in ``sys.modules`` when a fresh interpreter has run ``program``."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("room", [room for room in TORCH_FREE if modules_of(room)])
def test_room_loads_without_torch(room: str) -> None:
    assert loaded_by(IMPORT_ALL, *modules_of(room)).isdisjoint({"torch", "transformers"})


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["scenes", "--help"],
        ["scenes", "make", "--help"],
        ["run", "--help"],
        ["convert", "--help"],
        ["inspect", "--help"],
        ["predict", "--help"],
        ["caption", "--help"],
        ["ground", "--help"],
        ["highlight", "--help"],
        ["ask", "--help"],
        ["--version"],
    ],
)
def test_help_loads_nothing_large(arguments: list[str]) -> None:
    assert loaded_by(HELP, *arguments).isdisjoint(LARGE)


def test_the_check_notices_a_heavy_module() -> None:
    assert "numpy" in loaded_by(IMPORT_ALL, "numpy")
