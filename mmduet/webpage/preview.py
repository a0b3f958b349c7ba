"""The preview of an uploaded video: the file itself if browsers play it, otherwise a copy that is made in the background."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal

from mmduet.errors import CapacityError, VideoError
from mmduet.server.log_events import PREVIEW_FAILED
from mmduet.webpage.background import BackgroundWorker, StopSignal
from mmduet.webpage.disk_budget import DiskShare
from mmduet.webpage.transcoding import write_preview
from mmduet.webpage.upload_check import UploadedVideo, named_errors

log = logging.getLogger(__name__)
State = Literal["ready", "waiting", "transcoding", "failed"]
SIZE_CHECK_FRAMES = 64


class Preview:
    """The preview of the video in ``source``, with the properties ``video``. Any thread may read its state.

    A copy is made by ``worker``, for each ``owner`` in turn. It may have ``max_bytes``, which are counted in ``share``. Errors
    call the video ``name``.
    """

    def __init__(
        self,
        source: Path,
        name: str,
        video: UploadedVideo,
        worker: BackgroundWorker,
        share: DiskShare,
        max_bytes: int,
        owner: str = "",
    ) -> None:
        self._source, self._name, self._video = source, name, video
        self._share, self._max_bytes = share, max_bytes
        self._stop, self._worker = StopSignal(), worker
        self.state: State = "ready"
        self.progress, self.message = 1.0, ""
        self.path, self.media_type = source, video.media_type or "video/mp4"
        self.start = video.start
        self._frame_count = 0
        self._job: Future[None] | None = None
        if video.media_type is None:
            self.state, self.progress, self.start = "waiting", 0.0, 0.0
            self.path = source.with_name("preview.mp4")
            self._job = worker.submit(self._transcode, owner)

    def stop(self) -> None:
        """Stop making the copy; one that is waiting for its turn is not made."""
        self._stop.set()
        if self._job is not None:
            self._job.cancel()

    def to_dict(self) -> dict[str, Any] | None:
        """Return the state of the copy as JSON values; None if browsers play the video itself.

        ``position`` is the number of copies of all visitors that are to start up to this one; None if it does not wait.
        """
        if self._job is None:
            return None
        return {
            "state": self.state,
            "position": self._worker.position(self._job),
            "progress": round(self.progress, 3),
            "message": self.message or None,
        }

    def _transcode(self) -> None:
        self.state = "transcoding"
        try:
            with named_errors(self._source, self._name):
                write_preview(self._source, self.path, self._on_time)
            self._share.add_file(self.path)
        except Exception as error:  # noqa: BLE001 - reported
            self._on_error(error)
        else:
            self.state, self.progress = "ready", 1.0

    def _on_error(self, error: Exception) -> None:
        if self._stop.is_set:  # missing files were deleted with the upload
            self._fail("the preview was stopped")
        elif isinstance(error, VideoError | CapacityError):
            PREVIEW_FAILED.emit(log, detail=str(error))
            self._fail(str(error))
        else:
            PREVIEW_FAILED.emit(log, error=error, detail="unexpected error")
            self._fail("the server failed to make the preview; its log has the reason")

    def _fail(self, message: str) -> None:
        self.state, self.message = "failed", message

    def _on_time(self, time: float) -> None:
        """Report progress. Raises ``JobStoppedError`` once it is to stop, and ``CapacityError`` if the copy is too large."""
        self._stop.check()
        self.progress = min(time / self._video.duration, 0.99) if self._video.duration else 0.0
        self._frame_count += 1
        if self._frame_count % SIZE_CHECK_FRAMES == 0 and self._written_bytes() > self._max_bytes:
            raise CapacityError(f"the preview of {self._name} is larger than {self._max_bytes} bytes and is not kept")

    def _written_bytes(self) -> int:
        files = (path for path in self._source.parent.iterdir() if path != self._source)
        return sum(path.stat().st_size for path in files)
