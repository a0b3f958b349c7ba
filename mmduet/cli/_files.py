"""Whether what a command is going to write can be written; asked before the work, not after it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mmduet.errors import OptionError
from mmduet.files import is_special

SUFFIXES = {"--plot": (".png", ".pdf", ".svg"), "--subtitles": (".vtt", ".srt")}


def check_files(outputs: Mapping[str, Path | None], *inputs: Path) -> None:
    """Raise ``OptionError`` for outputs, by option, that could not be written in the end, or would replace what is read."""
    paths = {option: path for option, path in outputs.items() if path is not None}
    taken = {path.resolve(): "what is read" for path in inputs}
    for option, path in paths.items():
        check_file(option, path)
        if path.resolve() in taken:
            raise OptionError(f"{option} {path} is also {taken[path.resolve()]}; give each its own file")
        taken[path.resolve()] = option


def check_file(option: str, path: Path) -> None:
    """Raise ``OptionError`` unless ``path`` can be written and its name says what will be in it."""
    allowed = SUFFIXES.get(option)
    if allowed and path.suffix.lower() not in allowed:
        raise OptionError(f"{option} {path} has no ending that can be written; use {', '.join(allowed)}")
    if not path.parent.is_dir():
        raise OptionError(f"{option} {path} lies in no folder that exists; make {path.parent} first")
    real = path.resolve()
    beside = [] if is_special(path) else [real.parent]  # a file is written beside itself, then renamed
    places = [*beside, path] if path.exists() else beside
    if path.is_dir() or not all(os.access(place, os.W_OK) for place in places):
        raise OptionError(f"{option} {path} cannot be written: it is a folder or not yours; give another path")
