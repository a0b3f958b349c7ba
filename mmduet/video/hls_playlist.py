"""Parse HLS playlists (RFC 8216) into variants or segments; nothing is opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from mmduet.errors import SourceError

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)')
_BYTE_RANGE = re.compile(r"(\d{1,15})(?:@(\d{1,15}))?")
_IDENTITY_FORMATS = ("", "identity")
_VIDEO_CODECS = ("avc", "hvc", "hev", "av01", "vp", "dvh", "mp4v", "vvc")
_TARGET_DURATION = "#EXT-X-TARGETDURATION:"
Join = Callable[[str], str]
DEFAULT_FRAME_SIZE = 640  # pixels of a frame's longer side that are enough for every model
MAX_PLAYLIST_BYTES = 16 << 20
MAX_SEGMENTS = 200_000  # more than five days of two-second segments


@dataclass(frozen=True)
class ByteRange:
    """Bytes ``start`` to ``stop`` (exclusive) of a resource."""

    start: int
    stop: int


@dataclass(frozen=True)
class Resource:
    """What is fetched: an address, and the part of it that is meant (None: all)."""

    url: str
    byte_range: ByteRange | None = None


@dataclass(frozen=True)
class Key:
    """An AES-128 key at ``url``; without ``iv``, the segment's sequence number is the initialisation vector."""

    url: str
    iv: bytes | None


@dataclass(frozen=True)
class InitSection:
    """The bytes that a decoder needs before any segment, such as the header of a fragmented MP4."""

    resource: Resource
    key: Key | None


@dataclass(frozen=True)
class Segment:
    """One piece of media. Segments with an equal ``timeline`` and ``init`` are one continuous byte stream."""

    sequence: int
    resource: Resource
    duration: float
    key: Key | None
    init: InitSection | None
    timeline: int


@dataclass(frozen=True)
class MediaPlaylist:
    """Segments of one stream; unless ``ended``, more may follow."""

    segments: tuple[Segment, ...]
    target_duration: float
    ended: bool


@dataclass(frozen=True)
class Variant:
    """One stream of a master playlist, by its address as written; the size is None where it is not declared."""

    address: str
    bandwidth: int
    size: tuple[int, int] | None
    has_video: bool


@dataclass(frozen=True)
class MasterPlaylist:
    """The same video in several sizes or bit rates."""

    variants: tuple[Variant, ...]


def is_playlist(head: bytes) -> bool:
    """Return whether data begins like an M3U playlist."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"#EXTM3U")


def parse_playlist(data: bytes, name: str, join: Join) -> MasterPlaylist | MediaPlaylist:
    """Parse a playlist; ``join`` makes its addresses absolute, ``name`` is its name in errors.

    Raises ``SourceError`` for a list that is not HLS, and for encryption other than AES-128 with an accessible key.
    """
    lines = [line.strip() for line in data.decode("utf-8-sig", "replace").splitlines()]
    lines = [line for line in lines if line]
    if any(line.startswith("#EXT-X-STREAM-INF:") for line in lines):
        return MasterPlaylist(tuple(_variants(lines)))
    if all(line.startswith("#") for line in lines) and not any(line.startswith(_TARGET_DURATION) for line in lines):
        raise SourceError(f"{name} is an empty playlist: it names no video; check that it was written completely")
    if not any(line.startswith(_TARGET_DURATION) for line in lines):
        raise SourceError(f"{name} is a list of addresses, not an HLS playlist; give one of the addresses in it")
    return _MediaParser(name, join).parse(lines)


def choose_variant(playlist: MasterPlaylist, frame_size: int) -> Variant | None:
    """Return the smallest variant whose longer side has ``frame_size`` pixels, else the largest; None without video.

    Without declared sizes it is the first one, which is the one that players start with.
    """
    variants = [variant for variant in playlist.variants if variant.has_video]
    sized = sorted((variant for variant in variants if variant.size), key=lambda v: (max(v.size or (0,)), v.bandwidth))
    large = [variant for variant in sized if max(variant.size or (0,)) >= frame_size]
    candidates = large[:1] or sized[-1:] or variants
    return candidates[0] if candidates else None


def segment_vector(key: Key | None, sequence: int) -> bytes:
    """Return the initialisation vector of a segment: the key's, or else the sequence number."""
    return key.iv if key is not None and key.iv is not None else sequence.to_bytes(16, "big")


def parse_attributes(text: str) -> dict[str, str]:
    """Return an attribute list as a dictionary, values without quotes."""
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(text)}


def _variants(lines: Sequence[str]) -> Iterator[Variant]:
    attributes: dict[str, str] | None = None
    for line in lines:
        if line.startswith("#EXT-X-STREAM-INF:"):
            attributes = parse_attributes(line.partition(":")[2])
        elif not line.startswith("#") and attributes is not None:
            size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", attributes.get("RESOLUTION", ""))
            codecs = [codec.strip().lower() for codec in attributes.get("CODECS", "").split(",") if codec.strip()]
            has_video = not codecs or size is not None or any(codec.startswith(_VIDEO_CODECS) for codec in codecs)
            bandwidth = _integer(attributes.get("BANDWIDTH", ""))
            pixels = (int(size[1]), int(size[2])) if size else None
            yield Variant(line, bandwidth, pixels, has_video)
            attributes = None


@dataclass
class _MediaParser:
    """Reads the lines of a media playlist; the fields are what has been read so far."""

    name: str
    join: Join
    target_duration: float = 0.0
    sequence: int = 0
    duration: float = 0.0
    timeline: int = 0
    ended: bool = False
    gap: bool = False
    key: Key | None = None
    init: InitSection | None = None
    byte_range: str = ""
    segments: list[Segment] = field(default_factory=list)
    offers_keys: bool = False  # whether the last key tags all belong to the next segment, which needs only one of them
    offered_methods: set[str] = field(default_factory=set)  # of those key tags that cannot be used

    def parse(self, lines: Sequence[str]) -> MediaPlaylist:
        for line in lines:
            tag, _, value = line.partition(":")
            if handler := _TAG_HANDLERS.get(tag):
                handler(self, value)
            elif not line.startswith("#"):
                self._add_segment(line)
        return MediaPlaylist(tuple(self.segments), max(self.target_duration, 0.1), self.ended)

    def _add_segment(self, address: str) -> None:
        if len(self.segments) >= MAX_SEGMENTS:
            raise SourceError(f"{self.name} has more than {MAX_SEGMENTS} segments; give a shorter playlist")
        self._check_encryption()
        resource = self._resource(address, self.byte_range)
        segment = Segment(self.sequence, resource, self.duration, self.key, self.init, self.timeline)
        if not self.gap:
            self.segments.append(segment)
        self.sequence, self.byte_range, self.gap = self.sequence + 1, "", False
        self.offers_keys = False

    def _resource(self, address: str, text: str) -> Resource:
        """Return the resource; a range without an offset follows the previous segment's."""
        url = self.join(address)
        if not text:
            return Resource(url)
        found = _BYTE_RANGE.fullmatch(text)
        if found is None:
            raise SourceError(f"{self.name} has the invalid byte range {text[:40]!r}; expected LENGTH@OFFSET")
        start = int(found[2]) if found[2] else self._end_of_previous(url)
        return Resource(url, ByteRange(start, start + int(found[1])))

    def _end_of_previous(self, url: str) -> int:
        previous = self.segments[-1].resource if self.segments else None
        if previous is None or previous.url != url or previous.byte_range is None:
            raise SourceError(
                f"{self.name} has a byte range without an offset that follows no other; expected LENGTH@OFFSET"
            )
        return previous.byte_range.stop

    def _check_encryption(self) -> None:
        if self.key is None and self.offered_methods:
            methods = ", ".join(sorted(self.offered_methods))
            raise SourceError(
                f"{self.name} is encrypted with {methods}, which cannot be decrypted; only AES-128 is supported"
            )

    def on_key(self, value: str) -> None:
        attributes = parse_attributes(value)
        method, kind = attributes.get("METHOD", ""), attributes.get("KEYFORMAT", "")
        if method == "NONE" or not self.offers_keys:  # replaces the previous key
            self.key, self.offered_methods = None, set()
        self.offers_keys = True
        if method == "NONE":
            return
        if method == "AES-128" and kind.lower() in _IDENTITY_FORMATS and attributes.get("URI"):
            self.key = Key(self.join(attributes["URI"]), self._vector(attributes.get("IV")))
        else:
            self.offered_methods.add(method + (f" ({kind[:60]})" if kind else ""))

    def _vector(self, text: str | None) -> bytes | None:
        if text is None:
            return None
        if not re.fullmatch(r"0[xX][0-9A-Fa-f]{1,32}", text):
            raise SourceError(
                f"{self.name} has the invalid IV {text[:40]!r}; expected up to 32 hexadecimal digits after 0x"
            )
        return int(text, 16).to_bytes(16, "big")

    def on_map(self, value: str) -> None:
        self._check_encryption()
        attributes = parse_attributes(value)
        text = attributes.get("BYTERANGE", "")
        text += "@0" if text and "@" not in text else ""
        self.offers_keys = False
        self.init = InitSection(self._resource(attributes.get("URI", ""), text), self.key)


def _number(text: str) -> float:
    found = re.match(r"\d{1,9}(\.\d{1,9})?", text)
    return float(found[0]) if found else 0.0


def _integer(text: str) -> int:
    found = re.match(r"\d{1,18}", text.strip())
    return int(found[0]) if found else 0


def _set(name: str, convert: Callable[[str], object]) -> Callable[[_MediaParser, str], None]:
    return lambda parser, value: setattr(parser, name, convert(value))


_TAG_HANDLERS: dict[str, Callable[[_MediaParser, str], None]] = {
    "#EXT-X-TARGETDURATION": _set("target_duration", _number),
    "#EXT-X-MEDIA-SEQUENCE": _set("sequence", _integer),
    "#EXT-X-DISCONTINUITY-SEQUENCE": _set("timeline", _integer),
    "#EXTINF": _set("duration", _number),
    "#EXT-X-BYTERANGE": _set("byte_range", str.strip),
    "#EXT-X-ENDLIST": _set("ended", lambda _: True),
    "#EXT-X-GAP": _set("gap", lambda _: True),
    "#EXT-X-DISCONTINUITY": lambda parser, _: setattr(parser, "timeline", parser.timeline + 1),
    "#EXT-X-KEY": _MediaParser.on_key,
    "#EXT-X-MAP": _MediaParser.on_map,
}
