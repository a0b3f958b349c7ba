"""Rules for every source file: allowed imports, no import cycles, sizes, module docstrings, no prints outside the CLI."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Imports go down only: a package may import packages of lower rows. "mmduet" is the package's own __init__.
ROWS = (
    ("mmduet", "errors", "events", "options", "files", "progress", "spans", "text", "redaction"),
    ("duet", "video", "scenes", "annotations", "metrics", "signals", "nano"),
    ("model", "tasks", "protocol", "viz"),
    ("engine", "client", "index"),
    ("pipelines", "training"),
    ("server", "webpage", "cluster", "recipes", "evaluation", "reports", "bench", "diagnostics"),
    ("cli",),
    ("__main__",),
)
ROW_OF = {package: row for row, packages in enumerate(ROWS) for package in packages}
SAME_ROW_ALLOWED = {
    ("errors", "redaction"),
    ("events", "errors"),
    ("options", "errors"),
    ("files", "errors"),
    ("scenes", "video"),
    ("scenes", "annotations"),
    ("signals", "video"),
    ("webpage", "server"),
    ("cluster", "server"),
    ("recipes", "training"),
    ("reports", "evaluation"),
    ("diagnostics", "evaluation"),
}
TORCH_PACKAGES = ("model", "engine", "training", "recipes", "bench", "pipelines/local", "evaluation/runs")
PUBLIC_API = "mmduet/__init__.py"  # resolves its names lazily, so it may name any package
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


@dataclass(frozen=True)
class Source:
    """A parsed file; ``name`` is its path relative to the repository root."""

    name: str
    text: str
    tree: ast.Module

    @classmethod
    def read(cls, root: Path, path: Path) -> Source:
        text = path.read_text(encoding="utf-8")
        return cls(path.relative_to(root).as_posix(), text, ast.parse(text, filename=str(path)))

    @property
    def module(self) -> str:
        """Return the dotted module name."""
        return self.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def parent(self) -> list[str]:
        """Return the parts of the package that relative imports start from."""
        return self.name.split("/")[:-1]

    @property
    def package(self) -> str:
        """Return the package below ``mmduet`` that the file belongs to."""
        inner = self.name.removesuffix(".py").split("/")[1]
        return "mmduet" if inner == "__init__" else inner


@cache
def sources(root: Path) -> list[Source]:
    return [Source.read(root, path) for path in sorted((root / "mmduet").rglob("*.py"))]


def imported_modules(source: Source) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every import, including those in functions, for type checking and by ``import_module``."""
    for node in ast.walk(source.tree):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom():
                base = source.parent[: len(source.parent) - node.level + 1] if node.level else []
                module = ".".join([*base, *([node.module] if node.module else [])])
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def package_of_module(module: str) -> str | None:
    """Return the package of a dotted name, None outside mmduet; ``mmduet.__version__`` belongs to ``mmduet`` itself."""
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


def check_imports_go_down(source: Source) -> Iterator[str]:
    if source.name == PUBLIC_API:
        return
    if source.package not in ROW_OF:
        yield f"{source.name}: package {source.package!r} has no row; give it one in ROWS"
        return
    for line, module in imported_modules(source):
        package = package_of_module(module)
        if package is not None and not may_import(source.package, package):
            yield f"{source.name}:{line}: {source.package} may not import {package}"


def check_the_public_api_is_lazy(source: Source) -> Iterator[str]:
    if source.name != PUBLIC_API:
        return
    for node in source.tree.body:
        module = getattr(node, "module", None) or ""
        if isinstance(node, ast.Import | ast.ImportFrom) and module.partition(".")[0] not in (
            "__future__",
            "typing",
            "importlib",
        ):
            yield f"{source.name}:{node.lineno}: imports {module or 'a module'} when mmduet is imported"


def check_torch_stays_in_its_packages(source: Source) -> Iterator[str]:
    if source.name.startswith(tuple(f"mmduet/{package}" for package in TORCH_PACKAGES)):
        return
    for line, module in imported_modules(source):
        if module.partition(".")[0] in ("torch", "transformers"):
            yield f"{source.name}:{line}: {source.package} may not import {module.partition('.')[0]}"


def check_sizes(source: Source) -> Iterator[str]:
    if (lines := len(source.text.splitlines())) > MAX_FILE_LINES:
        yield f"{source.name}: {lines} lines; at most {MAX_FILE_LINES}"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{source.name}:{node.lineno}: {node.name} has {lines} lines; at most {MAX_FUNCTION_LINES}"


def check_module_docstring(source: Source) -> Iterator[str]:
    if not ast.get_docstring(source.tree):
        yield f"{source.name}: no docstring"


def check_only_the_command_line_prints(source: Source) -> Iterator[str]:
    if source.package == "cli":
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{source.name}:{node.lineno}: print outside the command line"


Rule = Callable[[Source], Iterator[str]]
RULES: tuple[Rule, ...] = (
    check_imports_go_down,
    check_the_public_api_is_lazy,
    check_torch_stays_in_its_packages,
    check_sizes,
    check_module_docstring,
    check_only_the_command_line_prints,
)


def import_graph(files: Sequence[Source]) -> dict[str, set[str]]:
    """Return the modules that each module imports; importing a name from a package counts as importing the package."""
    modules = {source.module for source in files if source.name != PUBLIC_API}
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for source in files:
        if source.module in modules:
            for _, name in imported_modules(source):
                target = name if name in modules else name.rpartition(".")[0]
                if target in modules and target != source.module:
                    graph[source.module].add(target)
    return graph


def find_cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the modules of an import cycle, the first repeated at the end; an empty list if there is no cycle."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module not in done:
            for target in sorted(graph[module]):
                if cycle := visit(target, [*path, module]):
                    return cycle
            done.add(module)
        return []

    return next((cycle for module in sorted(graph) if (cycle := visit(module, []))), [])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_follows_the_rule(rule: Rule) -> None:
    violations = [violation for source in sources(ROOT) for violation in rule(source)]
    assert not violations, "\n".join(violations)


def test_imports_have_no_cycle() -> None:
    assert not (cycle := find_cycle(import_graph(sources(ROOT)))), " -> ".join(cycle)


def write(root: Path, name: str, text: str) -> Source:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return Source.read(root, path)


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("mmduet/duet/a.py", "import mmduet.engine", check_imports_go_down),
        ("mmduet/duet/a.py", "from mmduet import engine", check_imports_go_down),
        ("mmduet/duet/a.py", "from mmduet.video import Frame", check_imports_go_down),
        ("mmduet/duet/a.py", "from ..engine.session import Session", check_imports_go_down),
        ("mmduet/duet/a.py", "from .. import engine", check_imports_go_down),
        ("mmduet/duet/__init__.py", "from ..model import network", check_imports_go_down),
        ("mmduet/duet/a.py", "def f():\n    from mmduet.engine import Engine", check_imports_go_down),
        ("mmduet/duet/a.py", "if TYPE_CHECKING:\n    from mmduet.engine import Engine", check_imports_go_down),
        ("mmduet/duet/a.py", "importlib.import_module('mmduet.engine')", check_imports_go_down),
        ("mmduet/video/a.py", "import mmduet.scenes", check_imports_go_down),
        ("mmduet/server/a.py", "import mmduet.cluster", check_imports_go_down),
        ("mmduet/training/a.py", "import mmduet.recipes", check_imports_go_down),
        ("mmduet/evaluation/a.py", "import mmduet.reports", check_imports_go_down),
        ("mmduet/errors.py", "import mmduet.options", check_imports_go_down),
        ("mmduet/attic/a.py", "", check_imports_go_down),
        ("mmduet/engine/a.py", "import mmduet.attic", check_imports_go_down),
        ("mmduet/__init__.py", "from mmduet.engine import Engine", check_the_public_api_is_lazy),
        ("mmduet/__init__.py", "import numpy", check_the_public_api_is_lazy),
        ("mmduet/duet/a.py", "import torch", check_torch_stays_in_its_packages),
        ("mmduet/cli/a.py", "def f():\n    import torch.nn.functional as F", check_torch_stays_in_its_packages),
        ("mmduet/evaluation/report.py", "from torch import Tensor", check_torch_stays_in_its_packages),
        ("mmduet/pipelines/remote.py", "import torch", check_torch_stays_in_its_packages),
        ("mmduet/duet/a.py", "\n" * (MAX_FILE_LINES + 1), check_sizes),
        ("mmduet/duet/a.py", "async def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES, check_sizes),
        ("mmduet/duet/a.py", "x = 1", check_module_docstring),
        ("mmduet/duet/a.py", "def f():\n    print('hello')", check_only_the_command_line_prints),
    ],
)
def test_rule_detects_a_violation(tmp_path: Path, name: str, text: str, rule: Rule) -> None:
    assert len(list(rule(write(tmp_path, name, text)))) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mmduet/scenes/a.py", '"""Docstring."""\nfrom mmduet.video import writer'),
        ("mmduet/cluster/a.py", '"""Docstring."""\nfrom ..server import app\nfrom . import b'),
        ("mmduet/options.py", '"""Docstring."""\nfrom mmduet.errors import OptionError'),
        ("mmduet/model/a.py", '"""Docstring."""\nimport torch\nfrom mmduet import __version__, duet'),
        ("mmduet/evaluation/runs/predict.py", '"""Docstring."""\nimport torch'),
        ("mmduet/cli/a.py", '"""Docstring."""\nprint("hello")'),
        ("mmduet/__init__.py", '"""Docstring."""\nif TYPE_CHECKING:\n    from mmduet.engine import Engine'),
    ],
)
def test_rules_accept_allowed_code(tmp_path: Path, name: str, text: str) -> None:
    source = write(tmp_path, name, text)
    assert [violation for rule in RULES for violation in rule(source)] == []


@pytest.mark.parametrize(
    ("first", "second", "is_cycle"),
    [
        ("from mmduet.duet.b import f", "from mmduet.duet import a", True),
        ("from mmduet.duet import b", "def f():\n    from mmduet.duet.a import g", True),
        ("from mmduet.duet import b", "if TYPE_CHECKING:\n    import mmduet.duet.a", True),
        ("from mmduet.duet import b", "import mmduet.errors", False),
    ],
)
def test_cycles_are_detected(tmp_path: Path, first: str, second: str, is_cycle: bool) -> None:
    files = [write(tmp_path, "mmduet/duet/a.py", first), write(tmp_path, "mmduet/duet/b.py", second)]
    assert bool(find_cycle(import_graph(files))) is is_cycle
