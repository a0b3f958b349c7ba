"""The uploaded videos of all visitors: quotas, previews, expiry."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from mmduet.errors import CapacityError, MmduetError, NotFoundError, RateLimitError, SourceError
from mmduet.server.config import ServerConfig
from mmduet.server.log_events import UPLOAD_DELETED
from mmduet.text import shorten
from mmduet.webpage.disk_budget import DiskBudget, DiskShare
from mmduet.webpage.preview import Preview
from mmduet.webpage.private_folder import PrivateFolder
from mmduet.webpage.upload_check import UploadedVideo

log = logging.getLogger(__name__)
SCHEME = "upload"
ID_BYTES = 24
"""Random bytes of an id or a token."""
MAX_UPLOADS = 512
"""Uploads of all visitors together."""


@dataclass
class Upload:
    """One uploaded video; ``video`` is None until the file is complete and checked.

    ``token`` is part of the preview's URL, because a browser's player cannot send an ``Authorization`` header.
    """

    id: str
    owner: str
    name: str
    folder: Path
    share: DiskShare
    last_used: float
    token: str = field(default_factory=lambda: secrets.token_urlsafe(ID_BYTES))
    video: UploadedVideo | None = None
    preview: Preview | None = None

    @property
    def path(self) -> Path:
        """The uploaded file. Its name has no suffix: what it contains decides."""
        return self.folder / "video"

    @property
    def source(self) -> str:
        """The URL by which sessions open the video."""
        return f"{SCHEME}:{self.id}"


class Uploads:
    """Own every upload. Only the visitor who has uploaded a video can find it.

    ``is_open`` returns whether a session reads a source, given by its URL; ``on_deleted`` is called with a deleted upload.
    Methods other than ``find_path`` run in the event loop.
    """

    def __init__(
        self,
        config: ServerConfig,
        folder: PrivateFolder,
        budget: DiskBudget,
        is_open: Callable[[str], bool],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._config, self._folder, self._budget, self._is_open, self._clock = config, folder, budget, is_open, clock
        self._uploads: dict[str, Upload] = {}
        self.on_deleted: Callable[[Upload], None] = lambda upload: None

    def create(self, owner: str, name: str) -> Upload:
        """Add an upload whose file is still to be received. Raises ``RateLimitError``, ``CapacityError`` or ``OSError``."""
        limit = self._config.max_uploads_per_visitor
        if len(self.by_owner(owner, complete=False)) >= limit:
            raise RateLimitError(
                f"this visitor has {limit} uploaded videos, and no more are kept; delete one of them",
                self._config.upload_lifetime,
            )
        if len(self._uploads) >= MAX_UPLOADS:
            raise CapacityError(f"the server keeps {MAX_UPLOADS} uploaded videos, and no more; try again later")
        upload_id = secrets.token_urlsafe(ID_BYTES)
        folder = self._folder.create_subfolder(upload_id)
        upload = Upload(upload_id, owner, name, folder, DiskShare(self._budget), self._clock())
        self._uploads[upload_id] = upload
        return upload

    def by_owner(self, owner: str, *, complete: bool = True) -> list[Upload]:
        """Return the uploads of a visitor, by default only those whose file has been received."""
        return [each for each in self._uploads.values() if each.owner == owner and (each.video or not complete)]

    def find(self, upload_id: str, owner: str) -> Upload:
        """Return an upload of a visitor. This is not a use of it; see ``touch``.

        Raises ``NotFoundError``, which does not reveal whether another visitor has such an upload.
        """
        upload = self._uploads.get(upload_id)
        if upload is None or upload.owner != owner or upload.video is None:
            raise upload_not_found(upload_id)
        return upload

    def find_by_token(self, upload_id: str, token: str) -> Upload:
        """Return the upload whose preview has this token. Raises ``NotFoundError``."""
        upload = self._uploads.get(upload_id)
        if upload is None or upload.video is None or not secrets.compare_digest(upload.token.encode(), token.encode()):
            raise upload_not_found(upload_id)
        return upload

    def find_path(self, upload_id: str, owner: str) -> Path:
        """Return the file of a visitor's upload for a session, which uses it; any thread may call it.

        Raises ``SourceError``.
        """
        try:
            upload = self.find(upload_id, owner)
        except NotFoundError as error:
            raise SourceError(str(error)) from None
        self.touch(upload)
        return upload.path

    def touch(self, upload: Upload) -> None:
        """Keep an upload for another ``upload_lifetime``: a session, a task or a player uses it."""
        upload.last_used = self._clock()

    async def delete(self, upload: Upload, reason: str) -> None:
        """Delete an upload with all its files."""
        if self._uploads.pop(upload.id, None) is None:
            return
        self.on_deleted(upload)
        if upload.preview is not None:
            upload.preview.stop()
        await asyncio.to_thread(shutil.rmtree, upload.folder, ignore_errors=True)
        upload.share.release()
        if upload.video is not None:
            UPLOAD_DELETED.emit(log, key=upload.owner, reason=reason)

    async def delete_unused(self) -> None:
        """Delete the uploads that have not been used for ``upload_lifetime``.

        One that a session reads, or whose preview is being made, is in use.
        """
        for upload in list(self._uploads.values()):
            in_preparation = upload.preview is not None and upload.preview.state in ("waiting", "transcoding")
            if upload.video is None or in_preparation or self._is_open(upload.source):
                self.touch(upload)  # a file that is being received has its own time limit
            elif self._clock() - upload.last_used > self._config.upload_lifetime:
                await self.delete(upload, "unused")

    def stop(self) -> None:
        """Stop making previews; the files are deleted with their folder."""
        for upload in self._uploads.values():
            if upload.preview is not None:
                upload.preview.stop()
        self._uploads.clear()


def upload_not_found(upload_id: str) -> MmduetError:
    """Return the error for an upload that a visitor does not have."""
    return NotFoundError(
        f"{SCHEME}:{shorten(upload_id)} does not exist or is of another visitor; it may have expired: upload the video again"
    )
