"""A server in a process of its own, as users run it, for as long as a measurement takes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mmduet.errors import ServerError

SHUTDOWN_SECONDS = 30.0


@contextmanager
def server_process(*arguments: str) -> Iterator[tuple[str, int]]:
    """``mmduet serve`` with ``arguments`` on a free port; yields its address and its process id. Its log goes to stderr."""
    command = [sys.executable, "-m", "mmduet", "serve", "--port", "0", "--log-level", "warning", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout is not None else ""
        found = re.search(r"ws://\S+", line)
        if found is None:
            raise ServerError(f"the server did not start: {' '.join(command)}")
        yield found[0].rstrip(","), process.pid
    finally:
        process.terminate()
        try:
            process.wait(SHUTDOWN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
