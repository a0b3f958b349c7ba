"""Receives the body of an upload: written to disk in parts, within the limits, never held in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

from fastapi import Request

from mmduet.errors import ProtocolError
from mmduet.server.stored_video import storage_error
from mmduet.text import shorten
from mmduet.webpage.disk_budget import DiskShare

WRITE_BYTES = 1 << 20
"""Received bytes are collected up to this size before they are written."""
STALL_SECONDS = 30.0
"""An upload of which nothing arrives for so long is ended."""
MAX_SECONDS = 3600.0
"""Longest time for one upload."""


async def receive_upload(
    request: Request, path: Path, share: DiskShare, max_bytes: int, reading_delay: Callable[[int], float]
) -> int:
    """Write the body of a request to the new file ``path`` and return its size in bytes.

    ``share`` counts what is written. ``reading_delay`` gets the size of each part, and returns for how many seconds no more is
    read. The caller deletes the file if this raises.

    Raises ``ProtocolError`` for a body of more than ``max_bytes``, as soon as that is known, or one that does not arrive,
    ``CapacityError`` if the space for uploads is used up, and ``StorageError`` if the disk is full.
    """
    _check_headers(request, max_bytes)
    file = None
    try:
        file = await asyncio.to_thread(path.open, "xb")
        parts, size, total = list[bytes](), 0, 0
        stream, deadline = request.stream(), monotonic() + MAX_SECONDS
        while (chunk := await _next_chunk(stream, deadline)) is not None:
            total += len(chunk)
            if total > max_bytes:
                raise too_large(max_bytes)
            share.add(len(chunk))
            parts.append(chunk)
            size += len(chunk)
            if size >= WRITE_BYTES:
                await asyncio.to_thread(file.write, b"".join(parts))
                parts, size = [], 0
            if (delay := reading_delay(len(chunk))) > 0:
                await asyncio.sleep(delay)
        await asyncio.to_thread(file.write, b"".join(parts))
        await asyncio.to_thread(file.close)
        return total
    except OSError as error:
        raise storage_error("the uploaded video", error) from None
    finally:
        if file is not None:
            with suppress(OSError):  # what could not be written has been reported
                file.close()


def _check_headers(request: Request, max_bytes: int) -> None:
    """Raise ``ProtocolError`` for a body that is compressed, or of which the length is known to be too large."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise ProtocolError(
            f"content encoding {shorten(encoding)!r} is not supported; send the file as it is", "unsupported_media_type"
        )
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length) > max_bytes:
        raise too_large(max_bytes)


async def _next_chunk(stream: AsyncGenerator[bytes], deadline: float) -> bytes | None:
    """Return the next part of a body; None after the last. Raises ``ProtocolError`` if it arrives too late."""
    try:
        async with asyncio.timeout(min(STALL_SECONDS, deadline - monotonic())):
            return await anext(stream, None)
    except TimeoutError:
        raise ProtocolError(
            f"the upload has stopped: nothing for {STALL_SECONDS:g} s, or not complete after {MAX_SECONDS:g} s; "
            "upload the video again",
            "upload_stalled",
        ) from None


def too_large(max_bytes: int) -> ProtocolError:
    """Return the error for an upload of more than ``max_bytes``."""
    return ProtocolError(
        f"the video is larger than the {max_bytes} bytes that are accepted; upload a shorter or a smaller one",
        "too_large",
    )
