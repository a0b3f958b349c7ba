"""One result: a task on a video, from waiting for its turn to its files."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from mmduet.errors import MmduetError
from mmduet.events import Frame
from mmduet.files import is_disk_error
from mmduet.pipelines.jobs import VideoResult
from mmduet.pipelines.task_run import TaskRun, TaskSettings
from mmduet.server.session_manager import SessionManager
from mmduet.server.stored_video import storage_error
from mmduet.tasks import Task
from mmduet.tasks.base import TaskResult
from mmduet.tasks.grounding import DEFAULT_THRESHOLD
from mmduet.viz.film_strip import FilmStrip
from mmduet.webpage.background import BackgroundWorker, StopSignal
from mmduet.webpage.disk_budget import DiskShare
from mmduet.webpage.engine_run import EngineRun
from mmduet.webpage.result_files import CAPTIONS, FILM_STRIP, REEL, FileRequest, span_file, write_files
from mmduet.webpage.result_schema import CreateResult
from mmduet.webpage.uploads import ID_BYTES
from mmduet.webpage.video_library import LibraryVideo

State = Literal["waiting", "running", "finishing", "done", "failed", "cancelled"]
FINISHING_SHARE = {"highlight": 0.5, "ground": 0.1}
"""Share of the progress that is left for the files of a task."""


class Result:
    """One task on one video.

    ``token`` is part of the URLs of its files, because links and players cannot send an ``Authorization`` header.
    """

    def __init__(
        self,
        result_id: str,
        owner: str,
        body: CreateResult,
        video: LibraryVideo,
        task: Task[Any],
        manager: SessionManager,
        share: DiskShare,
    ) -> None:
        """Raise ``MmduetError`` if the served model cannot run the task."""
        self.id, self.owner, self.body, self.video, self.share = result_id, owner, body, video, share
        self.token = secrets.token_urlsafe(ID_BYTES)
        self.last_used, self.network = 0.0, ""
        self.state: State = "waiting"
        self.progress = 0.0
        self.message, self.code = "", ""
        self.folder: Path | None = None
        self.files: dict[str, Path] = {}  # by name
        self.values: dict[str, Any] | None = None
        self._stop_reading, self._stop = threading.Event(), StopSignal()
        self._strip = FilmStrip()
        settings = TaskSettings(task, body.options.fps, body.options.speak, self._on_frame)
        self._task_run = TaskRun(0, video.path, settings, self._stop_reading)
        self._engine_run = EngineRun(manager, owner, self._task_run, self._on_scored)

    @property
    def ended(self) -> bool:
        """Whether nothing of it changes any more."""
        return self.state in ("done", "failed", "cancelled")

    @property
    def frame_count(self) -> int:
        """The number of scored frames."""
        return self._engine_run.frame_count

    def reserve(self) -> None:
        """Reserve what the task needs of the engine. Raises as ``EngineRun.reserve`` does."""
        self._engine_run.reserve()
        self.state, self.message = "running", ""

    def release(self) -> None:
        """Release what ``reserve`` has reserved; a second call does nothing."""
        self._engine_run.release()

    def stop(self) -> None:
        """End reading the video and writing files soon; the task itself is cancelled by its owner."""
        self._stop_reading.set()
        self._stop.set()

    async def run(self, create_folder: Callable[[Result], Path], worker: BackgroundWorker) -> None:
        """Run the task after ``reserve``, then write its files in ``worker``. ``message`` and ``code`` keep errors.

        Afterwards it has no frames and outputs any more, and nothing refers back to it, so that its memory is freed with it.
        """
        try:
            await self._run(create_folder, worker)
        finally:
            self._strip = FilmStrip()
            self._engine_run.forget()
            del self._task_run

    async def _run(self, create_folder: Callable[[Result], Path], worker: BackgroundWorker) -> None:
        error: MmduetError | None = None
        try:
            await self._engine_run.run()
        except MmduetError as raised:
            error = raised
        finally:
            await asyncio.shield(self._engine_run.close())
        result = await asyncio.to_thread(self._task_run.result, self._engine_run.events, error)
        if result.output is None:
            self.fail(result.error or MmduetError("the task has no result"))
            return
        self.values = _to_dict(result, result.output)
        self.state = "finishing"
        try:
            self.folder = create_folder(self)
            await asyncio.wrap_future(worker.submit(lambda: self._write_files(result)))
        except (MmduetError, OSError) as raised:
            self._report(_to_storage_error(raised))
        if result.error is not None:
            self._report(result.error)
        self.state, self.progress = "done", 1.0

    def fail(self, error: MmduetError) -> None:
        """End with an error."""
        self.state = "failed"
        self._report(error)

    def cancel(self) -> None:
        """End without a result, because it is not required any more."""
        self.state, self.message = "cancelled", "the task was cancelled"

    def to_dict(self, position: int | None) -> dict[str, Any]:
        """Return the result as JSON values; URLs of files are relative to the page.

        ``position`` is the number of tasks that are to start up to this one.
        """
        return {
            "id": self.id,
            "video": self.video.source,
            "task": self.body.task,
            "query": self.body.query,
            "state": self.state,
            "position": position,
            "progress": round(self.progress, 3),
            "message": self.message or None,
            "code": self.code or None,
            "result": self.values,
            "files": self._file_urls(),
        }

    def _file_urls(self) -> dict[str, Any]:
        """Return the URLs by purpose. ``spans`` has one for each highlight of ``top``, None for one without a clip."""
        urls = {name: f"results/{self.id}/{name}?token={self.token}" for name in self.files}
        highlights = (self.values or {}).get("top", [])
        spans = [urls.get(span_file(rank)) for rank in range(1, len(highlights) + 1)]
        named = {"captions": urls.get(CAPTIONS), "film_strip": urls.get(FILM_STRIP), "reel": urls.get(REEL)}
        return {**named, "spans": spans}

    def _report(self, error: MmduetError) -> None:
        """Keep an error; it calls the video by its name."""
        self.message, self.code = str(error).replace(str(self.video.path), self.video.name), error.code

    def _on_frame(self, video: Path, frame: Frame) -> None:
        self._strip.add(frame)

    def _on_scored(self, time: float) -> None:
        share = 1.0 - FINISHING_SHARE.get(self.body.task, 0.0)
        self.progress = share * self._share_of_video(time)

    def _share_of_video(self, time: float) -> float:
        return min(time / self.video.duration, 1.0) if self.video.duration else 0.0

    def _on_cut(self, time: float) -> None:
        self._stop.check()
        share = FINISHING_SHARE[self.body.task]
        self.progress = 1.0 - share + share * self._share_of_video(time)

    def _write_files(self, result: VideoResult[Path, Any]) -> None:
        """Write the files. Runs in the worker's thread."""
        self._stop.check()
        assert self.folder is not None
        threshold = self.body.options.threshold
        threshold = DEFAULT_THRESHOLD if threshold is None else threshold
        request = FileRequest(self.folder, self.video.name, result, self._strip, threshold, self._on_cut)
        for path in write_files(request):
            self.share.add_file(path)
            self.files[path.name] = path


def _to_dict(result: VideoResult[Path, Any], output: TaskResult) -> dict[str, Any]:
    """Return what the task has found as JSON values, with its settings, its warnings and every score."""
    assert result.stream is not None
    assert result.config is not None
    scores = [
        {"time": round(s.time, 3), "informative": round(s.informative, 4), "relevance": round(s.relevance, 4)}
        for s in result.stream.scores
    ]
    warnings = [{"code": each.code, "message": each.message, "time": each.time} for each in result.warnings]
    return {
        "model": result.model,
        "fps": result.config.fps,
        "duration": result.stream.duration,
        "damage": result.damage.to_dict(),
        "warnings": warnings,
        **output.to_dict(),
        "scores": scores,
    }


def _to_storage_error(error: MmduetError | OSError) -> MmduetError:
    """Return the error that a visitor sees for files that cannot be written."""
    if isinstance(error, MmduetError):
        return error
    if is_disk_error(error):
        return storage_error("the files of the result", error)
    return MmduetError("the files of the result cannot be written; the server's log has the reason")
