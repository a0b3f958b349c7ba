"""``mmduet.pipeline``: run one task over many videos, with a model of this process or at a server."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, Unpack, overload

from mmduet.errors import EngineError, OptionError
from mmduet.options import SpeakOptions
from mmduet.pipelines.jobs import DEFAULT_MAX_CONCURRENT, R, VideoResult, check_max_concurrent
from mmduet.pipelines.ordering import Finished, sort_by_index
from mmduet.pipelines.task_run import ConnectionCallback, FrameCallback, TaskRun, TaskSettings
from mmduet.progress import ProgressCallback
from mmduet.tasks import (
    Answers,
    Captions,
    DenseCaptioning,
    GroundingResult,
    HighlightDetection,
    Highlights,
    QuestionAnswering,
    Task,
    TemporalGrounding,
)
from mmduet.text import did_you_mean
from mmduet.video.sampling import check_rate

if TYPE_CHECKING:
    from mmduet.client.images import Encoding
    from mmduet.engine.config import AttentionName, KVDtypeName
    from mmduet.model import LoadedModel
    from mmduet.model.devices import DtypeName

    ModelSource = str | Path | LoadedModel | None

VideoPath = str | os.PathLike[str]
TaskFactory = Callable[[str | None], Task[R]]  # from a query to the task
RunTasks = Callable[[Sequence[TaskRun[Any]], int, threading.Event], Finished[VideoResult[Path, Any]]]


class Pipeline(Generic[R]):
    """One task and the model that runs it. Build it with ``mmduet.pipeline`` and call it with videos, any number of times."""

    def __init__(
        self,
        new_task: TaskFactory[R],
        run_tasks: RunTasks,
        *,
        fps: float | None = None,
        speak: str | None = None,
        max_concurrent: int = DEFAULT_MAX_CONCURRENT,
        strict_video: bool = False,
    ) -> None:
        self._new_task, self._run_tasks = new_task, run_tasks
        self._fps, self._speak, self._max_concurrent = fps, speak, max_concurrent
        self._strict_video = strict_video
        self._in_use = threading.Lock()  # held while the results of a call are being read

    def __call__(
        self,
        videos: VideoPath | Iterable[VideoPath],
        query: str | None = None,
        *,
        progress: ProgressCallback | None = None,
        on_frame: FrameCallback | None = None,
        on_connection_change: ConnectionCallback | None = None,
    ) -> Generator[VideoResult[Path, R], None, None]:
        """Run the task over the videos and yield one result per video, in the given order.

        The videos run while the results are read. A video that fails does not end the others: its result has the ``error``.
        Closing the iterator, or an exception in the loop over it, stops all videos. An exception in a callback ends all videos
        and is raised to the reader of the results; only a ``MmduetError`` in ``on_frame`` is an error of its video alone.

        Args:
            videos: The path of a video file, or several.
            query: What to look for or to ask; "caption" and "highlight" use the model's own query without one.
            progress: Called with the number of finished videos and the number of all, whenever one has finished.
            on_frame: Called with the video and each of its frames, in a worker thread, before the frame is processed.
            on_connection_change: Called with the video and a ``ConnectionStatus`` when its connection to the server is lost,
                resumed or given up, in the thread of the connection; it must neither block nor raise. By default the changes
                are logged.

        Raises:
            OptionError: The query is missing, blank, or already part of the task.
            EngineError: The results of the previous call have not all been read, and its iterator is still open. It is raised
                when the first result is read.
        """
        settings = TaskSettings(
            self._new_task(query), self._fps, self._speak, on_frame, self._strict_video, on_connection_change
        )
        paths = [Path(videos)] if isinstance(videos, str | os.PathLike) else [Path(video) for video in videos]
        stop = threading.Event()
        runs = [TaskRun(index, path, settings, stop) for index, path in enumerate(paths)]
        return sort_by_index(self._run(runs, stop, progress))

    def _run(
        self, runs: Sequence[TaskRun[R]], stop: threading.Event, progress: ProgressCallback | None
    ) -> Finished[VideoResult[Path, R]]:
        if not self._in_use.acquire(blocking=False):
            raise EngineError("the pipeline is already running; read or close the iterator of the previous call first")
        try:
            with closing(self._run_tasks(runs, self._max_concurrent, stop)) as finished:
                for done, entry in enumerate(finished, 1):
                    if progress is not None:
                        progress(done, len(runs))
                    yield entry
        finally:
            self._in_use.release()


class PipelineOptions(TypedDict, total=False):
    """The keyword arguments of ``pipeline``."""

    server: str | None
    key: str | None
    encoding: Encoding
    fps: float | None
    speak: str | None
    max_concurrent: int
    strict_video: bool
    device: str
    dtype: DtypeName
    attention: AttentionName
    kv_dtype: KVDtypeName


@overload
def pipeline(
    task: Literal["caption"], model: ModelSource = None, **options: Unpack[PipelineOptions]
) -> Pipeline[Captions]: ...
@overload
def pipeline(
    task: Literal["ground"], model: ModelSource = None, **options: Unpack[PipelineOptions]
) -> Pipeline[GroundingResult]: ...
@overload
def pipeline(
    task: Literal["highlight"], model: ModelSource = None, **options: Unpack[PipelineOptions]
) -> Pipeline[Highlights]: ...
@overload
def pipeline(
    task: Literal["ask"], model: ModelSource = None, **options: Unpack[PipelineOptions]
) -> Pipeline[Answers]: ...
@overload
def pipeline(task: Task[R], model: ModelSource = None, **options: Unpack[PipelineOptions]) -> Pipeline[R]: ...


def pipeline(
    task: str | Task[Any],
    model: str | Path | LoadedModel | None = None,
    *,
    server: str | None = None,
    key: str | None = None,
    encoding: Encoding = "jpeg",
    fps: float | None = None,
    speak: str | None = None,
    max_concurrent: int = DEFAULT_MAX_CONCURRENT,
    strict_video: bool = False,
    device: str = "auto",
    dtype: DtypeName = "auto",
    attention: AttentionName = "auto",
    kv_dtype: KVDtypeName = "auto",
) -> Pipeline[Any]:
    """Return a callable that runs a task over videos: ``pipeline("ask")("video.mp4", query="Who comes in?")``.

    Args:
        task: "caption", "ground", "highlight" or "ask"; or a task object such as ``OnlineGrounding("a cat jumps")``,
            which has its query and its own settings.
        model: "nano" (the default), the directory of a checkpoint, "OWNER/NAME" on the Hugging Face hub, or what
            ``load_model`` returned.
        server: URL of an ``mmduet serve`` whose model is used instead. Neither torch nor a local model is needed.
        key: API key of the server, if it requires one.
        encoding: How frames are sent to the server.
        fps: Frames per second to process (None: the task's or the model's).
        speak: The speak policy, such as "threshold:0.6" or "sum:2" (None: the task's or the model's).
        max_concurrent: The maximum number of videos that run at the same time, in shared batches. Each needs memory, and at a
            server one of its ``max_sessions``.
        strict_video: Whether damage in a video is its error. By default damaged frames are skipped and listed in the
            ``damage`` of the result.
        device: Where the model runs: "cpu", "cuda", "cuda:N", "mps" (experimental), or "auto": CUDA if there is a device, else
            the CPU. A model that ``load_model`` returned must be there already.
        dtype: Number type of weights and computation: "float32", "bfloat16", "float16", "stored" for that of the model's files,
            or "auto": float32 on a CPU for up to a billion parameters, else the stored one.
        attention: How attention over the videos of a step is computed: "loop", "padded", "products" (approximate), "varlen", or
            "auto".
        kv_dtype: Number type in which keys and values are stored: "auto" for that of the model, or "fp8", which takes a half or
            a quarter of the memory and changes scores a little.

    Raises:
        OptionError: An argument is invalid, the device is not available, or ``server`` is given together with ``model`` or with
            how it runs.
        ModelError: The model cannot be loaded.
    """
    local_options = {"device": device, "dtype": dtype, "attention": attention, "kv_dtype": kv_dtype}
    given = [name for name, value in {"model": model or "auto", **local_options}.items() if value != "auto"]
    if server is not None and given:
        raise OptionError(
            f"{given[0]} and server contradict each other, because the server loads its own model; give one of them"
        )
    check_rate("fps", fps)
    if speak is not None:
        SpeakOptions.parse(speak)
    check_max_concurrent(max_concurrent)
    new_task = _task_factory(task)
    run_tasks = _run_remotely(server, key, encoding) if server else _run_locally(model or "nano", local_options)
    return Pipeline(new_task, run_tasks, fps=fps, speak=speak, max_concurrent=max_concurrent, strict_video=strict_video)


def _task_factory(task: str | Task[Any]) -> TaskFactory[Any]:
    """Return a function from a query to the task. Raises ``OptionError`` for an unknown name."""
    factories: dict[str, TaskFactory[Any]] = {
        "caption": DenseCaptioning,
        "ground": lambda query: TemporalGrounding(_check_has_query("ground", query)),
        "highlight": HighlightDetection,
        "ask": lambda query: QuestionAnswering(_check_has_query("ask", query)),
    }
    if not isinstance(task, str):
        return lambda query: _check_no_query(task, query)
    if task not in factories:
        suggestion = did_you_mean(task, factories)
        raise OptionError(f"there is no task {task!r}{suggestion} use one of {', '.join(factories)}, or a task object")
    return lambda query: factories[task](_check_text(query))


def _check_no_query(task: Task[Any], query: str | None) -> Task[Any]:
    if query is not None:
        raise OptionError(f"the task {task.name!r} has its own query, so query={query!r} has no effect; remove it")
    return task


def _check_has_query(task: str, query: str | None) -> str:
    if query is None:
        raise OptionError(f"the task {task!r} needs a query; call the pipeline with query=...")
    return query


def _check_text(query: str | None) -> str | None:
    if query is not None and not query.strip():
        raise OptionError(f"query={query!r} has no text; write what to look for or to ask")
    return query


def _run_locally(model: str | Path | LoadedModel, options: Mapping[str, Any]) -> RunTasks:
    """Load the model, unless it is loaded, and return a runner on one engine of this process with these ``EngineConfig``."""
    from mmduet.engine import Engine
    from mmduet.engine.config import EngineConfig
    from mmduet.model import load_model
    from mmduet.pipelines import local

    config, loaded = EngineConfig(**options), model
    if isinstance(loaded, str | os.PathLike):
        loaded = load_model(str(loaded), config.dtype, config.device)
    return partial(local.run_tasks, Engine(loaded, config))


def _run_remotely(url: str, key: str | None, encoding: Encoding) -> RunTasks:
    """Return a runner at a server. Raises ``OptionError`` if ``url`` is not a valid address."""
    from mmduet.client.address import websocket_url
    from mmduet.pipelines import remote

    websocket_url(url)
    return partial(remote.run_tasks, remote.ServerAddress(url, key, encoding))
