"""A task finds the same on a stream of this process and on one at a server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from duet_rig import frames, lively_model
from served import Served, serving

from mmduet.client import RemoteStream
from mmduet.client.tasks import adopt
from mmduet.client.tasks import own as own_there
from mmduet.engine import Engine, EngineThread, own, task_options
from mmduet.tasks import (
    DenseCaptioning,
    HighlightDetection,
    OnlineGrounding,
    QuestionAnswering,
    Task,
    TemporalGrounding,
    run,
)
from mmduet.tasks.online_grounding import Hysteresis

TASKS: list[Task[Any]] = [
    DenseCaptioning(),
    DenseCaptioning(profile="paper"),
    TemporalGrounding("a dog", threshold=0.02),
    TemporalGrounding("a dog", "paper"),
    OnlineGrounding("a dog", Hysteresis(0.04, 0.01, 0.5)),
    HighlightDetection("a dog", profile="paper"),
    HighlightDetection(),
    QuestionAnswering("What is it?", 2.2),
    QuestionAnswering("Too late?", 99.0),
    QuestionAnswering("What is it?", profile="paper"),
]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(lively_model(), max_message_bytes=1 << 20) as server:
        yield server


def found_here(task: Task[Any]) -> Any:
    model = lively_model()
    with EngineThread(Engine(model)) as thread:
        setting = task.setting(own(model.config.recommended))
        stream = thread.open(task_options(model.config.recommended, setting))
        return run(task, setting, stream, frames(20, 3))


def found_there(task: Task[Any], served: Served) -> Any:
    with RemoteStream(served.url(), encoding="raw", patient=True) as stream:
        setting = task.setting(own_there(stream.session))
        adopt(stream, setting)
        return run(task, setting, stream, frames(20, 3))


def same(one: Any, other: Any) -> bool:
    """Numbers but for rounding, all else to the letter."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == (pytest.approx(other, abs=1e-4) if isinstance(other, float) else other)


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_the_same_is_found_here_and_there(task: Task[Any], served: Served) -> None:
    assert same(asdict(found_there(task, served)), asdict(found_here(task)))


def test_the_tasks_above_find_something() -> None:
    found = [asdict(found_here(task)) for task in TASKS]
    assert all(len(found[k]["segments"]) > 2 for k in (0, 1))
    assert all(found[k]["spans"] for k in (2, 3, 4))
    assert all(found[k]["top"] for k in (5, 6))
    assert found[7]["answers"][0]["start"] >= 2.2
    assert [answer["start"] for answer in found[8]["answers"]] == [99.0]
    assert len(found[9]["answers"]) > 1
