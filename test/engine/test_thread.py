"""The engine's thread: bounded queues, outputs to the end, failures that reach every waiter."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest
from duet_rig import Rig, endless_model, frames, lively_model, options, replies, scores

from mmduet.engine import Engine, EngineThread, Session, Stream
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


def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.005)


def test_outputs_are_those_of_the_synchronous_engine() -> None:
    with EngineThread(Rig(lively_model())) as thread:
        stream = thread.open(options(0.5))
        stream.push(Query("What?", 0.0))
        feed(stream, 12)
        outputs = list(stream.outputs())
    wanted = Rig(lively_model()).watch(options(0.5), [Query("What?", 0.0), *frames(12)])
    assert outputs == wanted


def test_two_streams_at_once_share_steps() -> None:
    rig = Rig(lively_model())
    heard: list[list[Output]] = [[], []]
    with EngineThread(rig) as thread:
        streams = [thread.open(options(0.5), max_frames=3) for _ in range(2)]
        listeners = [in_background(lambda i=i: heard[i].extend(streams[i].outputs())) for i in range(2)]
        feeders = [in_background(lambda i=i: feed(streams[i], 25, seed=i)) for i in range(2)]
        for waiting in (*feeders, *listeners):
            waiting.join(30)
    for i in range(2):
        wanted = Rig(lively_model()).watch(options(0.5), frames(25, i))
        assert scores(heard[i]) == pytest.approx(scores(wanted), abs=1e-5)
        assert replies(heard[i]) == replies(wanted)
    assert [0, 1] in [sorted(step) for step in rig.steps]


def test_a_source_that_is_too_fast_is_made_to_wait() -> None:
    """While the engine is held up, ``max_frames`` frames go in, the next push waits until one was watched."""
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


def test_a_reader_that_does_not_read_holds_up_nobody() -> None:
    with EngineThread(Rig(lively_model())) as thread:
        deaf, other = thread.open(options(0.5), max_frames=2), thread.open(options(), max_frames=2)
        feed(deaf, 20)
        feed(other, 5)
        assert isinstance(list(other.outputs())[-1], StreamEnded)
        assert len(scores(list(deaf.outputs()))) == 40


def test_speak_now_and_cancel_from_outside() -> None:
    with EngineThread(Rig(endless_model())) as thread:
        stream = thread.open(
            SessionOptions(speak=options().speak, decode=options(tokens=3000).decode, system_prompt="x")
        )
        stream.push(frames(1)[0])
        stream.speak_now()
        outputs = stream.outputs()
        heard = [next(outputs)]
        while not isinstance(heard[-1], ReplyDelta):
            heard.append(next(outputs))
        stream.cancel()
        stream.end()
        heard += outputs
    ((_, text, tokens, finish),) = replies(heard)
    assert finish == "cancelled"
    assert 0 < tokens < 3000
    assert text


def test_close_ends_outputs_and_refuses_more() -> None:
    with EngineThread(Rig(lively_model())) as thread:
        stream = thread.open(options())
        stream.push(frames(1)[0])
        stream.close()
        outputs = list(stream.outputs())
        assert not any(isinstance(o, StreamEnded) for o in outputs)
        for refused in (
            lambda: stream.push(frames(1)[0]),
            lambda: stream.push(Query("q")),
            stream.end,
            stream.speak_now,
        ):
            with pytest.raises(SessionClosedError):
                refused()
        stream.close()  # twice does no harm
        again = thread.open(options())
        feed(again, 2)
        assert len(scores(list(again.outputs()))) == 4


def test_leaving_ends_open_streams() -> None:
    with EngineThread(Rig(lively_model())) as thread:
        stream = thread.open(options())
        stream.push(frames(1)[0])
    assert not any(isinstance(o, StreamEnded) for o in stream.outputs())
    assert not thread.alive
    with pytest.raises(SessionClosedError):
        stream.push(Query("q"))


def test_a_waiting_source_is_told_when_its_session_fails() -> None:
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


def test_a_failing_engine_reaches_everybody() -> None:
    with EngineThread(failing_engine()) as thread:
        streams = [thread.open(options()) for _ in range(2)]
        streams[0].push(frames(1)[0])
        for stream in streams:
            with pytest.raises(EngineError, match="the device fell off") as caught:
                list(stream.outputs())
            assert isinstance(caught.value.__cause__, RuntimeError)
        eventually(lambda: not thread.alive)
        for refused in (
            lambda: streams[1].push(frames(1)[0]), lambda: streams[1].push(Query("q")), streams[1].end, thread.open,
        ):  # fmt: skip
            with pytest.raises(EngineError, match="the device fell off"):
                refused()


def test_a_source_waiting_for_room_is_told_of_a_failing_engine() -> None:
    with EngineThread(failing_engine()) as thread:
        stream = thread.open(options(), max_frames=2)
        with pytest.raises(EngineError):
            feed(stream, 10)


def test_options_the_model_cannot_serve_are_refused_and_harm_nobody() -> None:
    with EngineThread(Rig(lively_model())) as thread:
        with pytest.raises(OptionError, match="smaller window"):
            thread.open(options(window=100_000))
        stream = thread.open(options())
        feed(stream, 1)
        assert len(scores(list(stream.outputs()))) == 2


def test_a_picture_that_is_none_is_refused_where_it_is_pushed() -> None:
    bad = frames(1)[0]
    bad = type(bad)(0, 0.0, bad.image.astype("float32"))
    with EngineThread(Rig(lively_model())) as thread:
        stream = thread.open(options())
        with pytest.raises(OptionError, match="uint8"):
            stream.push(bad)
        feed(stream, 1)
        assert len(scores(list(stream.outputs()))) == 2


def test_half_a_character_is_refused_where_it_is_pushed() -> None:
    with EngineThread(Rig(lively_model())) as thread:
        stream = thread.open(options(0.5))
        with pytest.raises(FormatError, match="not valid Unicode"):
            stream.push(Query("What is \ud800?", 0.0))
        feed(stream, 2)
        assert isinstance(list(stream.outputs())[-1], StreamEnded)
