"""Videos that parts of the server offer under a scheme of their own, such as ``clip:NAME``, outside the URL policy."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from mmduet.errors import OptionError, SourceError
from mmduet.text import shorten
from mmduet.video.http_client import HTTP_SCHEMES
from mmduet.video.network import RTSP_SCHEMES
from mmduet.video.webcam import NAME as WEBCAM

FindVideo = Callable[[str, str], Path]
"""Returns the file of a video by its name and the owner of the session, or raises ``SourceError``. It may block.

Its messages must name neither a path of the server nor videos of other owners.
"""
RESERVED_SCHEMES = frozenset({*HTTP_SCHEMES, *RTSP_SCHEMES, WEBCAM, "data", "file"})


class RegisteredVideos:
    """The schemes and the functions that find their videos. Schemes have no case."""

    def __init__(self) -> None:
        self._finders: dict[str, FindVideo] = {}

    def register(self, scheme: str, find: FindVideo) -> None:
        """Let ``scheme:NAME`` be the video that ``find`` returns.

        Raises ``OptionError`` if the scheme is not valid, has another meaning or is registered.
        """
        if not re.fullmatch(r"[a-z][a-z0-9+.-]+", scheme):
            raise OptionError(f"scheme {shorten(scheme)!r} is not valid; use at least two lower-case letters or digits")
        if scheme in RESERVED_SCHEMES or scheme in self._finders:
            raise OptionError(f"scheme {scheme!r} is already in use; choose another")
        self._finders[scheme] = find

    def find(self, url: str, owner: str) -> Path | None:
        """Return the file of a registered video, or None if the scheme of ``url`` is not registered; blocking.

        Raises ``SourceError`` if this owner has no such video.
        """
        scheme, colon, name = url.partition(":")
        find = self._finders.get(scheme.lower()) if colon else None
        if find is None:
            return None
        try:
            path = find(name, owner)
            is_file = path.is_file()
        except (OSError, ValueError):  # a name that is too long or has a null byte
            is_file = False
        if not is_file:
            raise SourceError(f"{shorten(url)!r} does not exist; check the name")
        return path
