"""Reads files, and writes them whole or not at all: beside the target first, then renamed; knows no formats but JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mmduet.errors import AnnotationError, OptionError

T = TypeVar("T")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to, which becomes ``path`` when the block ends well and is removed otherwise.

    Raises ``OptionError`` where the system refuses to write.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with told_as_option(path):
            yield part
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def told_as_option(path: Path) -> Iterator[None]:
    """Turns the system's refusal to write into an error that names the file."""
    try:
        yield
    except OSError as error:
        raise OptionError(f"{path} cannot be written ({error.strerror or error}); give another path") from error


def read_json(path: str | Path, kind: type[T]) -> T:
    """An annotation file that holds a ``kind``; raises ``AnnotationError`` where it does not, or is not there."""
    try:
        value: Any = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, kind):
        raise AnnotationError(f"{path} holds a {type(value).__name__}, not a {kind.__name__}; is it of another format?")
    return value


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write ``value`` as JSON; a reader never sees half a file."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ``text``; a reader never sees half a file."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise AnnotationError(f"{path}: there is no such annotation file") from None
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read ({error.strerror or error}); give another file") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path} is not text in UTF-8: {error}") from error


def read_json_lines(path: str | Path) -> list[dict[str, Any]]:
    """An annotation file with one object a line; raises ``AnnotationError`` naming the line that is none."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(_text(path).split("\n"), 1):  # splitlines would split texts, too: at U+2028
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise AnnotationError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise AnnotationError(f"{path}, line {number} holds a {type(row).__name__}, not an object")
        rows.append(row)
    return rows
