"""Open local files for FFmpeg so that it reads nothing but the file, and for a playlist the files in the playlist's folder.

FFmpeg would open whatever a file names: other files, addresses, devices. Here only container formats that name nothing are
allowed, FFmpeg receives open files instead of names, and a playlist is parsed here: FFmpeg gets one whose entries are numbers.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import av
from av.container import InputContainer

from mmduet.errors import CorruptVideoError, VideoError
from mmduet.redaction import redact
from mmduet.video.aes import BLOCK_BYTES, decrypt_cbc
from mmduet.video.formats import CONTAINER_FORMATS, refuse_to_open
from mmduet.video.hls_playlist import (
    DEFAULT_FRAME_SIZE,
    MAX_PLAYLIST_BYTES,
    InitSection,
    Key,
    MasterPlaylist,
    MediaPlaylist,
    Resource,
    Segment,
    choose_variant,
    is_playlist,
    parse_playlist,
    segment_vector,
)

_PLAYLIST_OPTIONS = {
    "format_whitelist": ",".join(("hls", *CONTAINER_FORMATS)),
    "allowed_extensions": "ALL",  # the numbered entries have no extension
    "allowed_segment_extensions": "ALL",
    "extension_picky": "0",
    "http_persistent": "0",  # FFmpeg would otherwise treat our open files as its own connections
    "http_multiple": "0",
}


def open_local(path: Path, on_read: Callable[[], None] | None = None) -> InputContainer:
    """Open a file or playlist. ``on_read`` is called before each read of a file, which fails with what it raises.

    Raises PyAV's errors, OSError, or ``VideoError`` for a playlist that cannot be read.
    """
    if path.is_file():
        with path.open("rb") as file:
            if is_playlist(file.read(64)):
                return _open_playlist(path)
    options = {"format_whitelist": ",".join(CONTAINER_FORMATS)}
    for named in (True, False):  # the name of an image chooses a format that reads numbered files, so then try without
        with suppress(av.ArgumentError):
            return av.open(_LocalFile(path, named, on_read), "r", options=options, io_open=refuse_to_open)
    raise CorruptVideoError(
        f"{redact(str(path))} is not in a video format that is read, or is a list of other files; give a video file"
    )


class _LocalFile(io.FileIO):
    """A file that closes when the container that reads it is gone: PyAV does not close files that it is given.

    FFmpeg considers its name when it recognises the format, unless it is not ``named``.
    """

    def __init__(self, path: Path, named: bool, on_read: Callable[[], None] | None = None) -> None:
        super().__init__(str(path), "rb")
        self._on_read = on_read
        if not named:
            self.name = ""

    def read(self, size: int | None = -1, /) -> bytes:
        if self._on_read is not None:
            self._on_read()
        return super().read(size)

    def __del__(self) -> None:
        self.close()


class _Slice:
    """The bytes ``start`` to ``stop`` of a file, read once."""

    def __init__(self, path: Path, start: int, stop: int) -> None:
        self._file = path.open("rb")
        self._file.seek(start)
        self._remaining = stop - start

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self._remaining))
        self._remaining -= len(data)
        return data

    def close(self) -> None:
        self._file.close()


def _read_part(path: Path, start: int, stop: int) -> bytes:
    with closing(_Slice(path, start, stop)) as part:
        return part.read(stop - start)


class _Playlist(io.BytesIO):
    """The text of a playlist, with a name by which FFmpeg recognises the format."""

    name = "playlist.m3u8"


def _open_playlist(path: Path) -> InputContainer:
    """Open the files that a playlist names as one video. A playlist without an end mark ends with its last segment."""
    folder = _Folder(path)
    playlist = folder.media_playlist()
    opens: list[Callable[[], _Slice | io.BytesIO]] = []

    def entry(resource: Resource, key: Key | None, vector: bytes) -> str:
        opens.append(folder.opener(resource, key, vector))
        return f"entry{len(opens) - 1}"

    text = _numbered_playlist(playlist, entry)

    def io_open(url: str, flags: int, options: dict[str, str]) -> _Slice | io.BytesIO:
        return opens[int(url.rpartition("entry")[2])]()

    return av.open(_Playlist(text.encode()), "r", options=_PLAYLIST_OPTIONS, io_open=io_open)


def _numbered_playlist(playlist: MediaPlaylist, entry: Callable[[Resource, Key | None, bytes], str]) -> str:
    """Return the playlist's text with the names that ``entry`` gives to its resources."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", f"#EXT-X-TARGETDURATION:{round(playlist.target_duration) or 1}"]
    previous: Segment | None = None
    init: InitSection | None = None
    for segment in playlist.segments:
        if previous is not None and segment.timeline != previous.timeline:
            lines.append("#EXT-X-DISCONTINUITY")
        if segment.init is not None and segment.init != init:
            init = segment.init
            name = entry(init.resource, init.key, segment_vector(init.key, segment.sequence))
            lines.append(f'#EXT-X-MAP:URI="{name}"')
        lines.append(f"#EXTINF:{segment.duration:.6f},")
        lines.append(entry(segment.resource, segment.key, segment_vector(segment.key, segment.sequence)))
        previous = segment
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


class _Folder:
    """Resolves what a playlist names to files in the playlist's folder and below."""

    def __init__(self, path: Path) -> None:
        self._path, self._root = path, path.parent.resolve()
        self._name = redact(str(path))

    def media_playlist(self) -> MediaPlaylist:
        """Return the playlist, or the one that fits best of those that it lists."""
        playlist = self._parse(self._path)
        if not isinstance(playlist, MediaPlaylist):
            variant = choose_variant(playlist, DEFAULT_FRAME_SIZE)
            if variant is None:
                raise VideoError(f"{self._name} lists no playlist with video; give a playlist with video")
            playlist = self._parse(self._resolve(self._root, variant.address))
        if not isinstance(playlist, MediaPlaylist):
            raise VideoError(f"{self._name} lists a playlist that lists others; give one of the inner ones")
        if not playlist.segments:
            raise CorruptVideoError(f"{self._name} lists no segments; record it again")
        return playlist

    def opener(self, resource: Resource, key: Key | None, vector: bytes) -> Callable[[], _Slice | io.BytesIO]:
        """Return a function that opens a resource, decrypted."""
        path, size = Path(resource.url), Path(resource.url).stat().st_size
        part = resource.byte_range
        start, stop = (part.start, part.stop) if part else (0, size)
        if key is None:
            return lambda: _Slice(path, start, stop)
        secret = _read_part(Path(key.url), 0, 2 * BLOCK_BYTES)
        return lambda: io.BytesIO(decrypt_cbc(_read_part(path, start, stop), secret, vector))

    def _parse(self, path: Path) -> MasterPlaylist | MediaPlaylist:
        if path.stat().st_size > MAX_PLAYLIST_BYTES:
            raise VideoError(f"{self._name} is larger than {MAX_PLAYLIST_BYTES} bytes, too large for a playlist")
        return parse_playlist(path.read_bytes(), self._name, lambda address: str(self._resolve(path.parent, address)))

    def _resolve(self, folder: Path, address: str) -> Path:
        """Return the file that an address means. Raises ``VideoError`` if it is not in the playlist's folder."""
        local = unquote(urlsplit(address).path) if address.lower().startswith("file:") else address
        shown = redact(address)[:100]
        if "://" in local or "\0" in local:
            raise VideoError(f"{self._name} names {shown!r}; a playlist may only name files in its own folder")
        try:
            for name in (local, unquote(local), local.partition("?")[0]):
                found = (folder / name).resolve()
                if not found.is_relative_to(self._root):
                    raise VideoError(f"{self._name} names {shown!r}; a playlist may only name files in its own folder")
                if found.is_file():
                    return found
        except OSError:  # the name is too long, or a folder may not be read
            pass
        raise CorruptVideoError(f"{self._name} names {shown!r}, which does not exist; copy all files of the playlist")
