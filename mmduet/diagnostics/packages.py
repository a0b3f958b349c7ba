"""Python packages: the versions of the core ones and whether they can be imported, and which extras are complete."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

CORE_PACKAGES = {
    "torch": "torch",
    "transformers": "transformers",
    "tokenizers": "tokenizers",
    "safetensors": "safetensors",
    "numpy": "numpy",
    "av": "av",
    "huggingface_hub": "huggingface_hub",
    "pillow": "PIL",
}
"""Distributions without which no model runs on a video, and the module of each."""
USER_EXTRAS = ("client", "server", "otel", "webcam", "demo", "train", "quant", "eval", "cluster")

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[(?P<extras>[^]]*)\])?[^;]*;(?P<marker>.*)")
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


@dataclass(frozen=True)
class Package:
    """An installed distribution. ``version`` is None if it is missing; ``problem`` is why it cannot be used, or None."""

    name: str
    version: str | None
    problem: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the package under the names of the report."""
        return {"name": self.name, "version": self.version, "problem": self.problem}


@dataclass(frozen=True)
class Extra:
    """An extra of mmduet, the distributions of it that are not installed, and the command that installs it."""

    name: str
    missing: tuple[str, ...]

    @property
    def install_command(self) -> str:
        """The command that installs the extra."""
        return f"pip install 'mmduet[{self.name}]'"

    def to_dict(self) -> dict[str, Any]:
        """Return the extra under the names of the report."""
        return {"name": self.name, "missing": self.missing, "install_command": self.install_command}


def core_packages(load: Callable[[str], object] = import_module) -> list[Package]:
    """Return the core packages. ``load`` imports a module by name; what it raises is the package's problem."""
    return [_check_package(name, module, load) for name, module in CORE_PACKAGES.items()]


def _check_package(name: str, module: str, load: Callable[[str], object]) -> Package:
    found = _installed_version(name)
    if found is None:
        return Package(name, None, f"not installed; run: pip install {name}")
    try:
        load(module)
    except Exception as error:  # noqa: BLE001 - a broken installation can raise anything; the report contains it
        return Package(name, found, f"cannot be imported: {type(error).__name__}: {error}")
    return Package(name, found, None)


def extras(
    requirements: Iterable[str] | None = None, installed: Callable[[str], str | None] | None = None
) -> list[Extra]:
    """Return the extras for users. The arguments are the requirements of mmduet and a look-up of versions."""
    by_extra = _requirements_by_extra(_own_requirements() if requirements is None else requirements)
    look_up = installed or _installed_version
    return [
        Extra(name, tuple(each for each in _expand(name, by_extra) if look_up(each) is None))
        for name in USER_EXTRAS
        if name in by_extra
    ]


def _requirements_by_extra(requirements: Iterable[str]) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """Return, by extra, the names of distributions and their own extras. Those of some platforms only are left out."""
    found: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for requirement in requirements:
        parsed = _REQUIREMENT.fullmatch(requirement)
        extra = parsed and _EXTRA.search(parsed["marker"])
        if parsed and extra and "platform" not in parsed["marker"]:
            inner = tuple(name.strip() for name in (parsed["extras"] or "").split(",") if name.strip())
            found.setdefault(extra[1], []).append((parsed["name"], inner))
    return found


def _expand(extra: str, by_extra: Mapping[str, list[tuple[str, tuple[str, ...]]]]) -> list[str]:
    """Return the distributions of an extra, with those of the extras of mmduet that it includes."""
    names: list[str] = []
    for name, inner in by_extra.get(extra, []):
        names += [each for part in inner for each in _expand(part, by_extra)] if name == "mmduet" else [name]
    return list(dict.fromkeys(names))


def _installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _own_requirements() -> list[str]:
    try:
        return requires("mmduet") or []
    except PackageNotFoundError:  # run from a source folder that is not installed
        return []
