"""Read a video from standard input."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from mmduet.errors import CorruptVideoError, VideoError
from mmduet.files import is_special_file

STANDARD_INPUT = Path("/dev/stdin")
FILE_NUMBER = 0


def resolve_video(video: Path) -> Path:
    """Return ``/dev/stdin`` for ``-``, and store what a pipe sends there, because a video is read more than once.

    The stored data takes the place of standard input and is deleted when the process ends.

    Raises:
        VideoError: Standard input is a terminal, empty, or cannot be stored.
    """
    if str(video) not in ("-", str(STANDARD_INPUT)):
        return video
    if os.isatty(FILE_NUMBER):
        raise VideoError("standard input is a terminal; send a video to it, for example: mmduet run - < video.mp4")
    try:
        if is_special_file(STANDARD_INPUT):
            _store_standard_input()
        if os.fstat(FILE_NUMBER).st_size == 0:
            raise CorruptVideoError("standard input is empty; send a video to it")
    except OSError as error:
        raise VideoError(f"standard input cannot be stored ({error.strerror}); give the name of a file") from error
    return STANDARD_INPUT


def resolve_source(name: str) -> str:
    """Return the name of a source, with that of a file in place of ``-``; see ``resolve_video``."""
    return str(resolve_video(Path(name))) if name in ("-", str(STANDARD_INPUT)) else name


def _store_standard_input() -> None:
    with os.fdopen(FILE_NUMBER, "rb", closefd=False) as source, tempfile.TemporaryFile() as stored:
        shutil.copyfileobj(source, stored)
        stored.flush()
        os.dup2(stored.fileno(), FILE_NUMBER)
