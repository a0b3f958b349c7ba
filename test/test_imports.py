"""Fast starts: most packages are imported without torch, and ``--help`` without any large library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "mmduet"
TORCH_FREE = (
    "__init__", "errors", "events", "options", "files", "spans", "duet", "video", "scenes", "annotations", "metrics", "nano",
    "tasks", "protocol", "viz", "client", "evaluation", "reports", "cli",
)  # fmt: skip
RUNS_MODELS = "mmduet.evaluation.runs."
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


def modules_of(package: str) -> list[str]:
    """Return the dotted names of every module of ``package``, none if the package does not exist."""
    files = [path for path in (PACKAGE / f"{package}.py",) if path.exists()] or sorted(
        (PACKAGE / package).rglob("*.py")
    )
    parts = [path.relative_to(PACKAGE.parent).with_suffix("").parts for path in files]
    names = [".".join(part for part in path if part != "__init__") for path in parts]
    return [name for name in names if not name.startswith(RUNS_MODELS)]


def loaded_by(program: str, *arguments: str) -> set[str]:
    """Return the names in ``sys.modules`` after a new interpreter has run ``program``."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_recipes_load_without_torch() -> None:
    assert loaded_by(IMPORT_ALL, "mmduet.training.recipe", "mmduet.training.recipe_files").isdisjoint(
        {"torch", "transformers"}
    )


@pytest.mark.parametrize("package", [package for package in TORCH_FREE if modules_of(package)])
def test_package_loads_without_torch(package: str) -> None:
    assert loaded_by(IMPORT_ALL, *modules_of(package)).isdisjoint({"torch", "transformers"})


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
def test_help_loads_no_large_library(arguments: list[str]) -> None:
    assert loaded_by(HELP, *arguments).isdisjoint(LARGE)


def test_loaded_modules_are_detected() -> None:
    assert "numpy" in loaded_by(IMPORT_ALL, "numpy")
