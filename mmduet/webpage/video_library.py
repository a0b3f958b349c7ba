"""The videos that visitors of the live page can use: sample clips, and what they have uploaded themselves.

Uploads, previews and results are kept in a temporary folder while they are used, and deleted when the server stops. They
survive neither a restart nor an upgrade of the server: a session that is restored from its journal reports that its source is
closed, and the visitor has to upload the video again.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request

from mmduet.errors import ProtocolError
from mmduet.server.log_events import LEFTOVERS_DELETED, UPLOAD_STORED
from mmduet.server.session_manager import SessionManager
from mmduet.server.stored_video import storage_error
from mmduet.text import shorten, to_printable
from mmduet.webpage.background import BackgroundWorker
from mmduet.webpage.disk_budget import DiskBudget
from mmduet.webpage.preview import Preview
from mmduet.webpage.private_folder import PrivateFolder, delete_leftovers
from mmduet.webpage.sample_clips import SampleClips
from mmduet.webpage.upload_check import check_upload
from mmduet.webpage.upload_receiver import receive_upload
from mmduet.webpage.uploads import SCHEME, Upload, Uploads

log = logging.getLogger(__name__)
TOTAL_UPLOADS = 16
"""Disk space for all visitors, in uploads of the largest size."""
MAX_DISK_SHARE = 0.5
"""Share of the space that is free when the server starts, which all visitors together may use at most."""
EXPIRY_CHECK_SECONDS = 5.0
STOP_SECONDS = 5.0
MAX_CHECKS = 2
"""Files that are checked at a time."""
MAX_NAME_CHARS = 120


@dataclass(frozen=True)
class LibraryVideo:
    """A video for a task. ``upload`` is None for a sample clip; ``start`` is when players show the first frame, in seconds."""

    source: str
    name: str
    path: Path
    duration: float
    start: float
    upload: Upload | None = None


class VideoLibrary:
    """The sample clips and all uploads of a server. ``parent`` is the folder for temporary files, None for the system's."""

    def __init__(self, manager: SessionManager, clips: SampleClips, parent: Path | None = None) -> None:
        self.clips, self._manager, self._config = clips, manager, manager.config
        self.folder = PrivateFolder(parent)
        free_bytes = shutil.disk_usage(self.folder.parent).free
        total_bytes = min(TOTAL_UPLOADS * self._config.max_upload_bytes, int(MAX_DISK_SHARE * free_bytes))
        self.budget = DiskBudget(total_bytes)
        self.uploads = Uploads(self._config, self.folder, self.budget, self._is_open)
        self._previews = BackgroundWorker("mmduet-preview")
        self._checks = asyncio.Semaphore(MAX_CHECKS)
        manager.media.register_videos("clip", lambda name, owner: clips.find_path(name))
        manager.media.register_videos(SCHEME, self.uploads.find_path)

    # Uploads

    async def receive(self, request: Request, owner: str, name: str) -> Upload:
        """Store the body of a request as a video of ``owner``, called ``name``, and return it once it is checked.

        Raises as ``Uploads.create``, ``receive_upload`` and ``check_upload`` do. Then nothing is kept.
        """
        name = clean_name(name)
        try:
            upload = self.uploads.create(owner, name)
        except OSError as error:
            raise storage_error("the uploaded video", error) from None
        try:
            await self._store(request, upload)
        except BaseException:
            await asyncio.shield(self.uploads.delete(upload, "rejected"))
            raise
        return upload

    async def _store(self, request: Request, upload: Upload) -> None:
        config, limiter = self._config, self._manager.limiters.of(upload.owner)
        size = await receive_upload(request, upload.path, upload.share, config.max_upload_bytes, limiter.reading_delay)
        async with self._checks:
            video = await asyncio.to_thread(
                check_upload, upload.path, upload.name, self._manager.media, config.max_upload_seconds
            )
        upload.preview = Preview(
            upload.path, upload.name, video, self._previews, upload.share, config.max_upload_bytes, upload.owner
        )
        self.uploads.touch(upload)
        upload.video = video
        UPLOAD_STORED.emit(log, key=upload.owner, bytes=size, duration_s=round(video.duration, 2))

    async def delete(self, upload: Upload) -> None:
        """Delete an upload at its visitor's request. A session that reads it ends its source."""
        for session in self._manager.sessions:
            reader = session.source.reader
            if session.owner == upload.owner and reader is not None and reader.url == upload.source:
                self._manager.run_in_background(session.source.stop())
        await self.uploads.delete(upload, "request")

    def _is_open(self, source: str) -> bool:
        """Return whether a session reads this source."""
        readers = (session.source.reader for session in self._manager.sessions)
        return any(reader is not None and reader.url == source for reader in readers)

    # For tasks

    async def find(self, source: str, owner: str) -> LibraryVideo:
        """Return a clip or a visitor's upload, which is used, by the URL of its source.

        Raises ``NotFoundError`` or ``ProtocolError``.
        """
        scheme, _, name = source.partition(":")
        if scheme == SCHEME:
            upload = self.uploads.find(name, owner)
            self.uploads.touch(upload)
            assert upload.video is not None
            video = upload.video
            return LibraryVideo(source, upload.name, upload.path, video.duration, video.start, upload)
        if scheme == "clip":
            clip = await self.clips.find(name)
            return LibraryVideo(source, f"{clip.name}.mp4", clip.path, clip.duration, 0.0)
        raise ProtocolError(
            f"{shorten(source)!r} is not a video of this page; use {SCHEME}:ID or clip:NAME",
            "invalid_value",
            param="video",
        )

    # The server's life

    async def run(self) -> None:
        """Delete what killed servers have left, and from then on what has not been used for long; does not return."""
        for folder in await asyncio.to_thread(delete_leftovers, self.folder.parent):
            LEFTOVERS_DELETED.emit(log, folder=str(folder))
        await self.clips.all()  # so that no visitor waits while they are rendered
        while True:
            await asyncio.sleep(EXPIRY_CHECK_SECONDS)
            await self.uploads.delete_unused()

    async def close(self) -> None:
        """Stop all work and delete every file."""
        self.uploads.stop()
        await asyncio.to_thread(self._previews.close, STOP_SECONDS)
        await asyncio.to_thread(self.folder.delete)


def clean_name(name: str) -> str:
    """Return the name of an uploaded file for display: without folders and characters that cannot be printed, and short."""
    printable = to_printable(name.replace("\\", "/").rsplit("/", 1)[-1]).strip()
    if len(printable) > MAX_NAME_CHARS:
        stem, dot, suffix = printable.rpartition(".")
        ending = f"{dot}{suffix}" if dot and len(suffix) < 8 else ""
        printable = (stem if ending else printable)[: MAX_NAME_CHARS - len(ending) - 1] + "…" + ending
    return printable or "video"
