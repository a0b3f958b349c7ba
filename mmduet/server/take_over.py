"""Takes over from a running server on the same journal and port; see ``hand_over.py`` for the other side."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

from mmduet.errors import FormatError, OptionError, ServerError
from mmduet.server import control_socket
from mmduet.server.config import ServerConfig
from mmduet.server.hand_over import PROTOCOL_VERSION
from mmduet.server.journal import JournalFolder
from mmduet.server.log_events import TAKEN_OVER, WAITING_FOR_HAND_OVER
from mmduet.server.session_manager import SessionManager

log = logging.getLogger(__name__)
ANSWER_SECONDS = 30.0
LOCK_CHECK_SECONDS = 0.05


@dataclass(frozen=True)
class TakenOver:
    """What the previous server has handed over: its listening ``sockets``. It continues if this process ends unconfirmed."""

    sockets: list[socket.socket]
    _connection: socket.socket

    def confirm(self) -> None:
        """Report that this server serves, so that the previous one ends."""
        with self._connection:
            self._connection.sendall(control_socket.encode({"type": "serving"}))
        TAKEN_OVER.emit(log)


def open_journal(config: ServerConfig) -> JournalFolder | None:
    """Return the locked folder of the journal, if any; unlocked if a running server is willing to hand it over.

    Raises ``OptionError`` if another server uses the folder and would not.
    """
    if config.journal is None:
        return None
    journals = JournalFolder(config.journal)
    if not journals.try_lock() and (connection := _connect(journals)) is not None:
        with connection:
            _ask(connection, journals, config, {"type": "probe"})
        WAITING_FOR_HAND_OVER.emit(log, folder=str(journals.path))
    return journals


def take_over(journals: JournalFolder, config: ServerConfig, manager: SessionManager) -> TakenOver | None:
    """Take over from the server that has locked the folder; return None if it has ended, or there never was one.

    Raises ``OptionError`` if it refuses.
    """
    if journals.locked or journals.try_lock() or (connection := _connect(journals)) is None:
        return None
    request = {
        "type": "hand_over",
        "model": manager.model_name,
        "max_sessions": manager.budget.max_sessions,
        "kv_bytes": manager.budget.total_bytes,
    }
    answer = _ask(connection, journals, config, request)
    if answer is None:
        connection.close()
        _wait_for_lock(journals)
        return None
    lock_file, *listeners = answer
    journals.adopt_lock(lock_file)
    return TakenOver([socket.socket(fileno=listener) for listener in listeners], connection)


def _wait_for_lock(journals: JournalFolder) -> None:
    """Lock the folder once the other server, which has closed its connection, has ended. Raises ``OptionError``."""
    end = monotonic() + ANSWER_SECONDS
    while not journals.try_lock() and monotonic() < end:
        sleep(LOCK_CHECK_SECONDS)
    journals.lock()


def _connect(journals: JournalFolder) -> socket.socket | None:
    """Return a connection to the server that has locked the folder. Without one, the folder must be free: raise otherwise."""
    connection = control_socket.connect(journals.path, ANSWER_SECONDS)
    if connection is None:
        journals.lock()
    return connection


def _ask(
    connection: socket.socket, journals: JournalFolder, config: ServerConfig, request: dict[str, Any]
) -> list[int] | None:
    """Return the file descriptors of the answer to a request, or None if the other server has ended instead.

    Raises ``OptionError`` if it refuses, and ``ServerError`` if it does not answer.
    """
    address = {"version": PROTOCOL_VERSION, "host": config.host, "port": config.port}
    try:
        connection.sendall(control_socket.encode({**address, **request}))
        answer = control_socket.receive(connection)
    except (OSError, FormatError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ServerError(
            f"the server that uses journal {journals.path} does not hand over ({reason}); stop it"
        ) from None
    if answer is None:
        return None
    message, descriptors = answer
    if message["type"] == "refused":
        raise OptionError(f"journal {journals.path} is in use by another server: {message['message']}")
    return descriptors
