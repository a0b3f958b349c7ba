"""A temporary folder for the files of one server, which no other user of the machine can read.

The folder is deleted when the server stops. If the server was killed, the next one deletes it: a lock in the folder, which the
system releases with the process, shows whether its server still runs.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import threading
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where folders of killed servers are not deleted
    fcntl = None  # type: ignore[assignment]

PREFIX, UNLOCKED_PREFIX = "mmduet-page-", "mmduet-new-"
LOCK_FILE = "lock"
CAN_LOCK: bool = fcntl is not None


class PrivateFolder:
    """A folder below ``parent`` (None: the system's temporary folder), created when it is first used."""

    def __init__(self, parent: Path | None = None) -> None:
        self.parent = Path(tempfile.gettempdir()) if parent is None else parent
        self._path: Path | None = None
        self._lock: IO[bytes] | None = None
        self._creating = threading.Lock()

    @property
    def path(self) -> Path | None:
        """The folder; None before its first use and after ``delete``."""
        return self._path

    def create_subfolder(self, name: str) -> Path:
        """Create a folder in it that only this user can read, and return its path. Raises ``OSError``."""
        with self._creating:
            if self._path is None:
                self._path, self._lock = _create_locked(self.parent)
        path = self._path / name
        path.mkdir(mode=0o700)
        return path

    def delete(self) -> None:
        """Delete the folder with everything in it; files that cannot be deleted remain."""
        path, lock = self._path, self._lock
        self._path = self._lock = None
        if path is not None:
            shutil.rmtree(path, ignore_errors=True)
        if lock is not None:
            lock.close()


def _create_locked(parent: Path) -> tuple[Path, IO[bytes]]:
    """Create a folder with a locked file. It gets its name once it is locked, so that no server takes it for a leftover."""
    path = Path(tempfile.mkdtemp(prefix=UNLOCKED_PREFIX, dir=parent))  # mode 0700
    try:
        lock = (path / LOCK_FILE).open("wb")
        if CAN_LOCK:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return path.rename(path.with_name(path.name.replace(UNLOCKED_PREFIX, PREFIX, 1))), lock
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def delete_leftovers(parent: Path) -> list[Path]:
    """Delete the folders of killed servers of this user, and return them. Folders of running servers are kept."""
    return [path for path in parent.glob(f"{PREFIX}*") if _delete_unlocked(path)]


def _delete_unlocked(path: Path) -> bool:
    """Delete a folder whose server does not run any more, and return whether it was deleted."""
    if not CAN_LOCK:
        return False
    try:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            return False
        lock = os.open(path / LOCK_FILE, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()
    except OSError:  # locked by a server that runs
        return False
    finally:
        os.close(lock)
