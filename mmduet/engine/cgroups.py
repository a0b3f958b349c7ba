"""Finds the Linux control groups (cgroup v1 and v2) whose limits apply to this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

Controller = Literal["memory", "cpu"]
ROOT = Path("/")


@dataclass(frozen=True)
class ControlGroup:
    """The directory of one control group, with the version (1 or 2) of its interface files."""

    path: Path
    version: int

    def read(self, name: str) -> str | None:
        """Return the text of an interface file; None if the group has no such file."""
        return read_text(self.path / name)

    def read_int(self, name: str) -> int | None:
        """Return the number in an interface file; None if the file does not exist or has no number, such as ``max``."""
        text = self.read(name)
        with contextlib.suppress(ValueError):
            return None if text is None else int(text)
        return None


@dataclass(frozen=True)
class _Mount:
    """A mounted cgroup file system: ``root`` is the group that is visible at ``point``."""

    root: PurePosixPath
    point: PurePosixPath
    version: int
    controllers: frozenset[str]


def control_groups(controller: Controller, root: Path = ROOT) -> list[ControlGroup]:
    """Return the groups that limit this process with ``controller``: its own group first, then each enclosing one.

    The list is empty on other systems than Linux. ``root`` is the directory that holds ``proc`` and ``sys``.
    """
    mounts = list(_mounts(root))
    groups = list[ControlGroup]()
    for version, group in _memberships(controller, root):
        for mount in mounts:
            if mount.version == version and (version == 2 or controller in mount.controllers):
                groups += [ControlGroup(_below(root, path), version) for path in _visible_levels(mount, group)]
    return groups


def read_text(path: Path) -> str | None:
    """Return the text of a file; None if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _memberships(controller: Controller, root: Path) -> Iterator[tuple[int, PurePosixPath]]:
    """Yield version and path of the groups of this process: ``4:memory:/path`` (v1) and ``0::/path`` (v2)."""
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield 2, PurePosixPath(path)
        elif controller in controllers.split(","):
            yield 1, PurePosixPath(path)


def _mounts(root: Path) -> Iterator[_Mount]:
    """Yield the cgroup file systems. Source of the format: proc_pid_mountinfo(5)."""
    for line in (read_text(root / "proc/self/mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        fields, source = left.split(), right.split()
        if len(fields) > 4 and len(source) > 2 and source[0] in ("cgroup", "cgroup2"):
            version = 2 if source[0] == "cgroup2" else 1
            controllers = frozenset(source[2].split(","))
            yield _Mount(PurePosixPath(fields[3]), PurePosixPath(fields[4]), version, controllers)


def _visible_levels(mount: _Mount, group: PurePosixPath) -> list[PurePosixPath]:
    """Return the directories of a group and its enclosing groups below the mount point, which is the last one.

    In a container the mount may show only a part of the hierarchy, and the group may lie outside of it; then only the mount
    point is returned.
    """
    if ".." in group.parts or not group.is_relative_to(mount.root):
        return [mount.point]
    own = mount.point / group.relative_to(mount.root)
    return [own, *(path for path in own.parents if path.is_relative_to(mount.point))]


def _below(root: Path, path: PurePosixPath) -> Path:
    return root / str(path).lstrip("/")
