"""Open the source that a name refers to: a file, a camera or screen of this machine, or a URL."""

from __future__ import annotations

import re
from pathlib import Path

from mmduet.errors import SourceError
from mmduet.redaction import address_scheme, redact
from mmduet.video.damage import NO_DAMAGE, Damage
from mmduet.video.live import RetryCallback
from mmduet.video.network import Transport, is_network_url, open_network_stream
from mmduet.video.reader import FrameReader, Profile, open_frames
from mmduet.video.screen import is_screen, open_screen
from mmduet.video.source import LiveSource
from mmduet.video.video_file import VideoFile
from mmduet.video.webcam import Webcam, is_webcam


class FileSource:
    """A file as a ``LiveSource`` that is not live: it ends, and waits for its reader."""

    live = False
    retry_at = None

    def __init__(self, path: str, *, strict: bool = False, profile: Profile = "fixed") -> None:
        self._path, self._strict, self._profile = path, strict, profile
        self._reader: FrameReader | None = None
        with VideoFile(path, strict=strict) as file:
            self.info = file.info

    @property
    def damage(self) -> Damage:
        """What could not be read so far."""
        return NO_DAMAGE if self._reader is None else self._reader.damage

    @property
    def read_duration(self) -> float | None:
        """The duration in seconds, once all frames have been read."""
        return None if self._reader is None else self._reader.read_duration

    def frames(self, fps: float | None) -> FrameReader:
        """Return the frames at ``fps`` (None: every frame)."""
        self._reader = open_frames(self._path, fps, self._profile, strict=self._strict)
        return self._reader

    def close(self) -> None:
        """Do nothing: the file is closed when the iteration over its frames ends."""


def is_file_name(name: str) -> bool:
    """Return whether ``open_source`` takes ``name`` for that of a file, rather than of a camera, a screen or a URL."""
    return not (is_webcam(name) or is_screen(name) or is_network_url(name))


def open_source(
    name: str,
    transport: Transport = "tcp",
    *,
    strict: bool = False,
    profile: Profile = "fixed",
    on_retry: RetryCallback = lambda reason, pause: None,
) -> LiveSource:
    """Open ``webcam[:N]``, ``screen[:NAME]``, an ``rtsp://`` or ``http(s)://`` URL, or else a file. Raises ``VideoError``.

    With ``strict``, damage in a file raises ``CorruptVideoError``. ``profile`` is how frames of a file are sampled; others are
    sampled by time. ``on_retry`` is called when a live source's connection is lost, see ``LiveVideo``.
    """
    if is_webcam(name):
        return Webcam(name)
    if is_screen(name):
        return open_screen(name, on_retry)
    if is_network_url(name):
        return open_network_stream(name, transport, on_retry)
    if re.match(r"(https?|rtsps?):", name, re.IGNORECASE) and not Path(name).exists():
        raise SourceError(f"{redact(name)} is not a valid address; write it as SCHEME://HOST/PATH")
    if (scheme := address_scheme(name)) is not None and not Path(name).exists():
        raise SourceError(f"{redact(name)} has the unsupported scheme {scheme}; use rtsp, rtsps, http or https")
    return FileSource(name, strict=strict, profile=profile)
