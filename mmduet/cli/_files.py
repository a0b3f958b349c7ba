"""Whether what a command is going to write can be written; asked before the work, not after it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mmduet.errors import OptionError

SUFFIXES = {"--plot": (".png", ".pdf", ".svg"), "--subtitles": (".vtt", ".srt")}


def check_files(outputs: Mapping[str, Path | None], *videos: Path) -> None:
    """Raise ``OptionError`` for outputs, by option, that could not be written when the work is done."""
    paths = {option: path for option, path in outputs.items() if path is not None}
    taken = {video.absolute(): "the video" for video in videos}
    for option, path in paths.items():
        check_file(option, path)
        if path.absolute() in taken:
            raise OptionError(f"{option} {path} is also {taken[path.absolute()]}; give each its own file")
        taken[path.absolute()] = option


def check_file(option: str, path: Path) -> None:
    """Raise ``OptionError`` unless ``path`` can be written and its name says what will be in it."""
    allowed = SUFFIXES.get(option)
    if allowed and path.suffix.lower() not in allowed:
        raise OptionError(f"{option} {path} has no ending that can be written; use {', '.join(allowed)}")
    if not path.parent.is_dir():
        raise OptionError(f"{option} {path} lies in no folder that exists; make {path.parent} first")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OptionError(f"{option} {path} cannot be written: it is a folder or not yours; give another path")
