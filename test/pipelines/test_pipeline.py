"""``mmduet.pipeline``: results of one task over many videos, in this process and at a server."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import write_video
from duet_rig import lively_model
from live_server import RunningServer, run_test_server, wait_for

from mmduet import OnlineGrounding, Pipeline, QuestionAnswering, VideoResult, pipeline
from mmduet.client import RemoteStream
from mmduet.engine import Engine, EngineThread, model_defaults, task_options
from mmduet.errors import EngineError, ModelError, OptionError
from mmduet.events import Frame
from mmduet.model import LoadedModel
from mmduet.tasks import Answers, Captions, GroundingResult, Highlights, OnlineGroundingResult, run_task
from mmduet.video import open_frames

FPS = 4.0
VIDEO_FRAMES = (12, 20, 4, 8)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    """A random model with short replies."""
    model = lively_model()
    model.network.config = replace(model.config, recommended=replace(model.config.recommended, max_new_tokens=6))
    return model


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"{k}.mp4", frames / FPS) for k, frames in enumerate(VIDEO_FRAMES)]


@pytest.fixture(scope="module")
def served(model: LoadedModel) -> Iterator[RunningServer]:
    with run_test_server(model) as server:
        yield server


@pytest.fixture(params=["local", "remote"])
def where(request: pytest.FixtureRequest) -> dict[str, object]:
    """The arguments that choose the model: the same one in this process or at the server."""
    if request.param == "local":
        return {"model": request.getfixturevalue("model")}
    return {"server": f"ws://127.0.0.1:{request.getfixturevalue('served').port}", "encoding": "raw"}


@pytest.fixture(scope="module")
def alone(model: LoadedModel, videos: list[Path]) -> dict[Path, Answers]:
    """The answers of each video on a stream of its own, without a pipeline."""
    return {path: run_alone(model, QuestionAnswering("Who?"), path) for path in videos}


def run_alone(model: LoadedModel, task: QuestionAnswering, path: Path) -> Answers:
    recommended = model.config.recommended
    config = task.run_config(model_defaults(recommended)).with_overrides(FPS, "threshold:0.5")
    with EngineThread(Engine(model)) as thread:
        return run_task(task, config, thread.open(task_options(recommended, config)), open_frames(path, config.fps))


@pytest.mark.parametrize(
    ("task", "query", "output_type"),
    [
        ("caption", None, Captions),
        ("ground", "a dog", GroundingResult),
        ("highlight", None, Highlights),
        ("ask", "Who is there?", Answers),
    ],
)
def test_each_named_task_yields_its_result_type(
    where: dict, videos: list[Path], task: str, query: str | None, output_type: type
) -> None:
    (result,) = pipeline(task, fps=FPS, **where)(videos[0], query)
    assert result.error is None
    assert isinstance(result.output, output_type)
    assert result.video == videos[0]
    assert result.config is not None
    assert result.config.fps == FPS
    assert result.stream is not None
    assert result.stream.times == [k / FPS for k in range(VIDEO_FRAMES[0])]
    assert result.model == "random:tiny"


@pytest.mark.parametrize("max_concurrent", [1, 3])
def test_results_equal_those_of_each_video_alone_in_the_given_order(
    where: dict, videos: list[Path], alone: dict[Path, Answers], max_concurrent: int
) -> None:
    ask = pipeline("ask", fps=FPS, speak="threshold:0.5", max_concurrent=max_concurrent, **where)
    given = [videos[k] for k in (1, 2, 0, 3)]  # the longest first: others finish before it
    results = list(ask(given, query="Who?"))
    assert [result.video for result in results] == given
    assert [result.output for result in results] == [alone[path] for path in given]
    assert any(result.output is not None and result.output.answers for result in results)


def test_a_task_object_brings_its_own_query_and_settings(where: dict, videos: list[Path]) -> None:
    online = pipeline(OnlineGrounding("a dog"), fps=FPS, **where)
    (result,) = online([str(videos[0])])
    assert isinstance(result.output, OnlineGroundingResult)
    assert result.output.query == "a dog"
    with pytest.raises(
        OptionError, match=r"the task 'online grounding' has its own query, so query='a cat' has no effect"
    ):
        online(videos, "a cat")


def test_a_video_that_fails_does_not_end_the_others(where: dict, videos: list[Path], tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", 6).read_bytes()
    truncated = tmp_path / "truncated.mp4"
    truncated.write_bytes(whole[: len(whole) * 6 // 10])
    missing = tmp_path / "missing.mp4"
    results = list(pipeline("highlight", fps=FPS, strict_video=True, **where)([missing, videos[0], truncated]))
    codes = [None if result.error is None else result.error.code for result in results]
    assert codes == ["video_not_found", None, "corrupt_video"]
    assert results[0].output is None
    assert results[2].output is not None  # the frames before the damage
    assert results[2].stream is not None
    assert 0 < len(results[2].stream.scores) < 24
    (tolerant,) = pipeline("highlight", fps=FPS, **where)(truncated)
    assert tolerant.error is None
    assert tolerant.stream is not None
    assert tolerant.stream.times == results[2].stream.times
    assert tolerant.damage.truncated_at == tolerant.stream.duration


def test_progress_counts_finished_videos_and_every_frame_is_reported(where: dict, videos: list[Path]) -> None:
    progress: list[tuple[int, int]] = []
    frames: dict[Path, list[float]] = {path: [] for path in videos}

    def on_frame(video: Path, frame: Frame) -> None:
        frames[video].append(frame.time)

    def on_progress(done: int, total: int) -> None:
        progress.append((done, total))

    results = list(pipeline("highlight", fps=FPS, **where)(videos, progress=on_progress, on_frame=on_frame))
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [frames[result.video] for result in results] == [result.stream and result.stream.times for result in results]


def test_closing_the_iterator_stops_videos_under_way_and_starts_no_others(
    where: dict, videos: list[Path], tmp_path: Path
) -> None:
    """The first video is finished, the second is long, the others never start."""
    long = write_video(tmp_path / "long.mp4", 120)
    read: list[Path] = []
    run = pipeline("highlight", fps=FPS, max_concurrent=2, **where)
    results = run([videos[2], long, videos[0], videos[1]], on_frame=lambda video, frame: read.append(video))
    assert next(results).video == videos[2]
    results.close()
    assert read.count(long) < 100  # of 480
    assert videos[1] not in read
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("mmduet-video", "mmduet-source"))]
    assert [result.error for result in run(videos[:1])] == [None]  # the pipeline can be used again


def test_an_exception_in_a_callback_reaches_the_caller(where: dict, videos: list[Path]) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(pipeline("highlight", fps=FPS, **where)(videos, progress=interrupt))


def test_two_calls_at_the_same_time_are_an_error_and_the_first_continues(where: dict, videos: list[Path]) -> None:
    run = pipeline("highlight", fps=FPS, **where)
    first = run(videos)
    next(first)
    with pytest.raises(EngineError, match="the pipeline is already running; read or close the iterator"):
        list(run(videos))
    assert len(list(first)) == 3


def test_no_videos_give_no_results(where: dict) -> None:
    assert list(pipeline("caption", **where)([])) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "summarize"}, "there is no task 'summarize'; use one of caption, ground, highlight, ask"),
        ({"task": "captoin"}, "there is no task 'captoin', did you mean caption"),
        ({"task": "ask", "model": "nano", "server": "x"}, "model and server contradict each other"),
        ({"task": "ask", "server": "ftp://x"}, "server 'ftp://x' is not a valid address; use ws://HOST:PORT"),
        ({"task": "ask", "server": "x", "fps": 0.0}, "fps must be a number above 0, or none for every frame, got 0.0"),
        ({"task": "ask", "server": "x", "speak": "loudly"}, "speak policy"),
        ({"task": "ask", "server": "x", "max_concurrent": 0}, "max_concurrent must be at least 1, got 0"),
    ],
)
def test_invalid_arguments_are_rejected_before_anything_is_loaded(arguments: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        pipeline(**arguments)


def test_an_unknown_model_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="model 'no-such-model' is neither a directory nor one of nano, "):
        pipeline("caption", model="no-such-model")


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("Nano", "nano"), ("nanoo", "nano"), ("random:7B", "random:7b"), ("radom:7b", "random:7b"),
    ],
)  # fmt: skip
def test_a_misspelled_model_name_gets_a_suggestion_and_all_names(name: str, suggestion: str) -> None:
    with pytest.raises(ModelError, match=rf", did you mean {suggestion}\?") as caught:
        pipeline("caption", model=name)
    assert "random:tiny, random:nano, random:0.5b, random:7b" in str(caught.value)


@pytest.mark.parametrize(
    ("task", "query", "message"),
    [
        ("ask", None, "the task 'ask' needs a query; call the pipeline with query="),
        ("ground", None, "the task 'ground' needs a query; call the pipeline with query="),
        ("caption", " ", "query=' ' has no text"),
    ],
)
def test_invalid_queries_are_rejected_by_the_call(task: str, query: str | None, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        pipeline(task, server="ws://127.0.0.1:9")([], query)


def test_an_unreachable_server_is_an_error_of_each_video(videos: list[Path]) -> None:
    results = list(pipeline("caption", server="ws://127.0.0.1:9")(videos[:2]))
    assert [result.error is not None and result.error.code for result in results] == ["server", "server"]
    with pytest.raises(results[0].error.__class__):  # type: ignore[union-attr]
        results[0].raise_for_error()


def test_videos_wait_while_the_server_is_full(model: LoadedModel, videos: list[Path]) -> None:
    with run_test_server(model, max_sessions=1) as server:
        run = pipeline("highlight", server=f"ws://127.0.0.1:{server.port}", fps=FPS, max_concurrent=4)
        results = list(run(videos))
    assert [(result.video, result.error) for result in results] == [(path, None) for path in videos]


def test_a_place_that_becomes_free_late_is_waited_for(model: LoadedModel, videos: list[Path]) -> None:
    with run_test_server(model, max_sessions=1) as server:
        url = f"ws://127.0.0.1:{server.port}"
        results = iter(pipeline("highlight", server=url, fps=FPS, max_concurrent=1)(videos[:2]))
        first = next(results)
        wait_for(lambda: server.manager.active_count == 0)
        with RemoteStream(url) as occupant:  # as if the first video's session was still open
            threading.Timer(0.5, occupant.close).start()
            second = next(results)
    assert (first.error, second.error) == (None, None)


def test_a_server_that_is_full_with_others_is_an_error_of_each_video(model: LoadedModel, videos: list[Path]) -> None:
    with run_test_server(model, max_sessions=1) as server, RemoteStream(f"ws://127.0.0.1:{server.port}"):
        results = list(pipeline("highlight", server=f"ws://127.0.0.1:{server.port}")(videos))
    assert [result.error and result.error.code for result in results] == ["no_capacity"] * 4


def test_a_pipeline_for_a_server_does_not_load_torch() -> None:
    program = (
        "import sys, mmduet\n"
        "results = list(mmduet.pipeline('caption', server='ws://127.0.0.1:9')('none.mp4'))\n"
        "assert results[0].error is not None\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_public_classes_are_those_of_the_results(model: LoadedModel, videos: list[Path]) -> None:
    run = pipeline("caption", model, fps=FPS)
    assert isinstance(run, Pipeline)
    assert isinstance(next(run(videos)), VideoResult)


@pytest.mark.parametrize(
    "option", [{"device": "cpu"}, {"dtype": "float32"}, {"attention": "loop"}, {"kv_dtype": "fp8"}]
)
def test_how_the_model_computes_and_a_server_contradict_each_other(option: dict[str, str]) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(option))} and server contradict each other"):
        pipeline("caption", server="ws://127.0.0.1:1", **option)  # type: ignore[call-overload]


def test_a_loaded_model_must_have_the_number_type_of_the_pipeline() -> None:
    with pytest.raises(OptionError, match="needs a model in bfloat16, but it is in float32"):
        pipeline("caption", lively_model(), dtype="bfloat16")
