"""Read the body of an HTTP response as a file that remembers when its bytes arrived."""

from __future__ import annotations

from bisect import bisect_right
from time import monotonic

from mmduet.video.http_client import HttpResponse

MAX_ARRIVALS = 20_000


class BodyReader:
    """A file object for FFmpeg over a response; a read returns as soon as there is data."""

    name = "stream"

    def __init__(self, response: HttpResponse) -> None:
        self._response = response
        self._buffer = bytearray()
        self._received = 0
        self._finished = False
        self._position = 0
        self._ends: list[int] = []  # where each chunk ends in the body, and when it arrived
        self._times: list[float] = []

    @property
    def buffered(self) -> bytearray:
        """The bytes that have arrived and not been read."""
        return self._buffer

    @property
    def length(self) -> int | None:
        """The length of the whole body in bytes, or None if it is not announced."""
        return self._response.length

    @property
    def ended_properly(self) -> bool:
        """Whether the body was received up to a marked end."""
        return self._finished and self._response.has_end_mark

    @property
    def last_read_arrived_at(self) -> float:
        """When the last byte that was read arrived, on the monotonic clock."""
        return self.arrived_at(self._position - 1)

    def fill(self) -> bool:
        """Wait for more bytes; return False at the end. Raises ``SourceError``."""
        chunk = b"" if self._finished else self._response.read_chunk()
        if not chunk:
            self._finished = True
            return False
        self._buffer += chunk
        self._received += len(chunk)
        self._ends.append(self._received)
        self._times.append(monotonic())
        if len(self._ends) > MAX_ARRIVALS:
            del self._ends[: MAX_ARRIVALS // 2], self._times[: MAX_ARRIVALS // 2]
        return True

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes of one chunk, none at the end."""
        if not self._buffer:
            self.fill()
        chunk = bisect_right(self._ends, self._position)
        end = self._ends[chunk] if chunk < len(self._ends) else self._received
        data = bytes(self._buffer[: min(size, end - self._position)])
        del self._buffer[: len(data)]
        self._position += len(data)
        return data

    def arrived_at(self, position: int) -> float:
        """Return when the byte at a position of the body arrived, on the monotonic clock."""
        chunk = bisect_right(self._ends, position)
        return self._times[min(chunk, len(self._times) - 1)] if self._times else monotonic()

    def abort(self) -> None:
        """Break the connection from another thread, so that a blocked read ends."""
        self._response.abort()

    def close(self) -> None:
        """Close the connection; only in the thread that reads."""
        self._response.close()
