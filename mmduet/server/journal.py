"""Journals as files: one folder for a server, one file for a session, appended to, and now and then written anew.

Appending outlives the death of the process, not of the machine: the system writes its pages when it likes. A file that has
grown to several times what a session needs is replaced, whole, by one that holds just that.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mmduet.errors import OptionError
from mmduet.protocol.session.event_log import EventLog
from mmduet.protocol.session.journal import MAGIC, Scribe, facts, whole_length
from mmduet.protocol.session.recovery import Recovered, recover

log = logging.getLogger(__name__)
SUFFIX, PART, UNREADABLE = ".journal", ".journal.part", ".unreadable"
SMALLEST = 1 << 20  # bytes below which a file is never written anew
GROWTH = 4  # times what it began with at which it is


class Journal:
    """What is written down of one session. ``scribe`` collects, ``commit`` appends; it begins with the first commit."""

    def __init__(self, folder: Path, scribe: Scribe) -> None:
        self.scribe = scribe
        self._path = folder / f"{scribe.session.id}{SUFFIX}"
        self._size = self._began_with = 0
        self._file: int | None = None
        self._over = False

    def commit(self, state: bytes, events: EventLog) -> None:
        """Have it on file that all this has happened. A disk that refuses ends the journal, never the session."""
        if self._over:
            self.scribe.batch()
            return
        try:
            if self._file is None:
                self._replace(Recovered(), state, events)
            else:
                self.scribe.state(state)
                self._append(self.scribe.batch())
                if self._size > max(SMALLEST, GROWTH * self._began_with):
                    self._replace(recover(facts(self._path.read_bytes())), state, events)
        except OSError as error:
            log.error("session %s is no longer journaled: %s", self.scribe.session.id, error.strerror or error)
            self.remove()

    def go_on(self) -> None:
        """Append to the file that is there, whose torn tail is cut. Raises ``OSError``."""
        data = self._path.read_bytes()
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        self._size = self._began_with = whole_length(data)
        os.ftruncate(self._file, self._size)

    def _replace(self, known: Recovered, state: bytes, events: EventLog) -> None:
        """Begin with what is ``known``; facts that were not written yet follow."""
        held = self.scribe.batch()
        known.write(self.scribe, events.entries)
        self.scribe.state(state)
        whole = MAGIC + self.scribe.batch() + held
        part = self._path.with_suffix(PART)
        before, self._file = self._file, None
        try:
            self._file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
            self._size = 0
            self._append(whole)
            part.replace(self._path)
        finally:
            if before is not None:
                os.close(before)
        self._began_with = self._size

    def _append(self, data: bytes) -> None:
        assert self._file is not None, "it has begun"
        if os.write(self._file, data) < len(data):
            raise OSError(errno.ENOSPC, "the disk is full")
        self._size += len(data)

    def close(self) -> None:
        """Leave it for the next server."""
        self._over = True
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def remove(self) -> None:
        """Nobody will come back; nothing more is written."""
        self.close()
        for path in (self._path, self._path.with_suffix(PART)):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.error("%s cannot be removed (%s); remove it, or the session comes back", path, error.strerror)


class JournalFolder:
    """One server's journals. Raises ``OptionError`` for a folder that cannot be used, or that another server uses."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise OptionError(f"journal {path} is in use by another server; give each its own folder") from None
        except OSError as error:
            raise OptionError(
                f"journal {path} cannot be used ({error.strerror or error}); give another folder"
            ) from None

    def open(self, scribe: Scribe) -> Journal:
        """A journal for a new session."""
        return Journal(self._path, scribe)

    def recovered(self) -> Iterator[tuple[Recovered, Journal]]:
        """Every session that the last server left behind; a journal that cannot be read is told in the log and set aside."""
        for part in self._path.glob(f"*{PART}"):
            part.unlink(missing_ok=True)
        for path in sorted(self._path.glob(f"*{SUFFIX}")):
            try:
                found = recover(facts(path.read_bytes()))
                if found.opened is None or found.state is None:
                    raise ValueError("it tells of no session")
                journal = Journal(self._path, Scribe(found.opened))
                journal.go_on()
            except (ValueError, KeyError, TypeError, struct.error, OSError) as error:
                log.error("journal %s cannot be read (%s); it is set aside", path, error)
                with suppress(OSError):
                    path.rename(path.with_suffix(UNREADABLE))
                continue
            yield found, journal

    def close(self) -> None:
        """Let another server use it."""
        os.close(self._lock)
