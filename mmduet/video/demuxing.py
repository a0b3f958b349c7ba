"""Read the packets of a container, continuing after errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from mmduet.errors import CorruptVideoError

MAX_READ_ERRORS = 100  # in a row, after which the rest of a file counts as unreadable


def demux(container: InputContainer, streams: Sequence[Stream]) -> Iterator[Packet[Stream]]:
    """Yield the packets of the streams, continuing after errors. Raises CorruptVideoError if they do not end."""
    errors = 0
    while True:
        try:
            for packet in container.demux(list(streams)):
                if packet.size:
                    errors = 0
                    yield packet
            return
        except Exception as error:  # whatever a demuxer raises, it may find the next packet
            errors += 1
            if errors == MAX_READ_ERRORS:
                raise CorruptVideoError(f"it cannot be read any further ({error_reason(error)})") from error


def error_reason(error: Exception) -> str:
    """Return FFmpeg's error message without its number, or the message of another error, else its type."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
