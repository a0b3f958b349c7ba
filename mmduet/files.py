"""Read text and JSON files, and write files atomically: to a temporary file in the same directory that is then renamed."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from mmduet.errors import AnnotationError, OptionError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")
DISK_ERRORS = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO", "EACCES", "EPERM", "ENOENT", "ENOTDIR", "EISDIR")
    if hasattr(errno, name)
)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` when the block succeeds and is deleted when it fails.

    If ``path`` is a symbolic link, its target is replaced. A device or a pipe (``/dev/stdout``) is written to directly. Raises
    ``OptionError`` if the file cannot be written.
    """
    if is_special_file(path):
        with as_option_error(path):
            yield path
        return
    path = path.resolve()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with as_option_error(path):
            yield part
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def is_disk_error(error: BaseException) -> bool:
    """Return whether a file cannot be written because of its disk or folder, whatever is written to it."""
    return isinstance(error, OSError) and error.errno in DISK_ERRORS


def is_special_file(path: Path) -> bool:
    """Return whether ``path`` is a device, a pipe or a socket."""
    return path.exists() and not path.is_file() and not path.is_dir()


@contextmanager
def as_option_error(path: Path) -> Iterator[None]:
    """Convert an ``OSError`` from writing ``path`` into an ``OptionError`` that names the file."""
    try:
        yield
    except OSError as error:
        raise OptionError(f"{path} cannot be written ({error.strerror or error}); use another path") from error


@contextmanager
def exclusive_lock(lock_file: Path, path: Path) -> Iterator[None]:
    """Lock ``path`` for this process while the block runs.

    ``lock_file`` is an empty file that exists as long as the lock is held. Raises ``OptionError`` if another process holds the
    lock. On systems without ``fcntl`` (Windows) nothing is locked.
    """
    with as_option_error(path):
        file = _open_locked(lock_file, path)
    with file:
        try:
            yield
        finally:
            with suppress(OSError):
                lock_file.unlink()  # while it is locked, so that nobody else's lock is deleted


def _open_locked(lock_file: Path, path: Path) -> IO[str]:
    while True:
        file = lock_file.open("a", encoding="utf-8")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock_file.exists() and os.path.samestat(os.fstat(file.fileno()), lock_file.stat()):
                return file
        except FileNotFoundError:
            pass  # deleted by another process that held the lock when this one opened the file
        except BlockingIOError:
            file.close()
            raise OptionError(
                f"{path} is being written by another run; wait for it to finish, or use another path"
            ) from None
        except BaseException:
            file.close()
            raise
        file.close()


class LineWriter:
    """Writes lines that are complete or absent: a line that does not fit on the disk is cut off again.

    A device or a pipe is written to as it is. Raises ``OptionError`` if the file cannot be written.
    """

    def __init__(self, path: Path, *, append: bool = False) -> None:
        """Open ``path``; its contents are deleted unless ``append``."""
        self._path = path
        with as_option_error(path):
            self._file = path.open("ab" if append else "wb", buffering=0)  # unbuffered: an interrupted run leaves lines

    def write(self, line: str, *, sync: bool = False) -> None:
        """Write ``line`` and a line end; with ``sync`` they are on disk when this returns."""
        data = memoryview(f"{line}\n".encode(errors="backslashreplace"))
        with as_option_error(self._path):
            start = None if is_special_file(self._path) else self._file.seek(0, os.SEEK_END)
            try:
                while data:
                    data = data[self._file.write(data) :]
                if sync and start is not None:
                    os.fsync(self._file.fileno())
            except OSError:
                if start is not None:
                    self._file.truncate(start)
                raise

    def close(self) -> None:
        """Close the file."""
        with as_option_error(self._path):
            self._file.close()

    def __enter__(self) -> LineWriter:
        """Return the writer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()


def visible_files(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the files in ``folder`` that match ``pattern``, sorted.

    Folders and hidden files are left out: macOS (``.DS_Store``, ``._model.safetensors``), editors and notebooks write them.
    """
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith(".") and path.is_file())


def read_json(path: str | Path, expected_type: type[T]) -> T:
    """Read an annotation file. Raises ``AnnotationError`` if it cannot be read or its value is not an ``expected_type``."""
    value = parse_json(read_text(path), str(path))
    if not isinstance(value, expected_type):
        raise AnnotationError(
            f"{path} holds a {type(value).__name__}, expected a {expected_type.__name__}; check that it has the expected format"
        )
    return value


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write ``value`` as JSON, atomically."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8, atomically."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def parse_json(text: str, source: str, object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Parse JSON as ``json.loads`` does. Raises ``AnnotationError`` whose message begins with ``source``."""
    try:
        return json.loads(text, object_pairs_hook=object_pairs_hook)
    except RecursionError:
        raise AnnotationError(f"{source} is nested too deeply to be parsed; check its format") from None
    except ValueError as error:  # also raised for integers of thousands of digits
        raise AnnotationError(f"{source} is not JSON: {error}; check that it is complete, and its format") from error


def read_text(path: str | Path) -> str:
    """Read a user's UTF-8 file, with or without a byte order mark. Raises ``AnnotationError`` if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise AnnotationError(f"{path} does not exist; check the path") from None
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read ({error.strerror or error}); use another file") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path} is not UTF-8 text: {error}; convert it to UTF-8") from error


def read_json_lines(path: str | Path) -> list[dict[str, Any]]:
    """Read an annotation file with one JSON object per line. Raises ``AnnotationError`` naming the first invalid line."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(
        read_text(path).split("\n"), 1
    ):  # splitlines would also split at U+2028 inside strings
        if not line.strip():
            continue
        row = parse_json(line, f"{path}, line {number}")
        if not isinstance(row, dict):
            raise AnnotationError(f"{path}, line {number} holds a {type(row).__name__}, expected an object")
        rows.append(row)
    return rows
