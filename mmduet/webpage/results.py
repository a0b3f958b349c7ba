"""Tasks on videos: one at a time for each visitor, few at a time for all; finished results are kept with their video."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic

from mmduet.errors import CapacityError, ConflictError, MmduetError, NotFoundError, RateLimitError
from mmduet.server.log_events import RESULT_ENDED, RESULT_FAILED
from mmduet.server.session_manager import SessionManager
from mmduet.text import shorten
from mmduet.webpage.background import BackgroundWorker
from mmduet.webpage.disk_budget import DiskShare
from mmduet.webpage.result import Result
from mmduet.webpage.result_schema import CreateResult, build_task
from mmduet.webpage.uploads import ID_BYTES, Upload
from mmduet.webpage.video_library import VideoLibrary
from mmduet.webpage.visitor_rate import network_of

log = logging.getLogger(__name__)
MAX_RUNNING, MAX_WAITING = 2, 16
"""Tasks of all visitors that run at a time, and that wait for their turn."""
MAX_WAITING_PER_ADDRESS = MAX_WAITING // 4
"""Waiting tasks of one network address: a quarter of the queue, as in the admission queue of sessions."""
MAX_RESULTS_PER_VISITOR = 8
"""Results that are kept for a visitor; the oldest is deleted for another one."""
RETRY_SECONDS = 0.5
EXPIRY_CHECK_SECONDS = 5.0
STOP_SECONDS = 5.0


class Results:
    """Own every result. Only the visitor who has requested a result can find it."""

    def __init__(self, manager: SessionManager, videos: VideoLibrary, clock: Callable[[], float] = monotonic) -> None:
        self._manager, self._videos, self._clock = manager, videos, clock
        self._results: dict[str, Result] = {}
        self._waiting: list[Result] = []
        self._running: dict[str, asyncio.Task[None]] = {}
        self._deleting: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._files = BackgroundWorker("mmduet-files")
        videos.uploads.on_deleted = self._on_upload_deleted

    async def create(self, owner: str, body: CreateResult, address: str) -> Result:
        """Add a result, which is computed when it is its turn; ``address`` is the visitor's network address.

        Raises ``NotFoundError`` for a video that the visitor does not have, ``ProtocolError`` for invalid options,
        ``ConflictError`` if a task of this visitor has not ended, ``CapacityError`` if too many tasks wait, and
        ``RateLimitError`` if too many of them are of this address.
        """
        self._manager.check_accepting(None)
        task, video = build_task(body), await self._videos.find(body.video, owner)
        own = self.by_owner(owner)
        if any(not result.ended for result in own):
            raise ConflictError("another task of this visitor has not ended; wait for it, or delete its result")
        self._check_queue(network := network_of(address))
        for result in own[: max(len(own) - MAX_RESULTS_PER_VISITOR + 1, 0)]:
            self.delete(result)
        result_id = secrets.token_urlsafe(ID_BYTES)
        result = Result(result_id, owner, body, video, task, self._manager, DiskShare(self._videos.budget))
        result.last_used, result.network = self._clock(), network
        self._results[result_id] = result
        self._waiting.append(result)
        self._changed.set()
        return result

    def _check_queue(self, network: str) -> None:
        if len(self._waiting) >= MAX_WAITING:
            raise CapacityError(f"{MAX_WAITING} tasks of other visitors are waiting; try again later")
        if sum(result.network == network for result in self._waiting) >= MAX_WAITING_PER_ADDRESS:
            raise RateLimitError(
                f"{MAX_WAITING_PER_ADDRESS} tasks from this network address are waiting, and no more may; try again later"
            )

    def by_owner(self, owner: str) -> list[Result]:
        """Return the results of a visitor, the oldest first."""
        return [result for result in self._results.values() if result.owner == owner]

    def find(self, result_id: str, owner: str) -> Result:
        """Return a result of a visitor, which counts as a use of it and of its video. Raises ``NotFoundError``."""
        result = self._results.get(result_id)
        if result is None or result.owner != owner:
            raise _not_found(result_id)
        self._touch(result)
        return result

    def find_by_token(self, result_id: str, token: str) -> Result:
        """Return the result whose files have this token. Raises ``NotFoundError``."""
        result = self._results.get(result_id)
        if result is None or not secrets.compare_digest(result.token.encode(), token.encode()):
            raise _not_found(result_id)
        self._touch(result)
        return result

    def position(self, result: Result) -> int | None:
        """Return the place of a result in the queue, 1 for the next one; None if it is not waiting."""
        return self._waiting.index(result) + 1 if result in self._waiting else None

    def delete(self, result: Result) -> None:
        """Forget a result at once. Its task is stopped and its files are deleted in the background."""
        if self._results.pop(result.id, None) is not None:
            deleting = asyncio.create_task(self._stop_and_delete(result))
            self._deleting.add(deleting)
            deleting.add_done_callback(self._deleting.discard)

    async def _stop_and_delete(self, result: Result) -> None:
        if result in self._waiting:
            self._waiting.remove(result)
        result.stop()
        running = self._running.get(result.id)
        if running is not None:
            running.cancel()
            await asyncio.wait([running])
        if result.folder is not None:
            await asyncio.to_thread(shutil.rmtree, result.folder, ignore_errors=True)
        result.share.release()

    def _touch(self, result: Result) -> None:
        result.last_used = self._clock()
        if result.video.upload is not None:
            self._videos.uploads.touch(result.video.upload)

    def _on_upload_deleted(self, upload: Upload) -> None:
        for result in list(self._results.values()):
            if result.video.upload is upload:
                self.delete(result)

    # Running

    async def run(self) -> None:
        """Start tasks when it is their turn, and delete unused results; does not return."""
        while True:
            self._changed.clear()
            self._start_waiting()
            self._delete_unused()
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS if self._waiting else EXPIRY_CHECK_SECONDS):
                    await self._changed.wait()

    def _start_waiting(self) -> None:
        """Start the tasks for which there is a place. One that needs more memory, or is at a limit, does not block others."""
        for result in list(self._waiting):
            if len(self._running) >= MAX_RUNNING:
                return
            try:
                result.reserve()
            except CapacityError as error:
                result.message = str(error)
                continue
            except MmduetError as error:
                result.fail(error)
            else:
                task = asyncio.create_task(self._run_result(result), name=f"result {result.id}")
                self._running[result.id] = task
                task.add_done_callback(partial(self._on_task_done, result))
            self._waiting.remove(result)

    async def _run_result(self, result: Result) -> None:
        started = monotonic()
        try:
            await result.run(self._create_folder, self._files)
        except asyncio.CancelledError:
            result.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            RESULT_FAILED.emit(log, error=error, key=result.owner, task=result.body.task)
            result.fail(MmduetError("the server failed to run the task; its log has the reason"))
        finally:
            RESULT_ENDED.emit(
                log,
                key=result.owner,
                model=self._manager.model_name,
                task=result.body.task,
                reason=result.state,
                detail=result.message,
                duration_s=round(monotonic() - started, 3),
                frames=result.frame_count,
            )
            self._touch(result)

    def _on_task_done(self, result: Result, _: asyncio.Task[None]) -> None:
        """Free the place of a task, even if it was cancelled before it started."""
        result.release()
        self._running.pop(result.id, None)
        self._changed.set()

    def _create_folder(self, result: Result) -> Path:
        return self._videos.folder.create_subfolder(f"result-{result.id}")

    def _delete_unused(self) -> None:
        """Delete the results of clips after ``upload_lifetime`` of disuse; those of uploads are deleted with them."""
        lifetime = self._manager.config.upload_lifetime
        for result in list(self._results.values()):
            if not result.ended:
                self._touch(result)
            unused = self._clock() - result.last_used > lifetime
            if result.ended and result.video.upload is None and unused:
                self.delete(result)

    async def close(self) -> None:
        """Stop all tasks; the files are deleted with their folder."""
        for result in list(self._results.values()):
            self.delete(result)
        if self._deleting:
            await asyncio.wait(self._deleting, timeout=STOP_SECONDS)
        await asyncio.to_thread(self._files.close, STOP_SECONDS)


def _not_found(result_id: str) -> NotFoundError:
    """Return the error for a result that a visitor does not have."""
    return NotFoundError(
        f"result {shorten(result_id)!r} does not exist or is of another visitor; it may have expired: run the task again"
    )
