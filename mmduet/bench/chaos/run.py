"""Run all clients and disturbances of a chaos run and collect the outcome."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from time import monotonic

import psutil

from mmduet.bench.chaos.disturbance import Disturbance
from mmduet.bench.chaos.honest_clients import run_honest_client, stream_once
from mmduet.bench.chaos.hostile_clients import run_hostile_client
from mmduet.bench.chaos.report import ChaosConfig, ChaosReport

WARM_UP_SHARE = 0.5
"""Share of a run after which memory growth counts. For about two minutes a server fills up with sessions that wait for lost
clients and with memory that the allocator keeps, so a run should be several times as long."""
CALM_SECONDS, MAX_CALM_SHARE = 15.0, 0.2
"""Disturbances end this long before the clients, but at most this share of the run, so that the server can recover."""
MIB = 2**20


async def run_chaos(
    url: str,
    pid: int,
    config: ChaosConfig,
    progress: Callable[[float], None],
    disturbances: Sequence[Disturbance] = (),
) -> ChaosReport:
    """Run all clients against the server at ``url``, whose process is ``pid``; ``progress`` receives the share that is done."""
    result, attacks = ChaosReport(), Counter[str]()
    alone = await stream_once(url, config, result)
    result.iterations = result.frames = 0
    seconds = config.minutes * 60
    end = monotonic() + seconds
    calm = end - min(CALM_SECONDS, MAX_CALM_SHARE * seconds)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(config.honest):
            tasks.create_task(run_honest_client(url, config, alone, result, end))
        for number in range(config.hostile):
            rng = random.Random(config.seed * 1000 + number)
            tasks.create_task(run_hostile_client(url, config, rng, attacks, end))
        for disturbance in disturbances:
            tasks.create_task(disturbance.run(end if disturbance.observes else calm))
        tasks.create_task(_track_memory(pid, result, seconds, progress))
    result.attacks = dict(sorted(attacks.items()))
    for disturbance in disturbances:
        result.disturbances[disturbance.name] = disturbance.to_dict()
        result.disturbance_faults += disturbance.faults
    return result


async def _track_memory(pid: int, result: ChaosReport, seconds: float, progress: Callable[[float], None]) -> None:
    process, start = psutil.Process(pid), monotonic()
    while (done := (monotonic() - start) / seconds) < 1:
        size = process.memory_info().rss / MIB
        if done < WARM_UP_SHARE:
            result.memory_before_mb = size
        result.memory_after_mb = size
        progress(done)
        await asyncio.sleep(min(1.0, seconds / 20))
