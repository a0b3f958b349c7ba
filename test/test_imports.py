"""Fast starts: most packages are imported without torch, and ``--help`` without any large library."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "mmduet"
TORCH_FREE = (
    "__init__", "errors", "events", "options", "files", "spans", "duet", "video", "scenes", "annotations", "metrics", "nano",
    "tasks", "protocol", "viz", "client", "evaluation", "reports", "cli",
)  # fmt: skip
RUNS_MODELS = "mmduet.evaluation.runs."
LARGE = {"torch", "transformers", "av", "numpy", "matplotlib", "PIL"}

#: Both programs run all jobs in one interpreter, because what a job loads stays loaded: they print, for each job, which of
#: the large modules were loaded after it, so a module is reported for the first job that loads it and for all that follow.
IMPORT_ALL = """
import importlib, json, sys
large, jobs, loaded = *map(json.loads, sys.argv[1:]), {}
for job, names in jobs.items():
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:  # a package that only an extra installs
            if error.name.partition(".")[0] == "mmduet":
                raise
    loaded[job] = [name for name in large if name in sys.modules]
print(json.dumps(loaded))
"""
HELP = """
import json, runpy, sys
large, jobs, loaded = *map(json.loads, sys.argv[1:]), {}
for job, arguments in jobs.items():
    sys.argv = ["mmduet", *arguments]
    try:
        runpy.run_module("mmduet", run_name="__main__")
    except SystemExit as end:
        assert not end.code, end.code
    loaded[job] = [name for name in large if name in sys.modules]
print(json.dumps(loaded))
"""
HELP_COMMANDS = (
    "--help",
    "scenes --help",
    "scenes make --help",
    "run --help",
    "convert --help",
    "inspect --help",
    "predict --help",
    "caption --help",
    "ground --help",
    "highlight --help",
    "ask --help",
    "--version",
)


def modules_of(package: str) -> list[str]:
    """Return the dotted names of every module of ``package``, none if the package does not exist."""
    files = [path for path in (PACKAGE / f"{package}.py",) if path.exists()] or sorted(
        (PACKAGE / package).rglob("*.py")
    )
    parts = [path.relative_to(PACKAGE.parent).with_suffix("").parts for path in files]
    names = [".".join(part for part in path if part != "__init__") for path in parts]
    return [name for name in names if not name.startswith(RUNS_MODELS)]


def loaded_by(program: str, large: Iterable[str], jobs: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Run the jobs in a new interpreter; return, for each job, which of the large modules were loaded after it."""
    command = [sys.executable, "-c", program, json.dumps(sorted(large)), json.dumps(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def loaded_by_packages() -> dict[str, list[str]]:
    return loaded_by(IMPORT_ALL, {"torch", "transformers"}, {package: modules_of(package) for package in TORCH_FREE})


@pytest.fixture(scope="module")
def loaded_by_help() -> dict[str, list[str]]:
    return loaded_by(HELP, LARGE, {command: command.split() for command in HELP_COMMANDS})


def test_recipes_and_their_annotations_and_videos_are_read_without_torch() -> None:
    names = ("recipe", "recipe_files", "data_sets", "video_index")
    jobs = {"recipes": [f"mmduet.training.{name}" for name in names]}
    assert loaded_by(IMPORT_ALL, {"torch", "transformers"}, jobs) == {"recipes": []}


@pytest.mark.parametrize("package", [package for package in TORCH_FREE if modules_of(package)])
def test_package_loads_without_torch(package: str, loaded_by_packages: dict[str, list[str]]) -> None:
    assert loaded_by_packages[package] == []


@pytest.mark.parametrize("command", HELP_COMMANDS)
def test_help_loads_no_large_library(command: str, loaded_by_help: dict[str, list[str]]) -> None:
    assert loaded_by_help[command] == []


def test_loaded_modules_are_detected() -> None:
    jobs = {"first": ["json"], "second": ["mmduet.errors", "numpy"], "third": ["json"]}
    assert loaded_by(IMPORT_ALL, {"numpy", "torch"}, jobs) == {"first": [], "second": ["numpy"], "third": ["numpy"]}
