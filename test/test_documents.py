"""Documents match the code: every command and program in them runs, links resolve, generated pages are up to date."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from fake_hub import FakeHub, fake_hub
from fork_server import fork_server
from llava import published

ROOT = Path(__file__).resolve().parent.parent
GUIDES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")), "CONTRIBUTING.md"]
PAGES = [
    *GUIDES,
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "datasets/README.md",
    "docs/reference/cli.md",
    "docs/reference/python.md",
]
#: Not run: set-up, training, a simulated day, a second checkout. CI itself and other tests cover them.
EXCLUDED = (
    "make ",
    "scripts/",
    "source ",
    "pip ",
    "python -m venv",
    "git ",
    "python scripts/compare",
    "python test/golden",
    "mmduet bench soak",
    "python scripts/measure",
)
#: Not run as part of a block: a server is already running for all of them. test/cli/test_demo.py starts the others.
SERVERS = ("mmduet serve", "mmduet demo", "python -m http.server", "python -m demo.app")
#: Take half a minute each, so they run with the slow tests.
SLOW = (
    "mmduet scenes drift",
    "mmduet scenes window",
    "mmduet scenes score",
    "mmduet calibrate",
    "mmduet bench serve",
    "mmduet bench load",
)
README_FILES = ("run.jsonl", "run.png", "magqa.json", "magqa.html")
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Workplace:
    """The folder in which commands of documents run, with rendered clips, a running server and a fast ``mmduet``."""

    folder: Path
    path: str
    succeeded: set[str] = field(default_factory=set)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a shell command."""
        return self._done(["bash", "-c", command])

    def check(self, command: str) -> None:
        """Check that a command succeeds. Several documents have the same commands, and each runs once."""
        if command not in self.succeeded:
            done = self.run(command)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            self.succeeded.add(command)

    def run_python(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a program."""
        return self._done(["mmduet", "-c", text])

    def _done(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": self.path, "OMP_NUM_THREADS": "1"}
        executable = shutil.which(command[0], path=self.path) or command[0]
        return subprocess.run(
            [executable, *command[1:]], cwd=self.folder, capture_output=True, text=True, check=False, env=environment
        )


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    folder = tmp_path_factory.mktemp("documents")
    (folder / "outputs").mkdir()
    hub_settings = {"HF_HOME": str(tmp_path_factory.mktemp("cache")), "HF_HUB_OFFLINE": "0"}
    with (
        published_hub(tmp_path_factory.mktemp("published")) as hub,
        fork_server(tmp_path_factory.mktemp("server"), {"HF_ENDPOINT": hub.url, **hub_settings}) as binaries,
    ):
        path = os.pathsep.join([str(binaries), str(Path(sys.executable).parent), os.environ["PATH"]])
        prepared = Workplace(folder, path)
        prepared.check("mmduet scenes make outputs/clips --split test --count 3 --seed 7")
        with running_server(folder):
            yield prepared


@contextmanager
def published_hub(folder: Path) -> Iterator[FakeHub]:
    """Serve small checkpoints under the names that the documents use for published weights."""
    with fake_hub() as hub:
        for name, files in published(folder).items():
            hub.add(name, files)
        yield hub


@contextmanager
def running_server(folder: Path) -> Iterator[None]:
    """Run `mmduet serve` in ``folder``, as in another terminal, for the length of a block."""
    command = [sys.executable, "-m", "mmduet", "serve"]
    unhurried = {"MMDUET_MAX_UTILIZATION": "inf", "MMDUET_MAX_FRAME_AGE": "3600"}  # the machine may be busy
    environment = {**os.environ, **unhurried, "OMP_NUM_THREADS": "1", "MMDUET_PULL_ROOTS": "outputs/clips/videos"}
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout is not None
            assert "nano" in server.stdout.readline()
            yield
        finally:
            server.kill()


def blocks(document: str) -> list[tuple[str, str]]:
    """Return language and text of every code block of a document."""
    return BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))


def commands(text: str) -> list[str]:
    """Return the commands of a shell block that can be run here."""
    lines = [line.split(" #")[0].strip() for line in text.replace("\\\n", " ").splitlines()]
    found = [line for line in lines if line and not line.startswith(("#", *SERVERS, *EXCLUDED))]
    return [line for line in found if not any(f" {server}" in line for server in SERVERS)]


def is_slow(command: str) -> bool:
    return command.startswith(SLOW)


def run_block(workplace: Workplace, language: str, text: str, slow: bool) -> int:
    """Run a block; return how many commands it had."""
    if language == "python":
        if slow:
            return 0
        done = workplace.run_python(text)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        return 1
    chosen = [command for command in commands(text) if is_slow(command) is slow]
    for command in chosen:
        workplace.check(command)
    return len(chosen)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["quick", "slow"])
@pytest.mark.parametrize("document", GUIDES)
def test_every_command_runs(workplace: Workplace, document: str, slow: bool) -> None:
    count = sum(run_block(workplace, language, text, slow) for language, text in blocks(document))
    if document == "README.md" and not slow:
        assert count >= 12
        for name in README_FILES:
            assert (workplace.folder / "outputs" / name).stat().st_size > 0


def test_blocks_that_share_variables_run_as_one_script(workplace: Workplace) -> None:
    text = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    done = workplace.run(f"set -eo pipefail\n{script}")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "event: session.closed" in done.stdout
    assert re.search(r"^source +00000\.mp4$", done.stdout, re.MULTILINE)


#: Files, a WebSocket subprotocol and a domain, not Python names.
NOT_PYTHON = {"js", "toml", "service", "key", "git", "session"}
DESCRIPTIONS = [*GUIDES, "ARCHITECTURE.md"]


@pytest.mark.parametrize("document", DESCRIPTIONS)
def test_paths_in_the_text_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for path in re.findall(r"`((?!\S*NAME)(?:mmduet|scripts|test|docs|[a-z_]+)/[\w/]+\.(?:py|sh|txt|json|md))`", text):
        assert (ROOT / path).exists() or (ROOT / "mmduet" / path).exists(), f"{document} names {path}"


@pytest.mark.parametrize("document", DESCRIPTIONS)
def test_python_names_in_the_text_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for dotted in set(re.findall(r"\bmmduet((?:\.[A-Za-z_]+)+)", text)):
        names = dotted.strip(".").split(".")
        if names[0] not in NOT_PYTHON and names != ["__all__"]:
            assert resolves(names), f"{document} names mmduet{dotted}"


def resolves(names: list[str]) -> bool:
    """Whether a dotted name below mmduet is a module or an attribute of one."""
    value: object = import_module("mmduet")
    for depth, name in enumerate(names, 1):
        if not hasattr(value, name) and find_module(names[:depth]) is None:
            return False
        value = getattr(value, name, None) or import_module(".".join(["mmduet", *names[:depth]]))
    return True


def find_module(names: list[str]) -> object | None:
    """Return the spec of a dotted module name below mmduet, None if it does not exist."""
    try:
        return find_spec(".".join(["mmduet", *names]))
    except ModuleNotFoundError:
        return None


def test_missing_python_names_are_detected() -> None:
    assert resolves(["client", "RemoteStream"])
    assert resolves(["load_model"])
    assert not resolves(["no_such_name"])
    assert not resolves(["client", "Nothing"])


def test_written_scene_files_are_the_documented_ones(workplace: Workplace) -> None:
    named = re.findall(r"`(\w+\.jsonl?)`", (ROOT / "docs/scenes.md").read_text(encoding="utf-8"))
    written = {path.name for path in (workplace.folder / "outputs" / "clips").iterdir() if path.is_file()}
    assert {name for name in named if not name.startswith("score")} == written - {".made"}


TARGETS = {
    first or second
    for document in ("README.md", "CONTRIBUTING.md")
    for first, second in re.findall(
        r"^make (\w+)|`make (\w+)", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE
    )
}


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_make_target_exists(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_scripts_parse() -> None:
    scripts = sorted((ROOT / "scripts").rglob("*.sh"))
    assert scripts
    for script in scripts:
        done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", PAGES)
def test_links_resolve(document: str) -> None:
    page = ROOT / document
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)(#[^)\s]+)?\)", page.read_text(encoding="utf-8")):
        path = (page.parent / target) if target else page
        assert path.exists(), f"{document} links to {target}, which does not exist"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{document} links to {target}{anchor}; there is no such heading"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as Markdown renderers make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {"#" + re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", ["README.md"])
def test_readme_is_short(document: str) -> None:
    assert len((ROOT / document).read_text(encoding="utf-8").splitlines()) <= 200


def test_command_line_reference_is_up_to_date() -> None:
    from mmduet.cli._reference import render
    from mmduet.cli.main import app

    assert (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8") == render(app), "run `make docs`"


def test_documentation_site_builds_without_dead_links(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copytree(ROOT / "mmduet", tmp_path / "mmduet", ignore=shutil.ignore_patterns("__pycache__", "checkpoint"))
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--clean", "--strict", "-f", "mkdocs.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "outputs" / "docs"
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= 16
    assert "RemoteStream" in (site / "reference" / "python.html").read_text(encoding="utf-8")
    for page in pages:
        for target in re.findall(r'(?:href|src)="([^"]+)"', page.read_text(encoding="utf-8")):
            check_target(site, page, target)


def check_target(site: Path, page: Path, target: str) -> None:
    """Check that an internal link of a page leads to a file of the site; external links and anchors are accepted."""
    path = target.partition("#")[0].partition("?")[0]
    if page.name == "404.html" or not path or path.startswith(("https://", "mailto:", "data:")):
        return
    assert (page.parent / path).exists(), f"{page.relative_to(site)} links to {target}, which does not exist"
