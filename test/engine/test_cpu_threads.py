"""The number of CPU threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fake_machine import v1_machine, v2_machine
from torch import nn

from mmduet.engine.cpu_threads import available_cores, cpu_quota, recommended_threads, set_threads


@pytest.fixture(autouse=True)
def restored_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("parameters", "streams", "threads"),
    [(2_800_000, 1, 1), (2_800_000, 8, 1), (500_000_000, 1, 16), (2_800_000, 64, 16), (2_800_000, None, 16)],
)
def test_little_work_per_step_uses_one_thread(parameters: int, streams: int | None, threads: int) -> None:
    assert recommended_threads(parameters, streams, 16) == threads


def test_the_requested_number_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Linear(10, 10)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    torch.set_num_threads(2)
    set_threads(network, None)
    assert torch.get_num_threads() == 2
    set_threads(network, 1, requested=3)
    assert torch.get_num_threads() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    set_threads(network, 1)
    assert torch.get_num_threads() == 1
    set_threads(network, None)
    assert torch.get_num_threads() == available_cores()


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("350000 100000", 3), ("50000 100000", 1), ("9000 1000", 8)]
)
def test_v2_quota_limits_the_cores(tmp_path: Path, quota: str, cores: int) -> None:
    v2_machine(tmp_path).write("sys/fs/cgroup/cpu.max", f"{quota}\n")
    assert available_cores(tmp_path) == cores


@pytest.mark.usefixtures("eight_cores")
def test_smallest_quota_of_nested_groups_counts(tmp_path: Path) -> None:
    machine = v2_machine(tmp_path, "/user.slice/job")
    machine.write("sys/fs/cgroup/user.slice/job/cpu.max", "600000 100000")
    machine.write("sys/fs/cgroup/user.slice/cpu.max", "200000 100000")
    assert available_cores(tmp_path) == 2


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(("quota", "expected"), [(-1, None), (250_000, 2.5)])
def test_v1_quota(tmp_path: Path, quota: int, expected: float | None) -> None:
    machine = v1_machine(tmp_path, "/docker/abc").write("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", quota)
    machine.write("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", 100_000)
    assert cpu_quota(tmp_path) == expected
    assert available_cores(tmp_path) == (8 if expected is None else 2)
