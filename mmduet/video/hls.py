"""Follow an HLS playlist and decode its segments; FFmpeg receives only their bytes.

Every address is requested by the HTTP client that is given, which checks it. Of a master playlist one variant is requested.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby
from threading import Event
from time import monotonic
from urllib.parse import urljoin

import av

from mmduet.errors import NoVideoStreamError, SourceError
from mmduet.redaction import redact
from mmduet.video.body_reader import BodyReader
from mmduet.video.clock import FALLBACK_RATE
from mmduet.video.connection import StreamFrame, decode_stream
from mmduet.video.container import select_video_stream
from mmduet.video.damage import DamageLog
from mmduet.video.formats import CONTAINER_FORMATS, refuse_to_open
from mmduet.video.hls_download import SegmentLoader
from mmduet.video.hls_playlist import (
    MAX_PLAYLIST_BYTES,
    InitSection,
    MasterPlaylist,
    MediaPlaylist,
    Segment,
    choose_variant,
    parse_playlist,
)
from mmduet.video.http_client import HttpClient, HttpStatusError

LIVE_SEGMENTS = 3  # a live playlist is read from the last of its segments but two, as RFC 8216 recommends
MAX_STALL_SECONDS = 20.0
MAX_MISSING_SEGMENTS = 20
MAX_STALE_RELOADS = 3
SEGMENT_OPTIONS = {"format_whitelist": ",".join(CONTAINER_FORMATS), "analyzeduration": "500000"}
DEFAULT_STEP_SECONDS = 0.04


@dataclass(frozen=True, eq=False)
class _Piece:
    """A segment that was loaded. Pieces with an equal ``stream`` are one continuous byte stream, which starts with ``init``.

    ``gap`` is the duration of the segments that are missing before it, in seconds, and ``missing`` the error of the first.
    """

    stream: tuple[InitSection | None, int, int]
    init: bytes
    data: bytes
    gap: float
    missing: HttpStatusError | None


class HlsConnection:
    """A playlist that has been requested. ``body`` is its content, and ``location`` the address after redirects."""

    fps = None
    keeps_unread = True  # segments stay on the server for a while, and arrive in bursts

    def __init__(self, url: str, client: HttpClient, frame_size: int, location: str, body: BodyReader) -> None:
        self._name, self._client = redact(url), client
        self._stopped = Event()
        self._loader = SegmentLoader(self._name, client)
        self._reload_error: SourceError | None = None
        self._init: tuple[InitSection, bytes] | None = None  # the last one that was loaded
        self._missing: HttpStatusError | None = None  # the first error since the last segment that was loaded
        self.ended = False
        playlist = self._parse(_read_playlist(body), location)
        self._media_url = url
        if isinstance(playlist, MasterPlaylist):
            variant = choose_variant(playlist, frame_size)
            if variant is None:
                raise SourceError(f"{self._name} lists no stream with video; use another address")
            self._media_url = urljoin(location, variant.address)
            playlist = self._load()
        if isinstance(playlist, MasterPlaylist):
            raise SourceError(f"{self._name} lists a playlist that lists others; use the address of an inner one")
        self._playlist = playlist
        if playlist.ended and not playlist.segments:
            raise SourceError(f"{self._name} is an empty playlist: it has no segments; check the address")

    @property
    def live(self) -> bool:
        """Whether more segments may be added to the playlist."""
        return not self._playlist.ended

    @property
    def duration(self) -> float | None:
        """The sum of the segments' durations, once the playlist has ended."""
        return sum(segment.duration for segment in self._playlist.segments) if self._playlist.ended else None

    def frames(self, log: DamageLog, start: float) -> Iterator[StreamFrame]:
        """Yield the frames of all segments. After a discontinuity the time continues one frame later.

        Segments of a finished playlist that the server does not have are recorded as damage of the length that the playlist
        declares. Raises ``SourceError`` if there is no other segment.
        """
        last, step = None, DEFAULT_STEP_SECONDS
        with closing(self._loader):
            for _, group in groupby(self._pieces(), key=lambda piece: piece.stream):
                first = next(group)
                begin = (start if last is None else last + step) + first.gap
                try:
                    for frame in self._decode(chain([first], group), log, begin):
                        step = frame.time - last if last is not None and 0 < frame.time - last < 1 else step
                        last = frame.time
                        yield frame
                except NoVideoStreamError:
                    if last is None:  # otherwise an insertion without video
                        raise
            if self._missing is not None and not self.live:
                if last is None:
                    raise self._missing
                log.truncate(last + step)
            self.ended = not self.live and not self._stopped.is_set()

    def close(self) -> None:
        """Stop reading; may be called from another thread."""
        self._stopped.set()
        self._loader.abort()

    def _decode(self, pieces: Iterator[_Piece], log: DamageLog, start: float) -> Iterator[StreamFrame]:
        """Yield the frames of one continuous stream, also those before a segment that cannot be loaded."""
        first = next(pieces)
        reader = _ChunkReader(piece.data for piece in chain([replace(first, data=first.init + first.data)], pieces))
        try:
            with av.open(reader, "r", options=SEGMENT_OPTIONS, io_open=refuse_to_open) as container:
                if first.gap:
                    rate = select_video_stream(container, self._name).average_rate or FALLBACK_RATE
                    log.add_frames(max(round(first.gap * rate), 1), start - first.gap, start)
                    log.add_reason(str(first.missing))
                yield from decode_stream(container, self._name, log, start)
        except (av.FFmpegError, ValueError, NoVideoStreamError):
            if reader.error is None:
                raise
        if reader.error is not None:
            raise reader.error

    def _pieces(self) -> Iterator[_Piece]:
        """Yield the segments that can be loaded. Of a live playlist, a few may be missing."""
        missing, gap, gaps = 0, 0.0, 0
        for segment in self._follow():
            if self._stopped.is_set():
                return
            try:
                init = b"" if segment.init is None else self._load_init(segment.init, segment.sequence)
                data = self._loader.load(segment.resource, segment.key, segment.sequence)
            except HttpStatusError as error:
                missing, self._missing = missing + 1, self._missing or error
                if not self.live:
                    gap, gaps = gap + segment.duration, gaps + 1
                elif missing > MAX_MISSING_SEGMENTS:
                    raise
                continue
            yield _Piece((segment.init, segment.timeline, gaps), init, data, gap, self._missing)
            missing, gap, self._missing = 0, 0.0, None

    def _load_init(self, init: InitSection, sequence: int) -> bytes:
        if self._init is None or self._init[0] != init:
            self._init = init, self._loader.load(init.resource, init.key, sequence)
        return self._init[1]

    def _follow(self) -> Iterator[Segment]:
        """Yield every segment once, in order, and load the playlist again while it is live."""
        segments = self._playlist.segments
        start = max(len(segments) - LIVE_SEGMENTS, 0) if self.live else 0
        next_sequence = segments[start].sequence if segments else 0
        changed_at, stale, pause = monotonic(), 0, 0.0
        while not self._stopped.is_set():
            loaded_at, new = monotonic(), [s for s in self._playlist.segments if s.sequence >= next_sequence]
            for segment in new:
                yield segment
                next_sequence = segment.sequence + 1
            if not self.live:
                return
            changed_at = monotonic() if new else changed_at
            self._check_progress(changed_at)
            stale = stale + 1 if self._is_behind(next_sequence) else 0
            if stale > MAX_STALE_RELOADS:
                raise SourceError(f"{self._name} has started again from the beginning")
            pause = self._playlist.target_duration * (1.0 if new else 0.5)
            self._stopped.wait(max(loaded_at + pause - monotonic(), 0.05))
            self._reload()

    def _is_behind(self, next_sequence: int) -> bool:
        segments = self._playlist.segments
        return bool(segments) and segments[-1].sequence + 1 < next_sequence

    def _check_progress(self, changed_at: float) -> None:
        limit = max(MAX_STALL_SECONDS, 3 * self._playlist.target_duration)
        if monotonic() - changed_at > limit:
            reason = f"{self._name} has had no new segment for {limit:.0f} s; check the device"
            raise self._reload_error or SourceError(reason)

    def _reload(self) -> None:
        """Load the playlist again; a failure is an unchanged playlist, which ends the stream if it lasts."""
        if self._stopped.is_set():
            return
        try:
            playlist, self._reload_error = self._load(), None
        except SourceError as error:
            self._reload_error = error
            return
        if isinstance(playlist, MediaPlaylist):
            self._playlist = playlist

    def _load(self) -> MasterPlaylist | MediaPlaylist:
        with closing(self._client.open(self._media_url)) as response:
            return self._parse(response.read_all(MAX_PLAYLIST_BYTES), response.url)

    def _parse(self, data: bytes, location: str) -> MasterPlaylist | MediaPlaylist:
        return parse_playlist(data, self._name, partial(urljoin, location))


class _ChunkReader:
    """Byte strings as a file for FFmpeg. An error of their iterator ends the file and is kept as ``error``."""

    name = "segments"

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._chunk = chunks, memoryview(b"")
        self.error: SourceError | None = None

    def read(self, size: int) -> bytes:
        while not self._chunk:
            chunk = None
            try:
                chunk = next(self._chunks, None)
            except SourceError as error:
                self.error = error
            if chunk is None:
                return b""
            self._chunk = memoryview(chunk)
        data, self._chunk = bytes(self._chunk[:size]), self._chunk[size:]
        return data


def _read_playlist(body: BodyReader) -> bytes:
    data = bytearray()
    while len(data) <= MAX_PLAYLIST_BYTES and (chunk := body.read(1 << 16)):
        data += chunk
    return bytes(data[:MAX_PLAYLIST_BYTES])
