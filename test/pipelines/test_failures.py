"""Failures of videos, tasks, callbacks and servers: where they are reported, and that nothing keeps running after them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import write_video
from duet_rig import frames, lively_model, options
from live_server import run_test_server
from websockets.sync.server import ServerConnection, serve

from mmduet import HighlightDetection, VideoResult, pipeline
from mmduet.engine import Engine, Session
from mmduet.errors import EngineError, OptionError, VideoError
from mmduet.events import Frame, Output, Query, Scores, SessionFailed
from mmduet.model import LoadedModel
from mmduet.options import SessionOptions, SpeakOptions
from mmduet.pipelines.local import VideoJob, run_videos
from mmduet.protocol import server_events
from mmduet.protocol.event_ids import format_event_id
from mmduet.protocol.limits import Limits
from mmduet.tasks import Highlights, ModelDefaults, RunConfig, StreamResult

FPS = 4.0


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return lively_model()


@pytest.fixture(scope="module")
def where_by_name(model: LoadedModel) -> Iterator[dict[str, dict[str, object]]]:
    with run_test_server(model) as server:
        yield {"local": {"model": model}, "remote": {"server": f"ws://127.0.0.1:{server.port}"}}


@pytest.fixture(params=["local", "remote"])
def where(request: pytest.FixtureRequest, where_by_name: dict[str, dict[str, object]]) -> dict[str, object]:
    """The arguments that choose the model: the same one in this process or at a server."""
    return where_by_name[request.param]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"{k}.mp4", seconds) for k, seconds in enumerate((1, 2))]


@pytest.fixture(scope="module")
def truncated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that breaks off after its first frames."""
    path = write_video(tmp_path_factory.mktemp("truncated") / "truncated.mp4", 6)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    return path


# Tasks


@dataclass(frozen=True)
class FailingTask:
    """A task that raises ``error`` in one of its two methods."""

    method: str
    error: Exception
    name: str = "failing"
    heads: tuple[str, ...] = ("informative",)

    def run_config(self, defaults: ModelDefaults) -> RunConfig:
        if self.method == "run_config":
            raise self.error
        return HighlightDetection().run_config(defaults)

    def result(self, stream: StreamResult) -> Highlights:
        raise self.error


def test_a_task_that_rejects_the_model_is_an_error_of_each_video(where: dict, videos: list[Path]) -> None:
    task = FailingTask("run_config", OptionError("this model has no such head"))
    results = list(pipeline(task, fps=FPS, **where)(videos))
    assert [str(result.error) for result in results] == ["this model has no such head"] * 2
    assert [result.video for result in results] == videos


def test_a_task_that_rejects_the_scores_keeps_them_in_the_result(where: dict, videos: list[Path]) -> None:
    task = FailingTask("result", OptionError("the scores are not finite"))
    (result,) = pipeline(task, fps=FPS, **where)(videos[0])
    assert str(result.error) == "the scores are not finite"
    assert result.output is None
    assert result.stream is not None
    assert len(result.stream.scores) == 4
    assert sum(isinstance(event, Scores) for event in result.events) == 4


def test_an_unexpected_exception_of_a_task_reaches_the_caller(where: dict, videos: list[Path]) -> None:
    with pytest.raises(ZeroDivisionError):
        list(pipeline(FailingTask("result", ZeroDivisionError()), fps=FPS, **where)(videos))


# Callbacks


def test_an_unexpected_exception_in_on_frame_reaches_the_caller(where: dict, videos: list[Path]) -> None:
    def on_frame(video: Path, frame: Frame) -> None:
        raise ZeroDivisionError

    run = pipeline("highlight", fps=FPS, **where)
    with pytest.raises(ZeroDivisionError):
        list(run(videos, on_frame=on_frame))
    assert not worker_threads()
    assert [result.error for result in run(videos)] == [None, None]


def test_an_mmduet_error_in_on_frame_ends_that_video_only(where: dict, videos: list[Path]) -> None:
    def on_frame(video: Path, frame: Frame) -> None:
        if video == videos[1] and frame.time > 0.5:
            raise VideoError("the thumbnail cannot be written")

    first, second = pipeline("highlight", fps=FPS, **where)(videos, on_frame=on_frame)
    assert first.error is None
    assert str(second.error) == "the thumbnail cannot be written"
    assert second.output is None


# Arguments


@pytest.mark.parametrize("options", [{"fps": 0.0}, {"speak": "loudly"}, {"max_concurrent": 0}])
def test_options_are_checked_before_the_model_is_loaded(options: dict) -> None:
    with pytest.raises(OptionError):
        pipeline("caption", model="no-such-model", **options)


def test_results_that_are_never_read_do_not_block_the_pipeline(where: dict, videos: list[Path]) -> None:
    run = pipeline("highlight", fps=FPS, **where)
    unread = run(videos)
    abandoned = run(videos)
    next(abandoned)
    del abandoned
    assert len(list(run(videos))) == 2
    unread.close()
    assert len(list(run(videos))) == 2


def test_the_same_video_twice_gives_two_results(where: dict, videos: list[Path]) -> None:
    results = list(pipeline("highlight", fps=FPS, **where)([videos[0], videos[0]]))
    assert [result.video for result in results] == [videos[0]] * 2
    times = [result.stream and result.stream.times for result in results]
    assert times == [[0.0, 0.25, 0.5, 0.75]] * 2


# The engine


class RecordingEngine(Engine):
    """An engine that keeps the sessions it has opened."""

    def __init__(self, model: LoadedModel) -> None:
        super().__init__(model)
        self.opened: list[Session] = []

    def open(self, options: SessionOptions | None = None) -> Session:
        self.opened.append(super().open(options))
        return self.opened[-1]


def test_an_unexpected_exception_in_a_turn_leaves_no_session_open(model: LoadedModel) -> None:
    engine = RecordingEngine(model)
    job = VideoJob("bad turn", options(), [Query(5, 0.0)], lambda: frames(3))  # type: ignore[arg-type]
    with pytest.raises((TypeError, AttributeError)):
        list(run_videos(engine, [job]))
    assert [session.closed for session in engine.opened] == [True]


# The server


def session_created() -> server_events.SessionCreated:
    limits = Limits(
        max_sessions=9, max_message_bytes=1 << 20, max_waiting_frames=4, fps=FPS, window=None, idle_timeout_s=60,
        time_to_live_s=0,
    )  # fmt: skip
    duet = server_events.SessionDuet(
        fps=FPS, speak=SpeakOptions().to_dict(), keep_replies=False, profile="fixed", window=None, adapter=None,
        scores=True, ack=True, limits=limits, resume_token="token",
    )  # fmt: skip
    return server_events.SessionCreated(
        session=server_events.Session(id="s", model="m", max_output_tokens=9, duet=duet)
    )


@contextmanager
def fake_server(handle: Callable[[Callable[[server_events.ServerEvent], None], str | bytes], None]) -> Iterator[str]:
    """Serve sessions that accept every setting and hand all later messages to ``handle``, with a function to send events."""

    def serve_session(socket: ServerConnection) -> None:
        count = 0

        def send(event: server_events.ServerEvent) -> None:
            nonlocal count
            count += 1
            socket.send(event.model_copy(update={"event_id": format_event_id(count)}).model_dump_json())

        created = session_created()
        send(created)
        socket.recv()
        send(server_events.SessionUpdated(session=created.session))
        for message in socket:
            handle(send, message)

    with serve(serve_session, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def fail_session(send: Callable[[server_events.ServerEvent], None]) -> None:
    error = server_events.Error(type="server_error", code="no_capacity", message="the slot is full")
    send(server_events.ErrorEvent(error=error))
    send(server_events.SessionClosed(reason="failed", frames={}, duration_s=0.0))


def score_three_frames_then_fail(send: Callable[[server_events.ServerEvent], None], message: str | bytes) -> None:
    if isinstance(message, str):
        return
    seq = int.from_bytes(message[4:8], "little")
    scored = {"informative": 0.1, "relevance": 0.1, "decision": "listen", "age_ms": 1.0}
    send(server_events.FrameScored(seq=seq, pts=seq * 250_000, **scored))
    if seq == 2:
        fail_session(send)


def fail_at_the_end(send: Callable[[server_events.ServerEvent], None], message: str | bytes) -> None:
    if isinstance(message, bytes):
        seq = int.from_bytes(message[4:8], "little")
        scored = {"informative": 0.1, "relevance": 0.1, "decision": "listen", "age_ms": 1.0}
        send(server_events.FrameScored(seq=seq, pts=seq * 250_000, **scored))
    elif json.loads(message)["type"] == "input_frame.end":
        fail_session(send)


def test_a_session_that_fails_at_the_server_keeps_its_events(videos: list[Path]) -> None:
    with fake_server(score_three_frames_then_fail) as url:
        (result,) = pipeline("highlight", server=url, fps=FPS)(videos[1])
    assert result.error is not None
    assert (result.error.code, str(result.error)) == ("no_capacity", "the slot is full")
    assert result.output is None
    kinds: list[type[Output]] = [type(event) for event in result.events]
    assert kinds == [Scores, Scores, Scores, SessionFailed]


def test_the_error_of_the_session_counts_more_than_the_damage_of_the_file(truncated: Path) -> None:
    with fake_server(fail_at_the_end) as url:
        (result,) = pipeline("highlight", server=url, fps=FPS)(truncated)
    assert result.output is None
    assert result.error is not None
    assert result.error.code == "no_capacity"


def test_closing_the_iterator_does_not_wait_for_a_server_that_never_answers(videos: list[Path], tmp_path: Path) -> None:
    """The first video cannot be read; the second waits until the server has scored its first frames."""
    sent = threading.Semaphore(0)
    with fake_server(lambda send, message: sent.release()) as url:
        results = pipeline("highlight", server=url, fps=FPS)([tmp_path / "missing.mp4", videos[1]])
        assert next(results).error is not None
        for _ in range(3):
            assert sent.acquire(timeout=10)
        closing = threading.Thread(target=results.close, daemon=True)
        closing.start()
        closing.join(20)
        assert not closing.is_alive()
        assert not worker_threads()


def test_an_unknown_encoding_is_an_error_of_each_video(
    where_by_name: dict[str, dict[str, object]], videos: list[Path]
) -> None:
    (result,) = pipeline("highlight", encoding="gif", **where_by_name["remote"])(videos[0])  # type: ignore[call-overload]
    assert isinstance(result.error, OptionError)
    assert str(result.error) == "encoding must be 'jpeg', 'png' or 'raw', got 'gif'"


def test_a_second_call_during_the_first_is_an_error_when_it_is_read(where: dict, videos: list[Path]) -> None:
    run = pipeline("highlight", fps=FPS, **where)
    first, second = run(videos), run(videos)
    assert isinstance(next(first), VideoResult)
    with pytest.raises(EngineError, match="the pipeline is already running; read or close the iterator"):
        next(second)
    first.close()


def worker_threads() -> list[threading.Thread]:
    names = ("mmduet-video", "mmduet-source", "mmduet-client", "mmduet-close")
    return [thread for thread in threading.enumerate() if thread.name.startswith(names)]


OPEN_AT_EXIT = """
import sys
import mmduet

results = mmduet.pipeline("highlight", server=sys.argv[1], fps=4.0)(sys.argv[2:])
print(next(results).error.code)
"""


def test_a_script_ends_while_results_are_open_and_the_server_is_silent(videos: list[Path]) -> None:
    def score_four_frames(send: Callable[[server_events.ServerEvent], None], message: str | bytes) -> None:
        if isinstance(message, str) or int.from_bytes(message[4:8], "little") < 4:
            fail_at_the_end(send, message)  # the second video has more frames and waits for ever

    with fake_server(score_four_frames) as url:
        command = [sys.executable, "-c", OPEN_AT_EXIT, url, *map(str, videos)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no_capacity\n", "")
