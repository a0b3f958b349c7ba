"""The house rules, read from the source of every file in the package: who may import whom, and how large things get."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Imports go down only; rooms in one row never import each other. "mmduet" is the package's own __init__.
ROWS = (
    ("mmduet", "errors", "events", "options", "files"),
    ("duet", "video", "scenes", "nano"),
    ("model", "tasks", "protocol"),
    ("engine", "client", "index"),
    ("server", "cluster", "training", "evaluation", "bench"),
    ("cli",),
    ("__main__",),
)
ROW_OF = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
SAME_ROW_ALLOWED = {
    ("events", "errors"),
    ("options", "errors"),
    ("files", "errors"),
    ("scenes", "video"),
    ("cluster", "server"),
}
TORCH_ROOMS = {"model", "engine", "training", "bench"}
TORCH_FILES = {"mmduet/evaluation/runs/predict.py"}
MOST_FILE_LINES = 400
MOST_FUNCTION_LINES = 60


@dataclass(frozen=True)
class Source:
    """One parsed file; ``name`` is its path from the repository's root."""

    name: str
    text: str
    tree: ast.Module

    @classmethod
    def read(cls, root: Path, path: Path) -> Source:
        text = path.read_text(encoding="utf-8")
        return cls(path.relative_to(root).as_posix(), text, ast.parse(text, filename=str(path)))

    @property
    def package(self) -> list[str]:
        """The dotted package that relative imports start from."""
        return self.name.split("/")[:-1]

    @property
    def room(self) -> str:
        inner = self.name.removesuffix(".py").split("/")[1]
        return "mmduet" if inner == "__init__" else inner


def sources(root: Path) -> list[Source]:
    return [Source.read(root, path) for path in sorted((root / "mmduet").rglob("*.py"))]


def imported_modules(source: Source) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import: also those in functions, for type checking and by ``import_module``."""
    for node in ast.walk(source.tree):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom():
                base = source.package[: len(source.package) - node.level + 1] if node.level else []
                module = ".".join([*base, *([node.module] if node.module else [])])
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def room_of_module(module: str) -> str | None:
    """The room a dotted name lies in, None outside the package; ``mmduet.__version__`` is of the package itself."""
    top, _, rest = module.partition(".")
    if top != "mmduet":
        return None
    inner = rest.partition(".")[0]
    return inner if inner and not (inner.startswith("__") and inner != "__main__") else "mmduet"


def may_import(importer: str, imported: str) -> bool:
    if importer == imported:
        return True
    if importer not in ROW_OF or imported not in ROW_OF:
        return False
    return ROW_OF[imported] < ROW_OF[importer] or (importer, imported) in SAME_ROW_ALLOWED


def imports_point_down(source: Source) -> Iterator[str]:
    if source.room not in ROW_OF:
        yield f"{source.name}: room {source.room!r} has no row; give it one in ROWS"
        return
    for line, module in imported_modules(source):
        room = room_of_module(module)
        if room is not None and not may_import(source.room, room):
            yield f"{source.name}:{line}: {source.room} may not import {room}"


def torch_stays_in_its_rooms(source: Source) -> Iterator[str]:
    if source.room in TORCH_ROOMS or source.name in TORCH_FILES:
        return
    for line, module in imported_modules(source):
        if module.partition(".")[0] == "torch":
            yield f"{source.name}:{line}: {source.room} may not import torch"


def sizes_are_modest(source: Source) -> Iterator[str]:
    if (lines := len(source.text.splitlines())) > MOST_FILE_LINES:
        yield f"{source.name}: {lines} lines; at most {MOST_FILE_LINES}"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_FUNCTION_LINES:
                yield f"{source.name}:{node.lineno}: {node.name} has {lines} lines; at most {MOST_FUNCTION_LINES}"


def module_says_what_it_knows(source: Source) -> Iterator[str]:
    if not ast.get_docstring(source.tree):
        yield f"{source.name}: no docstring"


def only_the_command_line_prints(source: Source) -> Iterator[str]:
    if source.room == "cli":
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{source.name}:{node.lineno}: print outside the command line"


Rule = Callable[[Source], Iterator[str]]
RULES: tuple[Rule, ...] = (
    imports_point_down,
    torch_stays_in_its_rooms,
    sizes_are_modest,
    module_says_what_it_knows,
    only_the_command_line_prints,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("source", sources(ROOT), ids=lambda source: source.name)
def test_house_rule(source: Source, rule: Rule) -> None:
    violations = list(rule(source))
    assert not violations, "\n".join(violations)


def write(root: Path, name: str, text: str) -> Source:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    (source,) = sources(root)
    return source


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("mmduet/duet/a.py", "import mmduet.engine", imports_point_down),
        ("mmduet/duet/a.py", "from mmduet import engine", imports_point_down),
        ("mmduet/duet/a.py", "from mmduet.video import Frame", imports_point_down),
        ("mmduet/duet/a.py", "from ..engine.session import Session", imports_point_down),
        ("mmduet/duet/a.py", "from .. import engine", imports_point_down),
        ("mmduet/duet/__init__.py", "from ..model import network", imports_point_down),
        ("mmduet/duet/a.py", "def f():\n    from mmduet.engine import Engine", imports_point_down),
        ("mmduet/duet/a.py", "if TYPE_CHECKING:\n    from mmduet.engine import Engine", imports_point_down),
        ("mmduet/duet/a.py", "importlib.import_module('mmduet.engine')", imports_point_down),
        ("mmduet/video/a.py", "import mmduet.scenes", imports_point_down),
        ("mmduet/server/a.py", "import mmduet.cluster", imports_point_down),
        ("mmduet/errors.py", "import mmduet.options", imports_point_down),
        ("mmduet/__init__.py", "from mmduet.engine import Engine", imports_point_down),
        ("mmduet/attic/a.py", "", imports_point_down),
        ("mmduet/engine/a.py", "import mmduet.attic", imports_point_down),
        ("mmduet/duet/a.py", "import torch", torch_stays_in_its_rooms),
        ("mmduet/cli/a.py", "def f():\n    import torch.nn.functional as F", torch_stays_in_its_rooms),
        ("mmduet/evaluation/report.py", "from torch import Tensor", torch_stays_in_its_rooms),
        ("mmduet/duet/a.py", "\n" * (MOST_FILE_LINES + 1), sizes_are_modest),
        ("mmduet/duet/a.py", "async def f():\n" + "    x = 1\n" * MOST_FUNCTION_LINES, sizes_are_modest),
        ("mmduet/duet/a.py", "x = 1", module_says_what_it_knows),
        ("mmduet/duet/a.py", "def f():\n    print('hello')", only_the_command_line_prints),
    ],
)
def test_rule_catches_a_violation(tmp_path: Path, name: str, text: str, rule: Rule) -> None:
    assert len(list(rule(write(tmp_path, name, text)))) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mmduet/scenes/a.py", '"""Says so."""\nfrom mmduet.video import writer'),
        ("mmduet/cluster/a.py", '"""Says so."""\nfrom ..server import app\nfrom . import b'),
        ("mmduet/options.py", '"""Says so."""\nfrom mmduet.errors import OptionError'),
        ("mmduet/model/a.py", '"""Says so."""\nimport torch\nfrom mmduet import __version__, duet'),
        ("mmduet/evaluation/runs/predict.py", '"""Says so."""\nimport torch'),
        ("mmduet/cli/a.py", '"""Says so."""\nprint("hello")'),
    ],
)
def test_rules_let_pass_what_is_allowed(tmp_path: Path, name: str, text: str) -> None:
    source = write(tmp_path, name, text)
    assert [violation for rule in RULES for violation in rule(source)] == []
