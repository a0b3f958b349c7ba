"""The journal file of one session: appended to, compacted when it has grown, and held in memory while the disk fails.

A journal survives the death of the process but not a power failure, because the operating system writes its pages later.
A file that has grown to several times its compacted size is replaced atomically by one with only the current state.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

from mmduet.protocol.session.journal import MAGIC, JournalWriter, complete_length, read_records
from mmduet.protocol.session.recovery import recover
from mmduet.server.log_events import JOURNAL_NOT_COMPACTED, JOURNAL_NOT_DELETED

log = logging.getLogger(__name__)
SUFFIX, PART_SUFFIX = ".journal", ".journal.part"
MIN_COMPACTION_BYTES = 1 << 20  # smaller files are never compacted
COMPACTION_GROWTH = 4  # a file is compacted when it exceeds this multiple of its last compacted size
RETRY_SECONDS = 5.0  # between attempts to write to a disk that has failed


class JournalFile:
    """One file, created with the first batch. Its methods block and must not run at the same time.

    After a write error the content is held in memory, compacted like the file, and the file is deleted: what is left of it must
    not be restored as the session's state. The content is written again as soon as the disk accepts it.
    """

    def __init__(self, path: Path, min_compaction_bytes: int, clock: Callable[[], float] = monotonic) -> None:
        self._path, self._min_compaction_bytes, self._clock = path, min_compaction_bytes, clock
        self._size = self._compacted_size = 0
        self._file: int | None = None
        self._content: bytes | None = None  # while the disk fails
        self._error: OSError | None = None  # of the last attempt to write the file
        self._retry_at = 0.0
        self._closed = False

    def append(self, batch: bytes, first_event: int) -> None:
        """Append a batch; compaction drops events before number ``first_event``.

        Raises ``OSError`` as long as the journal is not on disk.
        """
        if self._closed:
            return
        if self._error is None:
            self._append_to_file(batch, first_event)
        elif self._content is not None:
            self._content += batch
            if self._is_large(len(self._content)):
                self._content = self._compact(self._content, first_event)
            if self._clock() >= self._retry_at:
                self._retry(self._content)
        if self._error is not None:
            raise self._error

    def reopen(self) -> None:
        """Continue the existing file after cutting off an incomplete last record. Raises ``OSError``."""
        data = self._path.read_bytes()
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        self._size = self._compacted_size = complete_length(data)
        os.ftruncate(self._file, self._size)

    def close(self) -> None:
        """Stop writing and leave the file for the next server. Content that is not on disk is tried once more."""
        if self._content is not None and not self._closed:
            self._retry(self._content)
        self._closed = True
        self._close_file()

    def remove(self) -> None:
        """Stop writing and delete the file of a session that will not be resumed."""
        self._closed, self._content = True, None
        self._close_file()
        self._delete()

    def _append_to_file(self, batch: bytes, first_event: int) -> None:
        created = self._file is None
        try:
            if self._file is None:
                self._replace(MAGIC + batch)
            else:
                _write(self._file, batch)
                self._size += len(batch)
        except OSError as error:
            self._hold_in_memory(error, MAGIC if created else None, batch)
            return
        if self._is_large(self._size) and self._clock() >= self._retry_at:
            self._compact_file(first_event)

    def _compact_file(self, first_event: int) -> None:
        try:
            self._replace(self._compact(self._path.read_bytes(), first_event))
        except OSError as error:  # the uncompacted file is complete
            JOURNAL_NOT_COMPACTED.emit(log, file=str(self._path), detail=error.strerror or str(error))
            self._retry_at = self._clock() + RETRY_SECONDS

    def _hold_in_memory(self, error: OSError, written: bytes | None, batch: bytes) -> None:
        """Continue in memory after a write error. ``written`` is the content before it; None reads it from the file."""
        self._error, self._retry_at = error, self._clock() + RETRY_SECONDS
        with suppress(OSError):  # content that cannot be read is lost, and the session is not journaled any more
            self._content = (self._path.read_bytes()[: self._size] if written is None else written) + batch
        self._close_file()
        self._delete()

    def _retry(self, content: bytes) -> None:
        try:
            self._replace(content)
        except OSError as error:
            self._error, self._retry_at = error, self._clock() + RETRY_SECONDS
        else:
            self._content = self._error = None

    def _replace(self, content: bytes) -> None:
        """Replace the file atomically. Raises ``OSError``; the file is then as before."""
        part = self._path.with_suffix(PART_SUFFIX)
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            _write(file, content)
            part.replace(self._path)
        except OSError:
            os.close(file)
            with suppress(OSError):
                part.unlink()
            raise
        self._close_file()
        self._file, self._size, self._compacted_size = file, len(content), len(content)

    def _is_large(self, size: int) -> bool:
        return size > max(self._min_compaction_bytes, COMPACTION_GROWTH * self._compacted_size)

    def _compact(self, content: bytes, first_event: int) -> bytes:
        known = recover(read_records(content))
        assert known.opened is not None, "every journal begins with the session"
        assert known.state is not None, "every batch ends with the state"
        writer = JournalWriter(known.opened)
        known.write_to(writer, [known.entries[number] for number in sorted(known.entries) if number >= first_event])
        writer.state_changed(known.state.to_json())
        compacted = MAGIC + writer.take_batch()
        self._compacted_size = len(compacted)
        return compacted

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def _delete(self) -> None:
        for path in (self._path, self._path.with_suffix(PART_SUFFIX)):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                JOURNAL_NOT_DELETED.emit(log, file=str(path), detail=error.strerror or str(error))


def _write(file: int, data: bytes) -> None:
    """Write all of ``data``. Raises ``OSError``."""
    if os.write(file, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
