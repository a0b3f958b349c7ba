"""Journals as files: one folder for a server, at most two files for a session, appended to and never changed.

Appending outlives the death of the process, not of the machine: the system writes its pages when it likes. When the younger
file holds every frame that can still be in view, a new one is begun with all that is not a frame, and the older one goes.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from mmduet.errors import OptionError
from mmduet.protocol.commands import ReadTurn
from mmduet.protocol.journal import MAGIC, Scribe, facts, whole_length
from mmduet.protocol.log import EventLog
from mmduet.protocol.recovery import Recovered, recover

log = logging.getLogger(__name__)
SUFFIX = ".journal"
FEWEST_FRAMES = 64
SMALLEST, LARGEST = 1 << 20, 32 << 20  # bytes from which a file may, and must, be followed by another


class Journal:
    """What is written down of one session. ``scribe`` collects, ``commit`` appends.

    ``window`` frames can be in view, and ``waiting`` more wait; None: all of them are in view, and no file ever goes.
    """

    def __init__(self, folder: Path, scribe: Scribe, waiting: int, part: int = 0) -> None:
        self.scribe = scribe
        self.window: int | None = None
        self._folder, self._waiting, self._part = folder, waiting, part
        self._frames_before = 0  # of the scribe's, those in older files
        self._size = self._begins_with = 0
        self._file: int | None = None
        self._removed = False

    def commit(self, state: bytes, events: EventLog) -> None:
        """Have it on file that all this has happened. A disk that refuses ends the journal, never the session."""
        if self._removed:
            self.scribe.batch()
            return
        try:
            if self._file is None:
                self._begin(state, events)
            self._write(state)
            if self._due:
                os.close(self._file or 0)
                self._part, self._frames_before = self._part + 1, self.scribe.frames
                self._begin(state, events)
                self._path(self._part - 2).unlink(missing_ok=True)
        except OSError as error:
            log.error("session %s is no longer journaled: %s", self.scribe.session.id, error.strerror or error)
            self.remove()

    @property
    def _due(self) -> bool:
        if self.window is None:
            return False
        needed = max(FEWEST_FRAMES, self.window + self._waiting)
        enough = self.scribe.frames - self._frames_before >= needed
        return enough and self._size >= min(max(SMALLEST, 4 * self._begins_with), LARGEST)

    def _begin(self, state: bytes, events: EventLog) -> None:
        """A new file; the batch that is under way goes into it, after all that was before."""
        held = self.scribe.batch()
        self.scribe.again(events.entries)
        self.scribe.state(state)
        first = MAGIC + self.scribe.batch()
        self._file = os.open(self._path(self._part), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        self._size, self._begins_with = 0, len(first)
        self._append(first + held)

    def go_on(self, frames: int) -> None:
        """Append to the file that is there, whose torn tail is cut; it holds so many ``frames``."""
        path = self._path(self._part)
        end = whole_length(path.read_bytes())
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.ftruncate(self._file, end)
        self._size, self._frames_before = end, -frames
        if end == 0:
            self._append(MAGIC)

    def _write(self, state: bytes) -> None:
        self.scribe.state(state)
        self._append(self.scribe.batch())

    def _append(self, data: bytes) -> None:
        assert self._file is not None, "it has begun"
        if os.write(self._file, data) < len(data):
            raise OSError(errno.ENOSPC, "the disk is full")
        self._size += len(data)

    def close(self) -> None:
        """Leave it for the next server."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def remove(self) -> None:
        """Nobody will come back; nothing more is written."""
        self.close()
        self._removed = True
        for part in (self._part, self._part - 1):
            self._path(part).unlink(missing_ok=True)

    def _path(self, part: int) -> Path:
        return self._folder / f"{self.scribe.session.id}.{part}{SUFFIX}"


class JournalFolder:
    """One server's journals. Raises ``OptionError`` for a folder that cannot be used, or that another server uses."""

    def __init__(self, path: Path, waiting_frames: int) -> None:
        self._path, self._waiting_frames = path, waiting_frames
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OptionError(f"journal {path} is in use by another server; give each its own folder") from None
        except OSError as error:
            raise OptionError(
                f"journal {path} cannot be used ({error.strerror or error}); give another folder"
            ) from None

    def open(self, scribe: Scribe) -> Journal:
        """A journal for a new session."""
        return Journal(self._path, scribe, self._waiting_frames)

    def recovered(self) -> Iterator[tuple[Recovered, Journal]]:
        """Every session that the last server left behind; what cannot be read is told in the log and removed."""
        names = sorted({path.name.split(".")[0] for path in self._path.glob(f"*{SUFFIX}")})
        for name in names:
            parts = sorted(int(path.name.split(".")[1]) for path in self._path.glob(f"{name}.*{SUFFIX}"))
            paths = [self._path / f"{name}.{part}{SUFFIX}" for part in parts]
            found = recover(*(facts(path.read_bytes()) for path in paths))
            if found.opened is None or found.state is None:
                log.warning("journal of session %s cannot be read; it is removed", name)
                for path in paths:
                    path.unlink()
                continue
            yield found, self._go_on(found, parts[-1], sum(fact.kind == "F" for fact in facts(paths[-1].read_bytes())))

    def _go_on(self, found: Recovered, part: int, frames: int) -> Journal:
        assert found.opened is not None
        kept = [item for item in found.seen if isinstance(item, ReadTurn) and item.stays]
        scribe = Scribe(found.opened, kept, found.turns.values())
        journal = Journal(self._path, scribe, self._waiting_frames, part)
        journal.go_on(frames)
        return journal

    def close(self) -> None:
        """Let another server use it."""
        os.close(self._lock)
