"""A program that answers lines on its standard input with lines on its standard output, each within a time limit."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any

from mmduet.evaluation.scorers.java import end_group, java_environment, start_group

MAX_DETAIL = 500  # characters of the program's error output in a message


class NoAnswerError(Exception):
    """The program did not answer within the limit, or has ended; the message has its last error output."""


class AnswerTimeoutError(NoAnswerError):
    """The program is still running, and has not answered within the limit."""


class LineProcess:
    """The running program. Lines may be sent ahead; they are written by a thread, because full pipes would block."""

    def __init__(self, command: list[str]) -> None:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._stderr}
        self._process = start_group(
            command, env=java_environment(), encoding="utf-8", errors="replace", bufsize=1 << 16, **pipes
        )
        self._answers: SimpleQueue[str | None] = SimpleQueue()  # None at the end
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, lines: Sequence[str]) -> None:
        """Write the lines in the background. A program that has ended is reported by ``receive``."""
        Thread(target=self._write, args=(lines,), daemon=True).start()

    def receive(self, seconds: float) -> str:
        """Return the next line. Raises ``AnswerTimeoutError`` after ``seconds``, ``NoAnswerError`` if the program has ended."""
        try:
            answer = self._answers.get(timeout=seconds)
        except Empty:
            raise AnswerTimeoutError(f"no answer within {seconds:g} s") from None
        if answer is None:
            raise NoAnswerError(self._describe_end())
        return answer.strip()

    def close(self) -> None:
        """End the program."""
        end_group(self._process)
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            try:
                if stream is not None:
                    stream.close()
            except OSError:
                pass  # what was still to be written has no reader any more

    def _describe_end(self) -> str:
        status = self._process.wait()
        self._stderr.seek(0)
        text = " ".join(self._stderr.read().decode(errors="replace")[-MAX_DETAIL:].split())
        return f"it was ended by signal {-status}" if status < 0 else f"exit status {status}: {text or 'no message'}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def _write(self, lines: Sequence[str]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.writelines(f"{line}\n" for line in lines)
            self._process.stdin.flush()
        except (OSError, ValueError):
            pass  # the program has ended, or has been closed
