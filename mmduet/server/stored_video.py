"""Videos on the server's disk: their errors name what the client sent, never a path of the server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmduet.errors import StorageError, VideoError
from mmduet.events import Frame
from mmduet.video import VideoFile, open_frames
from mmduet.video.damage import NO_DAMAGE, Damage
from mmduet.video.reader import FrameReader


class NamedVideo:
    """A file as a ``LiveSource`` that is not live; errors call it ``name``. Raises ``VideoError``."""

    live = False
    retry_at = None

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._reader: FrameReader | None = None
        with self._named_errors(), VideoFile(path) as file:
            self.info = file.info

    @property
    def damage(self) -> Damage:
        """What could not be read so far."""
        return NO_DAMAGE if self._reader is None else self._reader.damage

    @property
    def read_duration(self) -> float | None:
        """The duration in seconds, once all frames have been read."""
        return None if self._reader is None else self._reader.read_duration

    def frames(self, fps: float | None) -> Iterator[Frame]:
        """Yield the frames at ``fps`` (None: every frame)."""
        with self._named_errors():
            self._reader = open_frames(self._path, fps)
            yield from self._reader

    def close(self) -> None:
        """Do nothing: the file is closed when the iteration over its frames ends."""

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except VideoError as error:
            raise type(error)(str(error).replace(str(self._path), self._name)) from None


class StoredFile:
    """A file received in ``chunks`` and kept in the temporary folder until it is closed.

    Raises ``StorageError``, with ``name``, if it cannot be stored, and what ``chunks`` raises.
    """

    def __init__(self, name: str, chunks: Iterable[bytes]) -> None:
        self.name = name
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="mmduet-")
        except OSError as error:
            raise storage_error(name, error) from None
        self.path = Path(self._folder.name) / "video"
        try:
            _write(self.path, name, chunks)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Delete the file."""
        with suppress(OSError):
            self._folder.cleanup()


class StoredVideo(NamedVideo):
    """A stored file as a source, which deletes it when it is closed."""

    def __init__(self, file: StoredFile) -> None:
        self._file = file
        try:
            super().__init__(file.path, file.name)
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        """Delete the file."""
        self._file.close()


def _write(path: Path, name: str, chunks: Iterable[bytes]) -> None:
    try:
        with path.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
    except OSError as error:
        raise storage_error(name, error) from None


def storage_error(name: str, error: OSError) -> StorageError:
    """Return the error for a file, called ``name``, that cannot be stored in the temporary folder."""
    return StorageError(
        f"the server cannot store {name} ({(error.strerror or 'no usable folder').lower()}); "
        "free space in its temporary folder, or set TMPDIR to another one"
    )
