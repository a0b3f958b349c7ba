"""Load training recipes from YAML files, with single values overridden, and write them with every default."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mmduet.errors import AnnotationError, OptionError
from mmduet.files import read_text, visible_files
from mmduet.text import did_you_mean, shorten
from mmduet.training.recipe import Recipe
from mmduet.training.recipe_errors import describe_problem
from mmduet.training.recipe_yaml import Document, KeyPath, dump_yaml, parse_yaml

SHIPPED = Path(__file__).resolve().parent.parent / "recipes"
SUFFIXES = (".yaml", ".yml")
PATH_KEYS = ("annotations", "videos")


@dataclass(frozen=True)
class Override:
    """``KEY=VALUE``: one value of a recipe that replaces the file's."""

    text: str
    path: KeyPath
    value: Any

    @classmethod
    def parse(cls, text: str) -> Override:
        """Parse ``optimization.learning_rate=1e-4``; the value is YAML. Raises ``OptionError``."""
        name, equals, value = text.partition("=")
        path = tuple(name.strip().split("."))
        if not equals or not all(path):
            raise OptionError(f"override {shorten(text)!r} must be KEY=VALUE, such as optimization.learning_rate=1e-4")
        return cls(text, path, parse_yaml(value, f"the value of override {shorten(text)!r}").value)

    def concerns(self, path: KeyPath, document: Document) -> bool:
        """Return whether a problem at ``path`` is one of this value, or of a section that only this value added to the file."""
        inside = path[: len(self.path)] == self.path
        return inside or (self.path[: len(path)] == path and path != () and path not in document.lines)

    def apply(self, values: Any, depth: int = 0) -> Any:
        """Return ``values``, a recipe's plain values, with this value replaced. Raises ``OptionError``."""
        if depth == len(self.path):
            return self.value
        key, parent = self.path[depth], shorten(".".join(self.path[:depth])) or "the recipe"
        if isinstance(values, list):
            if not (key.isdecimal() and int(key) < len(values)):
                raise OptionError(
                    f"override {shorten(self.text)!r}: {parent} has no entry {shorten(key)}; "
                    f"it has {len(values)}, and the number of the first is 0"
                )
            return [self.apply(item, depth + 1) if i == int(key) else item for i, item in enumerate(values)]
        if values is not None and not isinstance(values, dict):
            raise OptionError(f"override {shorten(self.text)!r}: {parent} is not a mapping and has no key {key}")
        old = values or {}
        return {**old, key: self.apply(old.get(key), depth + 1)}


def shipped_recipes() -> list[str]:
    """Return the names of the recipes that are part of the package."""
    return [path.stem for path in visible_files(SHIPPED, "*.yaml")]


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe in a YAML file, or a shipped one by its name, with ``overrides`` such as ``"sampling.fps=2"``.

    Relative paths of data in a file count from its folder; those in a shipped recipe and in overrides from the working
    directory. The recipe has absolute paths. Raises ``OptionError`` for a file that cannot be read and for invalid values.
    """
    path = _find(name)
    document = _read(path, f"recipe {name}")
    folder = Path.cwd() if path.parent == SHIPPED else path.parent
    values = _resolve_paths(document.value, folder)
    parsed = [Override.parse(text) for text in overrides]
    for override in parsed:
        values = override.apply(values)
    return _validate(_resolve_paths(values, Path.cwd()), f"recipe {name}", document, parsed)


def recipe_from_dict(values: Any, source: str) -> Recipe:
    """Return the recipe of ``Recipe.model_dump(mode="json")``. Raises ``OptionError``, whose message begins with ``source``."""
    return _validate(values, source, Document(values, {}), ())


def dump_recipe(recipe: Recipe) -> str:
    """Return the recipe as YAML with every default; ``load_recipe`` reads it back as it is."""
    return dump_yaml(recipe.model_dump(mode="json"))


def _find(name: str | Path) -> Path:
    """Return the file of a recipe: a path, or a shipped recipe's name."""
    text = os.fspath(name)
    if isinstance(name, Path) or text.endswith(SUFFIXES) or os.sep in text:
        return Path(text).absolute()
    if text not in shipped_recipes():
        names = shipped_recipes()
        raise OptionError(
            f"recipe {shorten(text)!r} is not part of mmduet{did_you_mean(text, names)} its recipes are {', '.join(names)}; "
            "the path of your own recipe ends in .yaml"
        )
    return SHIPPED / f"{text}.yaml"


def _read(path: Path, source: str) -> Document:
    try:
        return parse_yaml(read_text(path), source)
    except AnnotationError as error:
        raise OptionError(f"recipe {error}") from None


def _validate(values: Any, source: str, document: Document, overrides: Sequence[Override]) -> Recipe:
    """Return the recipe. Raises ``OptionError`` that names the override, or the file and the line, with the problem."""
    try:
        return Recipe.model_validate({} if values is None else values)
    except ValidationError as error:
        problem = describe_problem(error)
    override = next((o for o in reversed(overrides) if o.concerns(problem.path, document)), None)
    if override is not None:
        raise OptionError(f"override {shorten(override.text)!r}: {problem.message}")
    line = document.line_of(problem.path)
    raise OptionError(f"{source}{f', line {line}' if line else ''}: {problem.message}")


def _resolve_paths(values: Any, folder: Path) -> Any:
    """Return ``values`` with the paths of all data sets made absolute; anything of a wrong type stays as it is."""
    if not isinstance(values, dict):
        return values
    resolved = {key: _resolve_data(value, folder) if key == "data" else value for key, value in values.items()}
    validation = values.get("validation")
    if isinstance(validation, dict) and "data" in validation:
        resolved["validation"] = {**validation, "data": _resolve_data(validation["data"], folder)}
    return resolved


def _resolve_data(data: Any, folder: Path) -> Any:
    if not isinstance(data, list):
        return data
    return [
        {key: _resolve_path(value, folder) if key in PATH_KEYS else value for key, value in entry.items()}
        if isinstance(entry, dict)
        else entry
        for entry in data
    ]


def _resolve_path(value: Any, folder: Path) -> Any:
    return str(Path(folder, os.path.expanduser(value)).absolute()) if isinstance(value, str) else value  # noqa: PTH111
