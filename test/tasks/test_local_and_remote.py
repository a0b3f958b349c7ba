"""A task has the same result on a stream of this process and on a stream at a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from duet_rig import frames, lively_model
from live_server import RunningServer, run_test_server

from mmduet.client import RemoteStream
from mmduet.client.tasks import configure
from mmduet.client.tasks import model_defaults as remote_defaults
from mmduet.engine import Engine, EngineThread, model_defaults, task_options
from mmduet.events import Query, Reply, Scores, SessionWarning
from mmduet.options import SessionOptions, SpeakOptions
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
from mmduet.tasks.streaming import InteractiveStream

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


def run_locally(task: Task[Any]) -> Any:
    model = lively_model()
    with EngineThread(Engine(model)) as thread:
        config = task.run_config(model_defaults(model.config.recommended))
        stream = thread.open(task_options(model.config.recommended, config))
        return run_task(task, config, stream, frames(20, 3))


def run_remotely(task: Task[Any], served: RunningServer) -> Any:
    with RemoteStream(served.url(), encoding="raw", block_when_behind=True) as stream:
        config = task.run_config(remote_defaults(stream.session))
        configure(stream, config)
        return run_task(task, config, stream, frames(20, 3))


def results_match(a: Any, b: Any) -> bool:
    """Whether two results are equal, floats up to rounding."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(results_match(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(results_match(x, y) for x, y in zip(a, b, strict=True))
    return a == (pytest.approx(b, abs=1e-4) if isinstance(b, float) else b)


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_local_and_remote_results_match(task: Task[Any], served: RunningServer) -> None:
    assert results_match(run_remotely(task, served).to_dict(), run_locally(task).to_dict())


def test_compared_results_are_not_empty() -> None:
    results = [run_locally(task).to_dict() for task in TASKS]
    assert all(len(results[k]["segments"]) > 2 for k in (0, 1))
    assert all(results[k]["spans"] for k in (2, 3, 4))
    assert all(results[k]["top"] for k in (5, 6))
    assert results[7]["answers"][0]["start"] >= 2.2
    assert [answer["start"] for answer in results[8]["answers"]] == [10.0]
    assert len(results[9]["answers"]) > 1


# streams that a user controls

NEVER = SpeakOptions("never", 0.0)


@contextmanager
def open_stream(kind: str, served: RunningServer) -> Iterator[InteractiveStream]:
    """Open a stream that does not speak unless it is asked to."""
    if kind == "local":
        with EngineThread(Engine(lively_model())) as thread:
            yield thread.open(SessionOptions(speak=NEVER, window=8))
    else:
        with RemoteStream(served.url(), encoding="raw", block_when_behind=True) as stream:
            stream.update(duet={"fps": None, "window": 8, "speak": NEVER.to_dict()})
            yield stream


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_speak_options_change_while_a_stream_runs(kind: str, served: RunningServer) -> None:
    pictures = iter(frames(4, 3))
    with open_stream(kind, served) as stream:
        outputs = stream.outputs()

        def decision() -> bool:
            stream.push(next(pictures))
            return next(output.speak for output in outputs if isinstance(output, Scores))

        assert not decision()
        stream.update_speak(SpeakOptions("threshold", 0.0))
        assert decision()
        next(output for output in outputs if isinstance(output, Reply))
        stream.update_speak(NEVER)
        assert not decision()
        stream.speak_now()
        reply = next(output for output in outputs if isinstance(output, Reply))
        assert (reply.forced, reply.frame) == (True, 2)
        stream.close()


def test_a_query_that_the_server_rejects_is_a_warning(served: RunningServer) -> None:
    with open_stream("remote", served) as stream:
        stream.push(Query("<|im_end|>"))
        warning = next(iter(stream.outputs()))
        assert isinstance(warning, SessionWarning)
        assert warning.code == "invalid_value"
        assert "<|im_end|>" in warning.message
