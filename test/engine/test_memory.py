"""Memory of the host and of devices: the machine's own, limited by the control groups of both versions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from fake_machine import GIB, FakeMachine, v1_machine, v2_machine

from mmduet.engine.memory import HostMemory, free_bytes, host_memory
from mmduet.errors import CapacityError


def test_memory_without_limits_is_that_of_the_machine(tmp_path: Path) -> None:
    expected = HostMemory(64 * GIB, 40 * GIB)
    assert host_memory(FakeMachine(tmp_path).set_memory(64 * GIB, 40 * GIB).root) == expected
    assert host_memory(v2_machine(tmp_path / "v2").write("sys/fs/cgroup/memory.max", "max\n").root) == expected
    assert host_memory(v1_machine(tmp_path / "v1").root) == expected


def test_v2_limit_counts_without_reclaimable_file_pages(tmp_path: Path) -> None:
    machine = v2_machine(tmp_path).write("sys/fs/cgroup/memory.max", 8 * GIB)
    machine.write("sys/fs/cgroup/memory.current", 5 * GIB)
    machine.write("sys/fs/cgroup/memory.stat", f"anon {3 * GIB}\ninactive_file {2 * GIB}\nactive_file 4096\n")
    assert host_memory(tmp_path) == HostMemory(8 * GIB, 5 * GIB)


def test_v2_throttling_limit_counts(tmp_path: Path) -> None:
    """Above ``memory.high`` allocations are slowed down until memory is reclaimed."""
    machine = v2_machine(tmp_path).write("sys/fs/cgroup/memory.max", "max").write("sys/fs/cgroup/memory.high", 6 * GIB)
    machine.write("sys/fs/cgroup/memory.current", GIB)
    assert host_memory(tmp_path) == HostMemory(6 * GIB, 5 * GIB)


def test_smallest_limit_of_nested_groups_counts(tmp_path: Path) -> None:
    """An enclosing group may have the smaller limit, and its other members use a part of it."""
    machine = v2_machine(tmp_path, "/user.slice/job")
    machine.write("sys/fs/cgroup/user.slice/job/memory.max", 32 * GIB)
    machine.write("sys/fs/cgroup/user.slice/job/memory.current", GIB)
    machine.write("sys/fs/cgroup/user.slice/memory.max", 16 * GIB)
    machine.write("sys/fs/cgroup/user.slice/memory.current", 12 * GIB)
    assert host_memory(tmp_path) == HostMemory(16 * GIB, 4 * GIB)


def test_limit_of_another_group_does_not_count(tmp_path: Path) -> None:
    v2_machine(tmp_path, "/job").write("sys/fs/cgroup/other/memory.max", GIB)
    assert host_memory(tmp_path).total == 64 * GIB


def test_v1_limits_of_nested_groups(tmp_path: Path) -> None:
    machine = v1_machine(tmp_path, "/docker/abc")
    for name, limit, usage in (("docker/abc", 8, 2), ("docker", 20, 15)):
        machine.write(f"sys/fs/cgroup/memory/{name}/memory.limit_in_bytes", limit * GIB)
        machine.write(f"sys/fs/cgroup/memory/{name}/memory.usage_in_bytes", usage * GIB)
    machine.write("sys/fs/cgroup/memory/docker/abc/memory.stat", f"inactive_file 5\ntotal_inactive_file {GIB}\n")
    assert host_memory(tmp_path) == HostMemory(8 * GIB, 5 * GIB)


@pytest.mark.parametrize("mount_root", ["/docker/abc", "/docker/abc/nested"])
def test_mount_that_shows_only_the_container(tmp_path: Path, mount_root: str) -> None:
    """Without a cgroup namespace, ``/proc/self/cgroup`` has the path on the host, which may not even be visible."""
    machine = v1_machine(tmp_path, "/docker/abc", mount_root)
    machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", 4 * GIB)
    machine.write("sys/fs/cgroup/memory/memory.usage_in_bytes", GIB)
    assert host_memory(tmp_path) == HostMemory(4 * GIB, 3 * GIB)


def test_group_outside_of_the_namespace(tmp_path: Path) -> None:
    machine = v2_machine(tmp_path, "/../../job").write("sys/fs/cgroup/memory.max", 4 * GIB)
    machine.write("job/memory.max", GIB)
    assert host_memory(tmp_path).total == 4 * GIB


def test_group_above_its_limit_has_nothing_available(tmp_path: Path) -> None:
    machine = v2_machine(tmp_path).write("sys/fs/cgroup/memory.max", GIB)
    machine.write("sys/fs/cgroup/memory.current", 2 * GIB)
    assert host_memory(tmp_path).available == 0


def test_system_without_proc_assumes_a_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", values.__getitem__)
    assert host_memory(tmp_path) == HostMemory(4_096_000, 2_048_000)


def test_unknown_memory_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> NoReturn:
        raise ValueError(f"unrecognized configuration name {name}")

    monkeypatch.setattr(os, "sysconf", unknown)
    with pytest.raises(CapacityError, match="set the memory of sessions"):
        host_memory(tmp_path)


def test_this_machine_reports_its_memory() -> None:
    memory = host_memory()
    assert 0 < memory.available <= memory.total
    assert free_bytes(torch.device("cpu")) <= memory.total


def test_cuda_counts_unused_blocks_of_the_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's own figures are replaced: the sum is tested without a GPU."""
    devices = list[torch.device]()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: devices.append(device) or (7 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 3 * GIB)
    assert free_bytes(torch.device("cuda", 1)) == 9 * GIB
    assert devices == [torch.device("cuda", 1)]
