"""Reads files, and writes them whole or not at all: beside the target first, then renamed; knows no formats but JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from mmduet.errors import AnnotationError, OptionError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to, which becomes ``path`` when the block ends well and is removed otherwise.

    A link stays one: what it leads to is written. A device or a pipe (``/dev/stdout``) is written to as it is, never replaced.
    Raises ``OptionError`` where the system refuses to write.
    """
    if is_special(path):
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


def is_special(path: Path) -> bool:
    """Whether it leads to a device, a pipe or a socket."""
    return path.exists() and not path.is_file() and not path.is_dir()


@contextmanager
def as_option_error(path: Path) -> Iterator[None]:
    """Turns the system's refusal to write into an error that names the file."""
    try:
        yield
    except OSError as error:
        raise OptionError(f"{path} cannot be written ({error.strerror or error}); give another path") from error


def exclusive_lock(lock: Path, path: Path) -> IO[str]:
    """A hold on ``path`` that one process at a time can have, until what is returned is closed, or the process is no more.

    ``lock`` is a file that stands for it and is left behind, empty. Raises ``OptionError`` where another has it. Where the
    system knows no such locks, nobody is kept out.
    """
    with as_option_error(path):
        file = lock.open("a", encoding="utf-8")
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise OptionError(
                    f"{path} is being written to by another run; wait for it, or give another path"
                ) from None
    return file


def read_json(path: str | Path, kind: type[T]) -> T:
    """An annotation file that holds a ``kind``; raises ``AnnotationError`` where it does not, or is not there."""
    value = parse_json(read_text(path), str(path))
    if not isinstance(value, kind):
        raise AnnotationError(f"{path} holds a {type(value).__name__}, not a {kind.__name__}; is it of another format?")
    return value


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write ``value`` as JSON; a reader never sees half a file."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ``text``; a reader never sees half a file."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def parse_json(text: str, where: str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """What JSON says; objects are made by ``pairs``. Raises ``AnnotationError`` that begins with ``where``."""
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise AnnotationError(f"{where} is nested too deeply to be read; is it of this format?") from None
    except ValueError as error:  # also for a number of thousands of digits
        raise AnnotationError(f"{where} is not JSON: {error}; is it whole, and of this format?") from error


def read_text(path: str | Path) -> str:
    """A file of people's data, with or without a byte order mark; raises ``AnnotationError`` where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise AnnotationError(f"{path}: there is no such file") from None
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read ({error.strerror or error}); give another file") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path} is not text in UTF-8: {error}") from error


def read_json_lines(path: str | Path) -> list[dict[str, Any]]:
    """An annotation file with one object a line; raises ``AnnotationError`` naming the line that is none."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):  # splitlines would split texts, too: at U+2028
        if not line.strip():
            continue
        row = parse_json(line, f"{path}, line {number}")
        if not isinstance(row, dict):
            raise AnnotationError(f"{path}, line {number} holds a {type(row).__name__}, not an object")
        rows.append(row)
    return rows
