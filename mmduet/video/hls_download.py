"""Download the segments of an HLS playlist: whole resources or byte ranges, decrypted."""

from __future__ import annotations

import re
from contextlib import closing

from mmduet.errors import SourceError
from mmduet.redaction import redact
from mmduet.video.aes import BLOCK_BYTES, decrypt_cbc
from mmduet.video.hls_playlist import ByteRange, Key, Resource, segment_vector
from mmduet.video.http_client import HttpClient, HttpResponse

MAX_CACHED_KEYS = 64


class SegmentLoader:
    """Load what the playlist ``name`` refers to."""

    def __init__(self, name: str, client: HttpClient) -> None:
        self._name, self._client = name, client
        self._keys: dict[str, bytes] = {}
        self._whole: _WholeFile | None = None
        self._response: HttpResponse | None = None  # the one that is being read

    def load(self, resource: Resource, key: Key | None, sequence: int) -> bytes:
        """Return the content of a segment or initialisation section. Raises ``SourceError``."""
        data = self._fetch(resource)
        if key is None:
            return data
        try:
            return decrypt_cbc(data, self._load_key(key.url), segment_vector(key, sequence))
        except ValueError as error:
            raise SourceError(f"{redact(resource.url)} cannot be decrypted ({error}); check the key") from None

    def abort(self) -> None:
        """Break the connection from another thread."""
        for opened in (self._response, self._whole.response if self._whole else None):
            if opened is not None:
                opened.abort()

    def close(self) -> None:
        """Close the connection that is kept for a server without byte ranges."""
        if self._whole is not None:
            self._whole.response.close()

    def _fetch(self, resource: Resource) -> bytes:
        if resource.byte_range is None:
            with closing(self._open(resource)) as response:
                return response.read_all(self._client.max_bytes)
        return self._fetch_range(resource, resource.byte_range)

    def _fetch_range(self, resource: Resource, part: ByteRange) -> bytes:
        if part.stop - part.start > self._client.max_bytes:
            raise SourceError(
                f"{self._name} has a segment of more than {self._client.max_bytes} bytes; use a smaller one"
            )
        if self._whole is not None and self._whole.url == resource.url:
            return self._whole.read(part)
        response = self._open(resource)
        if response.status == 206:
            with closing(response):
                return _read_partial(response, part)
        self.close()
        self._whole = _WholeFile(resource.url, response)
        return self._whole.read(part)

    def _open(self, resource: Resource) -> HttpResponse:
        self._response = self._client.open(resource.url, resource.byte_range)
        return self._response

    def _load_key(self, url: str) -> bytes:
        if url not in self._keys:
            if len(self._keys) >= MAX_CACHED_KEYS:
                self._keys.clear()
            self._keys[url] = self._client.fetch(url, 4 * BLOCK_BYTES)
        return self._keys[url]


class _WholeFile:
    """A file whose server ignores byte ranges: it is received once, and the ranges are taken from it in order."""

    def __init__(self, url: str, response: HttpResponse) -> None:
        self.url, self.response = url, response
        self._buffer, self._position = bytearray(), 0

    def read(self, part: ByteRange) -> bytes:
        if part.start < self._position:
            raise SourceError(
                f"{redact(self.url)} is needed in byte ranges, which its server ignores; use another server"
            )
        self._advance(part.start)
        while len(self._buffer) < part.stop - part.start:
            chunk = self.response.read_chunk()
            if not chunk:
                raise SourceError(
                    f"{redact(self.url)} ends before byte {part.stop}, which the playlist names; check both"
                )
            self._buffer += chunk
        data = bytes(self._buffer[: part.stop - part.start])
        self._advance(part.stop)
        return data

    def _advance(self, position: int) -> None:
        """Discard what comes before a position."""
        while self._position + len(self._buffer) < position and (chunk := self.response.read_chunk()):
            self._position += len(self._buffer)
            self._buffer = bytearray(chunk)
        del self._buffer[: position - self._position]
        self._position = position


def _read_partial(response: HttpResponse, part: ByteRange) -> bytes:
    """Return the body of a partial response. Raises ``SourceError`` if it is another part."""
    found = re.match(r"bytes (\d+)-", response.content_range)
    data = response.read_all(part.stop - part.start)
    if found is None or int(found[1]) != part.start or len(data) != part.stop - part.start:
        raise SourceError(
            f"{redact(response.url)} does not return the byte range that was requested; check the playlist"
        )
    return data
