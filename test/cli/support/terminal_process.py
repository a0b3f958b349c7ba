"""Run ``mmduet`` in a pseudo-terminal, whose keys are sent and whose display is read by a test."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
CONTROL_SEQUENCE = re.compile(r"\x1b\[[\d;?]*[a-zA-Z]")
WAIT_SECONDS = 120.0
ROWS, COLUMNS = 40, 120


class TerminalProcess:
    """A process whose standard streams are a terminal; ``display`` is what it has printed, without control sequences."""

    def __init__(self, arguments: list[str]) -> None:
        self._controller, self._terminal = pty.openpty()
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.settings_before = termios.tcgetattr(self._terminal)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mmduet", *arguments],
            stdin=self._terminal,
            stdout=self._terminal,
            stderr=self._terminal,
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            preexec_fn=_control_terminal,  # noqa: PLW1509 - it only makes system calls
        )
        self._printed = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def display(self) -> str:
        """Return everything that has been printed so far."""
        return CONTROL_SEQUENCE.sub("", bytes(self._printed).decode(errors="replace"))

    @property
    def settings(self) -> list:
        """Return the settings of the terminal."""
        return termios.tcgetattr(self._terminal)

    @property
    def echoes(self) -> bool:
        """Whether the terminal itself displays what is typed."""
        return bool(self.settings[3] & termios.ECHO)

    def type(self, text: str) -> None:
        """Send keys."""
        os.write(self._controller, text.encode())

    def wait_for(self, text: str, start: int = 0) -> None:
        """Wait until ``text`` is displayed, after the first ``start`` characters; fail if the process ends before."""
        deadline = time.monotonic() + WAIT_SECONDS
        while text not in self.display[start:]:
            if self.process.poll() is not None:
                self._read_rest()
                assert text in self.display[start:], self.display
            assert time.monotonic() < deadline, f"{text!r} is not displayed:\n{self.display}"
            time.sleep(0.02)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition`` holds; fail if the process ends before."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert self.process.poll() is None, self.display
            assert time.monotonic() < deadline, self.display
            time.sleep(0.02)

    def wait(self) -> int:
        """Wait for the end of the process and return its exit status."""
        status = self.process.wait(WAIT_SECONDS)
        self._read_rest()
        return status

    def close(self) -> None:
        """Kill the process if it still runs, and close the terminal."""
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)
        self._reader.join(10)
        os.close(self._controller)

    def _read_rest(self) -> None:
        """Wait until everything that was printed before this call has been read."""
        mark = b"\0%d" % len(self._printed)
        os.write(self._terminal, mark)
        deadline = time.monotonic() + WAIT_SECONDS
        while mark not in self._printed:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._controller, 1 << 16)
            except OSError:  # the terminal was closed
                return
            self._printed += data


def _control_terminal() -> None:
    """Let the terminal send signals to this process, in the child before the program starts."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which tests in the background would pass on as ignored


@contextmanager
def run_in_terminal(*arguments: object) -> Iterator[TerminalProcess]:
    """Run ``mmduet`` with these arguments until the block ends."""
    process = TerminalProcess(list(map(str, arguments)))
    try:
        yield process
    finally:
        process.close()
