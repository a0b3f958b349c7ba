"""A fake ``/proc`` and ``/sys`` in a directory, with control groups of both versions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

GIB = 1 << 30
V1_UNLIMITED = 9223372036854771712  # what cgroup v1 reports without a limit


@dataclass
class FakeMachine:
    """A machine whose files lie below ``root``."""

    root: Path
    memberships: list[str] = field(default_factory=list)
    mounts: list[str] = field(default_factory=list)

    def set_memory(self, total: int, available: int) -> FakeMachine:
        """Write ``/proc/meminfo`` with sizes in bytes."""
        text = (
            f"MemTotal: {total // 1024} kB\nMemFree: 12 kB\nMemAvailable: {available // 1024} kB\nHugePages_Total: 0\n"
        )
        return self.write("proc/meminfo", text)

    def join(self, line: str) -> FakeMachine:
        """Add a line of ``/proc/self/cgroup``."""
        self.memberships.append(line)
        return self.write("proc/self/cgroup", "\n".join(self.memberships) + "\n")

    def mount(self, point: str, kind: str, options: str, mount_root: str = "/") -> FakeMachine:
        """Add a cgroup file system to ``/proc/self/mountinfo``."""
        self.mounts.append(f"31 23 0:28 {mount_root} {point} rw,relatime shared:9 - {kind} {kind} rw,{options}")
        return self.write("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda rw\n" + "\n".join(self.mounts) + "\n")

    def write(self, name: str, text: str | int) -> FakeMachine:
        """Write a file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}")
        return self


def v2_machine(root: Path, group: str = "/", mount_root: str = "/") -> FakeMachine:
    """Return a machine of 64 GiB, 40 of them available, that has cgroup v2."""
    machine = FakeMachine(root).set_memory(64 * GIB, 40 * GIB)
    return machine.join(f"0::{group}").mount("/sys/fs/cgroup", "cgroup2", "nsdelegate", mount_root)


def v1_machine(root: Path, group: str = "/", mount_root: str = "/") -> FakeMachine:
    """Return a machine of 64 GiB, 40 of them available, that has cgroup v1."""
    machine = FakeMachine(root).set_memory(64 * GIB, 40 * GIB)
    machine.join(f"4:memory:{group}").join(f"3:cpu,cpuacct:{group}").join("0::/")
    machine.mount("/sys/fs/cgroup/memory", "cgroup", "memory", mount_root)
    machine.mount("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "cpu,cpuacct", mount_root)
    machine.mount("/sys/fs/cgroup/unified", "cgroup2", "nsdelegate")
    machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", V1_UNLIMITED)
    return machine.write("sys/fs/cgroup/memory/memory.usage_in_bytes", 30 * GIB)
