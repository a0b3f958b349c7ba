"""The engine thread: blocking pushes, outputs until the end, and failures that reach every waiting thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest
from duet_rig import Rig, endless_model, frames, lively_model, options, replies, scores

from mmduet.engine import Engine, EngineThread, Session, Stream
from mmduet.engine.batching_wait import BatchingWait
from mmduet.engine.runner import Runner, StepResult
from mmduet.engine.session import WorkItem
from mmduet.errors import EngineError, FormatError, OptionError, SessionClosedError
from mmduet.events import Output, Query, ReplyDelta, SessionFailed, StreamEnded
from mmduet.options import SessionOptions


def in_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def feed(stream: Stream, count: int, seed: int = 0) -> None:
    for frame in frames(count, seed):
        stream.push(frame)
    stream.end()


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.005)


def test_outputs_equal_those_of_the_synchronous_engine() -> None:
    with EngineThread(Rig(lively_model())) as thread:
        stream = thread.open(options(0.5))
        stream.push(Query("What?", 0.0))
        feed(stream, 12)
        outputs = list(stream.outputs())
    expected = Rig(lively_model()).run_stream(options(0.5), [Query("What?", 0.0), *frames(12)])
    assert outputs == expected


def test_concurrent_streams_share_steps() -> None:
    rig = Rig(lively_model())
    received: list[list[Output]] = [[], []]
    with EngineThread(rig) as thread:
        streams = [thread.open(options(0.5), max_frames=3) for _ in range(2)]
        listeners = [in_background(lambda i=i: received[i].extend(streams[i].outputs())) for i in range(2)]
        feeders = [in_background(lambda i=i: feed(streams[i], 25, seed=i)) for i in range(2)]
        for waiting in (*feeders, *listeners):
            waiting.join(30)
    for i in range(2):
        expected = Rig(lively_model()).run_stream(options(0.5), frames(25, i))
        assert scores(received[i]) == pytest.approx(scores(expected), abs=1e-5)
        assert replies(received[i]) == replies(expected)
    assert [0, 1] in [sorted(step) for step in rig.steps]


def test_push_blocks_while_max_frames_are_unscored() -> None:
    """While the engine is blocked, ``max_frames`` frames are accepted. The next push waits until one of them is scored."""
    gate = threading.Event()
    with EngineThread(Rig(lively_model())) as thread:
        stream = thread.open(options(), max_frames=3)
        thread.submit(lambda engine: gate.wait(30))
        pushed: list[int] = []

        def push_all() -> None:
            for frame in frames(5):
                stream.push(frame)
                pushed.append(frame.index)

        feeder = in_background(push_all)
        eventually(lambda: len(pushed) == 3)
        time.sleep(0.4)
        assert pushed == [0, 1, 2]
        gate.set()
        feeder.join(20)
        assert pushed == [0, 1, 2, 3, 4]
        stream.end()
        assert len(scores(list(stream.outputs()))) == 10


def test_reader_that_does_not_read_blocks_nobody() -> None:
    with EngineThread(Rig(lively_model())) as thread:
        unread, other = thread.open(options(0.5), max_frames=2), thread.open(options(), max_frames=2)
        feed(unread, 20)
        feed(other, 5)
        assert isinstance(list(other.outputs())[-1], StreamEnded)
        assert len(scores(list(unread.outputs()))) == 40


def test_reply_is_requested_and_cancelled_from_another_thread() -> None:
    with EngineThread(Rig(endless_model())) as thread:
        stream = thread.open(
            SessionOptions(speak=options().speak, decode=options(tokens=3000).decode, system_prompt="x")
        )
        stream.push(frames(1)[0])
        stream.speak_now()
        outputs = stream.outputs()
        received = [next(outputs)]
        while not isinstance(received[-1], ReplyDelta):
            received.append(next(outputs))
        stream.cancel()
        stream.end()
        received += outputs
    ((_, text, tokens, finish),) = replies(received)
    assert finish == "cancelled"
    assert 0 < tokens < 3000
    assert text


def test_close_ends_outputs_and_rejects_input() -> None:
    with EngineThread(Rig(lively_model())) as thread:
        stream = thread.open(options())
        stream.push(frames(1)[0])
        stream.close()
        outputs = list(stream.outputs())
        assert not any(isinstance(o, StreamEnded) for o in outputs)
        for rejected in (
            lambda: stream.push(frames(1)[0]),
            lambda: stream.push(Query("q")),
            stream.end,
            stream.speak_now,
        ):
            with pytest.raises(SessionClosedError):
                rejected()
        stream.close()  # a second call does nothing
        again = thread.open(options())
        feed(again, 2)
        assert len(scores(list(again.outputs()))) == 4


def test_exit_ends_open_streams() -> None:
    with EngineThread(Rig(lively_model())) as thread:
        stream = thread.open(options())
        stream.push(frames(1)[0])
    assert not any(isinstance(o, StreamEnded) for o in stream.outputs())
    assert not thread.alive
    with pytest.raises(SessionClosedError):
        stream.push(Query("q"))


def test_blocked_push_raises_when_its_session_fails() -> None:
    rig = Rig(lively_model(), slot_capacity=120)
    with EngineThread(rig) as thread:
        stream = thread.open(options(), max_frames=2)
        stream.push(Query("x" * 100, 1.0))
        with pytest.raises(SessionClosedError):
            feed(stream, 50)
        assert isinstance(list(stream.outputs())[-1], SessionFailed)


class FailingRunner(Runner):
    """A runner whose device fails at the first step."""

    def run(self, jobs: Sequence[tuple[Session, WorkItem]]) -> StepResult:
        raise RuntimeError("the device fell off")


def failing_engine() -> Engine:
    model = lively_model()
    return Engine(model, runner=FailingRunner(model))


def test_engine_failure_is_raised_in_all_streams() -> None:
    with EngineThread(failing_engine()) as thread:
        streams = [thread.open(options()) for _ in range(2)]
        streams[0].push(frames(1)[0])
        for stream in streams:
            with pytest.raises(EngineError, match="the device fell off") as caught:
                list(stream.outputs())
            assert isinstance(caught.value.__cause__, RuntimeError)
        eventually(lambda: not thread.alive)
        for rejected in (
            lambda: streams[1].push(frames(1)[0]), lambda: streams[1].push(Query("q")), streams[1].end, thread.open,
        ):  # fmt: skip
            with pytest.raises(EngineError, match="the device fell off"):
                rejected()


def test_blocked_push_raises_when_the_engine_fails() -> None:
    with EngineThread(failing_engine()) as thread:
        stream = thread.open(options(), max_frames=2)
        with pytest.raises(EngineError):
            feed(stream, 10)


def test_unusable_options_are_rejected_without_side_effects() -> None:
    with EngineThread(Rig(lively_model())) as thread:
        with pytest.raises(OptionError, match="smaller window"):
            thread.open(options(window=100_000))
        stream = thread.open(options())
        feed(stream, 1)
        assert len(scores(list(stream.outputs()))) == 2


def test_invalid_image_is_rejected_when_pushed() -> None:
    bad = frames(1)[0]
    bad = type(bad)(0, 0.0, bad.image.astype("float32"))
    with EngineThread(Rig(lively_model())) as thread:
        stream = thread.open(options())
        with pytest.raises(OptionError, match="uint8"):
            stream.push(bad)
        feed(stream, 1)
        assert len(scores(list(stream.outputs()))) == 2


def test_lone_surrogate_is_rejected_when_pushed() -> None:
    with EngineThread(Rig(lively_model())) as thread:
        stream = thread.open(options(0.5))
        with pytest.raises(FormatError, match="not valid Unicode"):
            stream.push(Query("What is \ud800?", 0.0))
        feed(stream, 2)
        assert isinstance(list(stream.outputs())[-1], StreamEnded)


class WaitForTwo(BatchingWait):
    """Waits until two sessions have work; ``planned`` are the numbers of ready sessions of which steps were planned."""

    def __init__(self) -> None:
        super().__init__()
        self.planned, self.recorded = list[int](), list[int]()

    def plan(self, ready: int, streams: int) -> tuple[float, int]:
        self.planned.append(ready)
        return (30.0, 2) if ready == 1 and streams > 1 else (0.0, 0)

    def on_step(self, seconds: float, frames: int, now: float) -> None:
        self.recorded.append(frames)


def test_step_waits_for_a_second_session() -> None:
    rig, wait = Rig(lively_model()), WaitForTwo()
    with EngineThread(rig, wait=wait) as thread:
        streams = [thread.open(options()) for _ in range(2)]
        streams[0].push(frames(1)[0])
        eventually(lambda: 1 in wait.planned)
        assert not rig.steps
        streams[1].push(frames(1)[0])
        for stream in streams:
            assert len(scores([next(stream.outputs())])) == 2
    assert sorted(rig.steps[0]) == [0, 1]
    assert wait.recorded[0] == 2


def test_only_session_is_not_delayed() -> None:
    wait = WaitForTwo()
    with EngineThread(Rig(lively_model()), wait=wait) as thread:
        stream = thread.open(options())
        feed(stream, 3)
        assert len(scores(list(stream.outputs()))) == 6


def test_thread_stops_during_a_wait() -> None:
    rig, wait = Rig(lively_model()), WaitForTwo()
    with EngineThread(rig, wait=wait) as thread:
        streams = [thread.open(options()) for _ in range(2)]
        streams[0].push(frames(1)[0])
        eventually(lambda: 1 in wait.planned)
    assert not rig.steps
    assert not thread.alive
