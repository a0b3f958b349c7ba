"""A task finds the same on a stream of this process and on one at a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from duet_rig import frames, lively_model
from live_server import RunningServer, run_test_server

from mmduet.client import RemoteStream
from mmduet.client.tasks import configure
from mmduet.client.tasks import model_defaults as own_there
from mmduet.engine import Engine, EngineThread, model_defaults, task_options
from mmduet.tasks import (
    DenseCaptioning,
    HighlightDetection,
    OnlineGrounding,
    QuestionAnswering,
    Task,
    TemporalGrounding,
    run_task,
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
def served() -> Iterator[RunningServer]:
    with run_test_server(lively_model(), max_message_bytes=1 << 20) as server:
        yield server


def found_here(task: Task[Any]) -> Any:
    model = lively_model()
    with EngineThread(Engine(model)) as thread:
        setting = task.run_config(model_defaults(model.config.recommended))
        stream = thread.open(task_options(model.config.recommended, setting))
        return run_task(task, setting, stream, frames(20, 3))


def found_there(task: Task[Any], served: RunningServer) -> Any:
    with RemoteStream(served.url(), encoding="raw", block_when_behind=True) as stream:
        setting = task.run_config(own_there(stream.session))
        configure(stream, setting)
        return run_task(task, setting, stream, frames(20, 3))


def same(one: Any, other: Any) -> bool:
    """Numbers but for rounding, all else to the letter."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == (pytest.approx(other, abs=1e-4) if isinstance(other, float) else other)


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_the_same_is_found_here_and_there(task: Task[Any], served: RunningServer) -> None:
    assert same(found_there(task, served).to_dict(), found_here(task).to_dict())


def test_the_tasks_above_find_something() -> None:
    found = [found_here(task).to_dict() for task in TASKS]
    assert all(len(found[k]["segments"]) > 2 for k in (0, 1))
    assert all(found[k]["spans"] for k in (2, 3, 4))
    assert all(found[k]["top"] for k in (5, 6))
    assert found[7]["answers"][0]["start"] >= 2.2
    assert [answer["start"] for answer in found[8]["answers"]] == [99.0]
    assert len(found[9]["answers"]) > 1
