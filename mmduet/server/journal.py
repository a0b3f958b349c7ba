"""Session journals on disk: one folder per server, one file per session, written by a thread."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import math
import os
import secrets
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from mmduet.errors import OptionError
from mmduet.files import visible_files
from mmduet.protocol.session.event_log import EventLog
from mmduet.protocol.session.journal import JournalWriter, read_records
from mmduet.protocol.session.recovery import RecoveredSession, recover
from mmduet.server import journal_file
from mmduet.server.journal_file import MIN_COMPACTION_BYTES, PART_SUFFIX, SUFFIX, JournalFile
from mmduet.server.log_events import JOURNAL_ENDED, JOURNAL_FAILED, JOURNAL_RECOVERED, JOURNAL_UNREADABLE

log = logging.getLogger(__name__)
UNREADABLE_SUFFIX = ".unreadable"
SIGNING_KEY_BYTES = 32
MAX_WRITE_SECONDS = 1.0  # after which a session's events do not wait for the disk any longer
MAX_WAITING_BYTES = 32 << 20  # per session, of records that wait for a disk that does not answer


class Journal:
    """The journal of one session, written by the folder's thread so that a slow disk delays nothing but this session's events.

    ``writer`` collects records and ``commit`` hands them to the thread. Events are sent once they are on disk. While the disk
    fails or takes longer than ``MAX_WRITE_SECONDS``, they are sent without waiting, and ``problem`` states the reason.
    """

    def __init__(self, file: JournalFile, writer: JournalWriter, executor: ThreadPoolExecutor) -> None:
        self.writer = writer
        self.problem: str | None = None  # why the session would not survive a restart
        self.is_writing = False
        self._file, self._executor = file, executor
        self._written_event = 0  # number of the last event on disk
        self._retry_at = math.inf  # after a write error, on the event loop's clock
        self._ended = False

    @property
    def is_retry_due(self) -> bool:
        """Return whether to ``commit`` again after a write error, even if there is nothing new."""
        return not self._ended and self._retry_at <= asyncio.get_running_loop().time()

    def may_send(self, event_number: int) -> bool:
        """Return whether an event is on disk, or must not wait for the disk."""
        return self._ended or self.problem is not None or event_number <= self._written_event

    def commit(self, state: bytes, events: EventLog, on_change: Callable[[], None]) -> None:
        """Write the collected records and the session's state; not to be called while ``is_writing``.

        ``on_change`` is called when they are written or when this takes too long.
        """
        if self._ended:
            self.writer.take_batch()
            return
        last_event, loop = events.last_number, asyncio.get_running_loop()
        self.is_writing = True

        def on_slow() -> None:
            if not self._ended:
                self._set_problem(f"a write takes longer than {MAX_WRITE_SECONDS:g} s")
                on_change()

        def on_written(writing: asyncio.Future[None]) -> None:
            timer.cancel()
            self.is_writing = False
            error = None if writing.cancelled() else writing.exception()
            if writing.cancelled() or self._ended:
                return
            self._written_event = last_event
            self._set_problem(None if error is None else getattr(error, "strerror", None) or str(error))
            self._retry_at = math.inf if error is None else loop.time() + journal_file.RETRY_SECONDS
            if error is not None:
                loop.call_at(self._retry_at, on_change)
            on_change()

        timer = loop.call_later(MAX_WRITE_SECONDS, on_slow)
        writing = loop.run_in_executor(self._executor, self._file.append, self._take_batch(state), events.first_number)
        writing.add_done_callback(on_written)

    def limit_backlog(self) -> None:
        """End the journal if more than ``MAX_WAITING_BYTES`` are waiting for a disk that does not answer."""
        if self.is_writing and self.writer.size > MAX_WAITING_BYTES:
            JOURNAL_ENDED.emit(log, session=self.writer.session.id)
            self.remove()
            self.problem = "the disk does not answer"

    def open_existing(self) -> None:
        """Continue the existing file. Raises ``OSError``."""
        self._file.reopen()

    def close(self, state: bytes | None = None, first_event: int = 0) -> None:
        """Stop writing and leave the file for the next server, after the records that are not written yet and ``state``."""
        if state is not None and not self._ended and not self.writer.is_empty:
            self._executor.submit(self._file.append, self._take_batch(state), first_event)
        self._ended = True
        self._executor.submit(self._file.close)

    def remove(self) -> None:
        """Stop writing and delete the file of a session that will not be resumed."""
        self._ended = True
        self.writer.take_batch()
        self._executor.submit(self._file.remove)

    def _take_batch(self, state: bytes) -> bytes:
        self.writer.state_changed(state)
        return self.writer.take_batch()

    def _set_problem(self, problem: str | None) -> None:
        if problem is not None and self.problem is None:
            JOURNAL_FAILED.emit(log, session=self.writer.session.id, detail=problem)
        elif problem is None and self.problem is not None:
            JOURNAL_RECOVERED.emit(log, session=self.writer.session.id)
        self.problem = problem


class JournalFolder:
    """The journals of one server, protected by a lock file.

    The lock belongs to the open file ``lock_file``: a server that receives this descriptor from another holds the same lock,
    so it is never free while one server hands over to the next.
    """

    def __init__(self, path: Path, min_compaction_bytes: int = MIN_COMPACTION_BYTES) -> None:
        """Create the folder if necessary. Raises ``OptionError`` if it is unusable."""
        self.path, self._min_compaction_bytes = path, min_compaction_bytes
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="mmduet-journal")
        self.locked = False
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.lock_file = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> OptionError:
        return OptionError(f"journal {self.path} cannot be used ({error.strerror or error}); choose another folder")

    def try_lock(self) -> bool:
        """Lock the folder; return False if another server has locked it. Raises ``OptionError`` if it cannot be locked."""
        try:
            fcntl.flock(self.lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise self._unusable(error) from None
        self.locked = True
        return True

    def lock(self) -> None:
        """Lock the folder. Raises ``OptionError`` if it is in use by another server."""
        if not self.locked and not self.try_lock():
            self.close()
            raise OptionError(f"journal {self.path} is in use by another server; give each server its own folder")

    def adopt_lock(self, lock_file: int) -> None:
        """Use the lock of another server, received as a file descriptor."""
        os.close(self.lock_file)
        self.lock_file, self.locked = lock_file, True

    def signing_key(self) -> bytes:
        """Return the key that signs client secrets, so that they outlive the server. Raises ``OptionError``."""
        path = self.path / "client_secrets.key"
        try:
            if not path.exists():
                part = path.with_suffix(PART_SUFFIX)
                part.touch(0o600)
                part.write_bytes(secrets.token_bytes(SIGNING_KEY_BYTES))
                part.replace(path)
            return path.read_bytes()
        except OSError as error:
            raise OptionError(f"{path} cannot be read ({error.strerror or error}); delete it") from None

    def open(self, writer: JournalWriter) -> Journal:
        """Return a journal for a new session."""
        writer.write_session()
        return self._journal(writer)

    def _journal(self, writer: JournalWriter) -> Journal:
        file = JournalFile(self.path / f"{writer.session.id}{SUFFIX}", self._min_compaction_bytes)
        return Journal(file, writer, self._executor)

    async def flush(self) -> None:
        """Wait until everything that was handed to the thread is written."""
        await asyncio.get_running_loop().run_in_executor(self._executor, lambda: None)

    def recovered(self) -> Iterator[tuple[RecoveredSession, Journal]]:
        """Yield every session left by the previous server; log and rename journals that cannot be read."""
        for part in self.path.glob(f"*{PART_SUFFIX}"):
            part.unlink(missing_ok=True)
        for path in visible_files(self.path, f"*{SUFFIX}"):
            try:
                found = recover(read_records(path.read_bytes()))
                if found.opened is None or found.state is None:
                    raise ValueError("it describes no session")
                journal = self._journal(JournalWriter(found.opened))
                journal.open_existing()
            except (ValueError, KeyError, TypeError, struct.error, OSError) as error:
                JOURNAL_UNREADABLE.emit(log, file=str(path), detail=str(error))
                with suppress(OSError):
                    path.rename(path.with_suffix(UNREADABLE_SUFFIX))
                continue
            yield found, journal

    def close(self) -> None:
        """Finish all writing and release the lock, unless another server has it as well."""
        self._executor.shutdown()
        self.locked = False
        os.close(self.lock_file)
