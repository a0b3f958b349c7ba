"""Documents that cannot lie: every command of the README runs, in order, in one folder; every link leads somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, re.DOTALL)
#: Set-up, training, a simulated day: covered by CI itself, by test/training and by test/bench.
LONG = ("make ", "scripts/train_nano.sh", "mmduet bench soak")
#: Half a minute each: these run with the slow tests.
HEAVY = ("mmduet scenes drift", "mmduet scenes window", "mmduet scenes score", "mmduet bench serve")


def run(command: list[str] | str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=folder, shell=isinstance(command, str), capture_output=True, text=True, env={**os.environ, "PATH": path},
        check=False,
    )  # fmt: skip


def serve(folder: Path) -> subprocess.Popen[str]:
    """`mmduet serve` as in another terminal, when it listens."""
    command = [sys.executable, "-m", "mmduet", "serve"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert "serves nano" in server.stdout.readline()
    return server


@pytest.mark.timeout(900)
@pytest.mark.parametrize("left_out", [HEAVY, pytest.param((), marks=pytest.mark.slow)], ids=["quick", "all"])
def test_every_block_runs_in_order(tmp_path: Path, request: pytest.FixtureRequest, left_out: tuple[str, ...]) -> None:
    (tmp_path / "outputs").mkdir()
    ran = 0
    request.addfinalizer(lambda: [server.kill() for server in served])
    served: list[subprocess.Popen[str]] = []
    for language, block in BLOCKS:
        if language == "python":
            done = run([sys.executable, "-c", block], tmp_path)
            assert done.returncode == 0, f"{block}\n{done.stderr}"
            assert "enters" in done.stdout
            ran += 1
            continue
        for line in filter(None, (text.split("#")[0].strip() for text in block.replace("\\\n", " ").splitlines())):
            if line.startswith((*LONG, *left_out)):
                continue
            if line == "mmduet serve":
                served.append(serve(tmp_path))
                continue
            done = run(line, tmp_path)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            ran += 1
    assert ran >= 6
    assert len(served) == 1
    made = ["stream.jsonl", "run.jsonl", "run.vtt", "run.png", "magqa.json", "magqa.html"]
    made += ["caption.srt", "ground.png", "highlights.json", "cuts/00002-reel.mp4"]
    for name in made if left_out else [*made, "score.json", "windows.png"]:
        assert (tmp_path / "outputs" / name).stat().st_size > 0


TARGETS = {first or second for first, second in re.findall(r"^make (\w+)|`make (\w+)`", README, re.MULTILINE)}


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_make_targets_exist(target: str) -> None:
    assert shutil.which("make"), "make is needed to set the project up"
    done = run(f"make --dry-run {target}", ROOT)
    assert done.returncode == 0, done.stderr


def test_scripts_parse() -> None:
    scripts = sorted((ROOT / "scripts").rglob("*.sh"))
    assert scripts
    for script in scripts:
        done = run(f"bash -n {script}", ROOT)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "document",
    ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))],
)
def test_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
        assert ((ROOT / document).parent / target).exists(), f"{document} links to {target}, which does not exist"
