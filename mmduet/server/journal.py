"""Session journals on disk: one folder per server, one append-only file per session, compacted when it has grown.

A journal survives the death of the process but not a power failure, because the operating system writes its pages later.
A file that has grown to several times its compacted size is replaced atomically by one with only the current state.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mmduet.errors import OptionError
from mmduet.files import visible_files
from mmduet.protocol.session.event_log import EventLog
from mmduet.protocol.session.journal import MAGIC, JournalWriter, complete_length, read_records
from mmduet.protocol.session.recovery import RecoveredSession, recover
from mmduet.server.log_events import JOURNAL_FAILED, JOURNAL_NOT_DELETED, JOURNAL_UNREADABLE

log = logging.getLogger(__name__)
SUFFIX, PART_SUFFIX, UNREADABLE_SUFFIX = ".journal", ".journal.part", ".unreadable"
MIN_COMPACTION_BYTES = 1 << 20  # smaller files are never compacted
SIGNING_KEY_BYTES = 32
COMPACTION_GROWTH = 4  # a file is compacted when it exceeds this multiple of its last compacted size


class Journal:
    """The journal file of one session, created with the first commit.

    ``writer`` collects records and ``commit`` appends them.
    """

    def __init__(self, folder: Path, writer: JournalWriter, min_compaction_bytes: int = MIN_COMPACTION_BYTES) -> None:
        self.writer = writer
        self._path = folder / f"{writer.session.id}{SUFFIX}"
        self._min_compaction_bytes = min_compaction_bytes
        self._size = self._compacted_size = 0
        self._file: int | None = None
        self._closed = False

    def commit(self, state: bytes, events: EventLog) -> None:
        """Append the collected records and the session's state. A write error ends the journal but not the session."""
        if self._closed:
            self.writer.take_batch()
            return
        try:
            if self._file is None:
                self._rewrite(RecoveredSession(), state, events)
            else:
                self.writer.state_changed(state)
                self._append(self.writer.take_batch())
                if self._size > max(self._min_compaction_bytes, COMPACTION_GROWTH * self._compacted_size):
                    self._rewrite(recover(read_records(self._path.read_bytes())), state, events)
        except OSError as error:
            JOURNAL_FAILED.emit(log, session=self.writer.session.id, detail=error.strerror or str(error))
            self.remove()

    def reopen(self) -> None:
        """Continue the existing file after cutting off an incomplete last record. Raises ``OSError``."""
        data = self._path.read_bytes()
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        self._size = self._compacted_size = complete_length(data)
        os.ftruncate(self._file, self._size)

    def _rewrite(self, known: RecoveredSession, state: bytes, events: EventLog) -> None:
        """Replace the file by one that holds ``known`` and the state, followed by records that are not yet written."""
        unwritten = self.writer.take_batch()
        known.write_to(self.writer, events.entries)
        self.writer.state_changed(state)
        content = MAGIC + self.writer.take_batch() + unwritten
        part = self._path.with_suffix(PART_SUFFIX)
        previous, self._file = self._file, None
        try:
            self._file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
            self._size = 0
            self._append(content)
            part.replace(self._path)
        finally:
            if previous is not None:
                os.close(previous)
        self._compacted_size = self._size

    def _append(self, data: bytes) -> None:
        assert self._file is not None, "the file has been opened"
        if os.write(self._file, data) < len(data):
            raise OSError(errno.ENOSPC, "the disk is full")
        self._size += len(data)

    def close(self) -> None:
        """Stop writing and leave the file for the next server."""
        self._closed = True
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def remove(self) -> None:
        """Stop writing and delete the file of a session that will not be resumed."""
        self.close()
        for path in (self._path, self._path.with_suffix(PART_SUFFIX)):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                JOURNAL_NOT_DELETED.emit(log, file=str(path), detail=error.strerror or str(error))


class JournalFolder:
    """The journals of one server, protected by a lock file.

    The lock belongs to the open file ``lock_file``: a server that receives this descriptor from another holds the same lock,
    so it is never free while one server hands over to the next.
    """

    def __init__(self, path: Path, min_compaction_bytes: int = MIN_COMPACTION_BYTES) -> None:
        """Create the folder if necessary. Raises ``OptionError`` if it is unusable."""
        self.path, self._min_compaction_bytes = path, min_compaction_bytes
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
        return Journal(self.path, writer, self._min_compaction_bytes)

    def recovered(self) -> Iterator[tuple[RecoveredSession, Journal]]:
        """Yield every session left by the previous server; log and rename journals that cannot be read."""
        for part in self.path.glob(f"*{PART_SUFFIX}"):
            part.unlink(missing_ok=True)
        for path in visible_files(self.path, f"*{SUFFIX}"):
            try:
                found = recover(read_records(path.read_bytes()))
                if found.opened is None or found.state is None:
                    raise ValueError("it describes no session")
                journal = self.open(JournalWriter(found.opened))
                journal.reopen()
            except (ValueError, KeyError, TypeError, struct.error, OSError) as error:
                JOURNAL_UNREADABLE.emit(log, file=str(path), detail=str(error))
                with suppress(OSError):
                    path.rename(path.with_suffix(UNREADABLE_SUFFIX))
                continue
            yield found, journal

    def close(self) -> None:
        """Release the lock, unless another server has it as well."""
        self.locked = False
        os.close(self.lock_file)
