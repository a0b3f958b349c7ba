"""Check before the work starts that the files of a command can be written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmduet.errors import OptionError
from mmduet.files import is_special_file

PICTURES = (".png", ".pdf", ".svg")
SUFFIXES = {"--plot": PICTURES, "--subtitles": (".vtt", ".srt")}


def check_output_files(outputs: Mapping[str, Path | None], *inputs: Path) -> None:
    """Check the output files of a command, by option.

    Raises:
        OptionError: A file cannot be written, is an input file, or is given for two options.
    """
    paths = {option: path for option, path in outputs.items() if path is not None}
    used = {path.resolve(): "an input file" for path in inputs}
    for option, path in paths.items():
        check_output_file(option, path)
        if path.resolve() in used:
            raise OptionError(f"{option} {path} is also {used[path.resolve()]}; give each its own file")
        used[path.resolve()] = option


def check_output_file(option: str, path: Path, suffixes: Sequence[str] = ()) -> None:
    """Raise ``OptionError`` if ``path`` cannot be written or has none of the suffixes that the option supports.

    Without ``suffixes`` these are the option's in ``SUFFIXES``; an option that is not there supports any.
    """
    allowed = suffixes or SUFFIXES.get(option)
    if allowed and path.suffix.lower() not in allowed:
        raise OptionError(f"{option} {path} has an unsupported file type; use {', '.join(allowed)}")
    if not path.parent.is_dir():
        raise OptionError(f"{option} {path}: the folder {path.parent} does not exist; create it first")
    real = path.resolve()
    beside = [] if is_special_file(path) else [real.parent]  # a file is written beside its target, then renamed
    places = [*beside, path] if path.exists() else beside
    if path.is_dir() or not all(os.access(place, os.W_OK) for place in places):
        raise OptionError(f"{option} {path} cannot be written: it is a folder or not writable; give another path")
