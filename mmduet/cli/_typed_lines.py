"""Read the lines that a user types at the terminal while a session runs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from select import select
from typing import Any

from mmduet.cli._line_editor import LineEditor

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

FILE_NUMBER = 0  # standard input
HAS_TERMIOS = os.name == "posix"
POLL_SECONDS = 0.5  # between checks whether the command runs in the foreground
STOP_SECONDS = 2.0


@contextmanager
def open_typed_lines(*, edits: bool) -> Iterator[TypedLines | None]:
    """Yield the lines that are typed on standard input, or None if it is not a terminal, so that it is not read.

    With ``edits``, the terminal does not echo what is typed: ``TypedLines.text`` has to be displayed instead. That is not
    possible on Windows, where ``TypedLines.edits`` is False.
    """
    if not os.isatty(FILE_NUMBER):
        yield None
        return
    lines = TypedLines(FILE_NUMBER, edits=edits and HAS_TERMIOS)
    try:
        yield lines
    finally:
        lines.stop()


class TypedLines:
    """Hands every line from the terminal ``descriptor`` to a function, which a thread calls.

    While the process runs in the background, nothing is read, because the system would stop the process.
    """

    def __init__(self, descriptor: int, *, edits: bool) -> None:
        self.edits = edits
        self._descriptor, self._editor = descriptor, LineEditor()
        self._settings: list[Any] | None = None  # of the terminal, before the first change
        self._wake: tuple[int, int] | None = None  # a pipe that ends the thread
        self._thread: threading.Thread | None = None

    @property
    def text(self) -> str:
        """What has been typed of the next line."""
        return self._editor.text

    def start(self, on_line: Callable[[str], None]) -> None:
        """Start reading; ``on_line`` is called with every line, without its line break."""
        self._wake = os.pipe()
        read = self._read_lines if HAS_TERMIOS else self._read_blocking
        self._thread = threading.Thread(target=read, args=(on_line,), name="mmduet-typed-lines", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop reading, and restore the settings of the terminal."""
        if self._wake is None or self._thread is None:
            return
        os.write(self._wake[1], b"x")
        self._thread.join(STOP_SECONDS if HAS_TERMIOS else 0)  # a blocking read ends with the process
        if not self._thread.is_alive():
            os.close(self._wake[0])
            os.close(self._wake[1])
        self._restore()

    def _read_lines(self, on_line: Callable[[str], None]) -> None:
        assert self._wake is not None
        stopped = self._wake[0]
        with suppress(OSError, termios.error):  # the terminal was closed
            while True:
                in_foreground = _is_in_foreground(self._descriptor)
                if in_foreground and self.edits:
                    self._stop_echo()
                inputs = [stopped, self._descriptor] if in_foreground else [stopped]
                ready = select(inputs, [], [], POLL_SECONDS)[0]
                if stopped in ready:
                    return
                if self._descriptor in ready:
                    data = os.read(self._descriptor, 4096)
                    if not data:  # Ctrl-D
                        return
                    for line in self._editor.feed(data):
                        on_line(line)

    def _read_blocking(self, on_line: Callable[[str], None]) -> None:
        for line in sys.stdin:
            on_line(line.rstrip("\r\n"))

    def _stop_echo(self) -> None:
        """Receive every key at once and without echo. Repeated, because a shell resets the terminal after Ctrl-Z."""
        settings = termios.tcgetattr(self._descriptor)
        if not settings[3] & (termios.ICANON | termios.ECHO):
            return
        self._settings = self._settings or termios.tcgetattr(self._descriptor)
        settings[3] &= ~(termios.ICANON | termios.ECHO)
        settings[6][termios.VMIN], settings[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._descriptor, termios.TCSANOW, settings)

    def _restore(self) -> None:
        if self._settings is not None and _is_in_foreground(self._descriptor):
            with suppress(OSError, termios.error):
                termios.tcsetattr(self._descriptor, termios.TCSANOW, self._settings)


def _is_in_foreground(descriptor: int) -> bool:
    """Return whether the terminal sends its keys to this process, even if it controls no processes."""
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return True
