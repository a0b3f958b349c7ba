"""Open the source that a name refers to: a file, a camera of this machine, or a URL."""

from __future__ import annotations

from collections.abc import Iterator

from mmduet.events import Frame
from mmduet.video.network import Transport, is_network_url, open_network_stream
from mmduet.video.reader import open_frames
from mmduet.video.source import LiveSource
from mmduet.video.video_file import VideoFile
from mmduet.video.webcam import Webcam, is_webcam


class FileSource:
    """A file as a ``LiveSource`` that is not live: it ends, and waits for its reader."""

    live = False

    def __init__(self, path: str) -> None:
        self._path = path
        with VideoFile(path) as file:
            self.info = file.info

    def frames(self, fps: float | None) -> Iterator[Frame]:
        """Return the frames at ``fps`` (None: every frame)."""
        return open_frames(self._path, fps)

    def close(self) -> None:
        """Do nothing: the file is closed when the iteration over its frames ends."""


def open_source(name: str, transport: Transport = "tcp") -> LiveSource:
    """Open ``webcam[:N]``, an ``rtsp://`` or ``http(s)://`` URL, or else a file. Raises ``VideoError``."""
    if is_webcam(name):
        return Webcam(name)
    return open_network_stream(name, transport) if is_network_url(name) else FileSource(name)
