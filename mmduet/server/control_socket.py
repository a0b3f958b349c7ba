"""The Unix socket in a journal folder, on which the server that owns the folder is asked to hand over.

Messages are JSON objects, one a line. The socket is accessible for its owner only, as the journals are.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmduet.errors import FormatError

SOCKET_NAME = "control.sock"
MAX_MESSAGE_BYTES = 1 << 16
MAX_DESCRIPTORS = 64
OPEN_FILES = Path("/proc/self/fd")


@contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    """Yield a path of the socket that fits into a socket address, which holds about 100 bytes, for a folder with any name."""
    if not OPEN_FILES.is_dir():
        yield str(folder / SOCKET_NAME)
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield str(OPEN_FILES / str(descriptor) / SOCKET_NAME)
    finally:
        os.close(descriptor)


def listen(folder: Path) -> socket.socket:
    """Return a listening, non-blocking socket in ``folder``, which replaces one that a killed server has left.

    Only the server that holds the folder's lock may call it. Raises ``OSError`` if the folder cannot have a socket.
    """
    remove(folder)
    listener = socket.socket(socket.AF_UNIX)
    try:
        with _short_path(folder) as path:
            listener.bind(path)
            Path(path).chmod(0o600)  # connections are possible only after ``listen``
        listener.listen()
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def remove(folder: Path) -> None:
    """Delete the socket, if there is one."""
    with suppress(FileNotFoundError):
        (folder / SOCKET_NAME).unlink()


def connect(folder: Path, timeout_seconds: float) -> socket.socket | None:
    """Return a blocking connection to the server that owns ``folder``, or None if it does not listen."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout_seconds)
    try:
        with _short_path(folder) as path:
            connection.connect(path)
    except OSError:
        connection.close()
        return None
    return connection


def encode(message: dict[str, Any]) -> bytes:
    """Return a message as bytes."""
    return json.dumps(message).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Return a received message. Raises ``FormatError`` if it is cut off or invalid."""
    with suppress(ValueError):
        message = json.loads(line)
        if line.endswith(b"\n") and isinstance(message, dict):
            return message
    raise FormatError("the control socket received an incomplete or invalid message; upgrade both servers")


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return the next message and the file descriptors that came with it; None if the other side has closed.

    Raises ``OSError``, among them ``TimeoutError``, and ``FormatError``.
    """
    line, descriptors = b"", list[int]()
    while not line.endswith(b"\n") and len(line) < MAX_MESSAGE_BYTES:
        with suppress(ConnectionResetError):
            data, received, _, _ = socket.recv_fds(connection, MAX_MESSAGE_BYTES, MAX_DESCRIPTORS)
            for descriptor in received:
                os.set_inheritable(descriptor, False)
            line, descriptors = line + data, descriptors + received
            if data:
                continue
        break
    return (decode(line), descriptors) if line else None


async def receive_async(connection: socket.socket) -> dict[str, Any] | None:
    """Return the next message on a non-blocking connection; None if the other side has closed. Raises as ``receive``."""
    loop, line = asyncio.get_running_loop(), b""
    while not line.endswith(b"\n") and len(line) < MAX_MESSAGE_BYTES:
        with suppress(ConnectionResetError):
            if data := await loop.sock_recv(connection, MAX_MESSAGE_BYTES):
                line += data
                continue
        break
    return decode(line) if line else None


def peer_process(connection: socket.socket) -> int | None:
    """Return the process id of the other side, as the kernel knows it; None if it cannot be determined."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", credentials)[0] or None
