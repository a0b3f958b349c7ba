"""``python -m mmduet.bench.engine`` runs where only PyTorch, Transformers, tokenizers, safetensors and NumPy are installed.

The subprocess sees a folder of links to these packages and to what they require, and the standard library. Besides, modules of
mmduet may import nothing but the five packages, even if another one is installed because Transformers requires it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")
PROGRAM = """
import builtins, json, runpy, sys
sys.path[:] = [entry for entry in sys.path if "site-packages" not in entry] + sys.argv[1:3]
allowed = {"mmduet", *sys.argv[3].split(","), *sys.stdlib_module_names}
original = builtins.__import__

def checked(name, globals=None, locals=None, fromlist=(), level=0):
    package = (globals or {}).get("__package__") or ""
    if package.partition(".")[0] == "mmduet" and not level and name.partition(".")[0] not in allowed:
        raise ImportError(f"a module of {package} imports {name}")
    return original(name, globals, locals, fromlist, level)

builtins.__import__ = checked
sys.argv = ["mmduet.bench.engine", *sys.argv[4:]]
runpy.run_module("mmduet.bench.engine", run_name="__main__")
"""
MEASUREMENT = (
    "--model=random:tiny", "--streams=2", "--frames=2", "--rounds=1", "--window=2", "--speak-rate=0.5", "--tokens-per-reply=2",
    "--operations", "--device=cpu", "--threads=1",
)  # fmt: skip


def required_distributions(name: str, found: dict[str, str]) -> dict[str, str]:
    """Return ``found`` with the installed distribution ``name`` and everything that it requires, by normalised name."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key not in found:
        found[key] = name
        for requirement in distribution(name).requires or ():
            if "extra ==" not in requirement:
                dependency = re.split(r"[\s<>=!~;\[(]", requirement)[0]
                try:
                    required_distributions(dependency, found)
                except PackageNotFoundError:  # required on other systems only
                    found.pop(re.sub(r"[-_.]+", "-", dependency).lower(), None)
    return found


def installed_entries(name: str) -> Iterator[Path]:
    """Yield the files and folders of a distribution that stand directly in site-packages."""
    found = distribution(name)
    root = Path(str(found.locate_file("")))
    tops = {Path(str(file)).parts[0] for file in found.files or ()}
    yield from (root / top for top in sorted(tops) if top not in ("..", "__pycache__") and (root / top).exists())


@pytest.fixture(scope="module")
def bare_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with links to the five packages and what they require."""
    folder = tmp_path_factory.mktemp("site")
    needed: dict[str, str] = {}
    for package in PACKAGES:
        required_distributions(package, needed)
    for name in needed.values():
        for entry in installed_entries(name):
            if not (folder / entry.name).exists():
                (folder / entry.name).symlink_to(entry)
    assert not (folder / "av").exists()
    return folder


def run_bare(folder: Path, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(root), str(folder), ",".join(PACKAGES), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"HF_HUB_OFFLINE": "1"})


def test_measurement_runs_on_a_bare_machine(bare_packages: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    done = run_bare(bare_packages, ROOT, *MEASUREMENT, f"--json={output}")
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(output.read_text())["runs"]
    assert run["frames_per_second"] > 0
    assert run["operations"]["frame_step"]["stages"]["attention"] > 0
    assert "x paper" in done.stdout


@pytest.mark.parametrize("line", ["import av", "import psutil", "from PIL import Image"])
def test_another_import_is_detected(bare_packages: Path, tmp_path: Path, line: str) -> None:
    package = tmp_path / "mmduet" / "bench" / "engine"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    (package / "__main__.py").write_text(line)
    done = run_bare(bare_packages, tmp_path)
    assert done.returncode != 0
    assert "ImportError: a module of mmduet.bench.engine imports" in done.stderr
