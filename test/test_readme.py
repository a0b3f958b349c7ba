"""Documents that cannot lie: every command of the README runs, all in one folder; every link leads somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, re.DOTALL)
#: Set-up, training, a simulated day: covered by CI itself, by test/training and by test/bench.
LONG = ("make ", "scripts/train_nano.sh", "mmduet bench soak")
#: In another terminal.
SERVE = "mmduet serve"
#: Half a minute each: these run with the slow tests.
HEAVY = ("mmduet scenes drift", "mmduet scenes window", "mmduet scenes score", "mmduet bench serve")


def run(command: list[str] | str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=folder, shell=isinstance(command, str), capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def serve(folder: Path) -> subprocess.Popen[str]:
    """`mmduet serve` as in another terminal, when it listens."""
    command = [sys.executable, "-m", "mmduet", "serve"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert "serves nano" in server.stdout.readline()
    return server


def perform(block: tuple[str, str], folder: Path, left_out: tuple[str, ...]) -> int:
    """Run a block's commands in order. Returns how many there were."""
    language, text = block
    if language == "python":
        done = run([sys.executable, "-c", text], folder)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        assert "enters" in done.stdout
        return 1
    lines = [line.split("#")[0].strip() for line in text.replace("\\\n", " ").splitlines()]
    chosen = [line for line in lines if line and line != SERVE and not line.startswith((*LONG, *left_out))]
    for line in chosen:
        done = run(line, folder)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return len(chosen)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("left_out", [HEAVY, pytest.param((), marks=pytest.mark.slow)], ids=["quick", "all"])
def test_every_block_runs(tmp_path: Path, request: pytest.FixtureRequest, left_out: tuple[str, ...]) -> None:
    (tmp_path / "outputs").mkdir()
    assert any(SERVE in text.splitlines()[0] for _, text in BLOCKS)
    server = serve(tmp_path)
    request.addfinalizer(server.kill)
    clips = next(i for i, (_, text) in enumerate(BLOCKS) if text.startswith("mmduet scenes make"))
    ran = sum(perform(block, tmp_path, left_out) for block in BLOCKS[: clips + 1])
    with ThreadPoolExecutor(2) as pool:  # one a core; they have nothing in common but the clips and the server
        ran += sum(pool.map(lambda block: perform(block, tmp_path, left_out), BLOCKS[clips + 1 :]))
    assert ran >= 18
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
