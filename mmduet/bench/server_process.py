"""Run a server in a separate process for the duration of a measurement."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mmduet.errors import ServerError

SHUTDOWN_SECONDS = 30.0


@contextmanager
def server_process(*arguments: str, limit_load: bool = False) -> Iterator[tuple[str, int]]:
    """Run ``mmduet serve`` with ``arguments`` on a free port; yield its address and its process id. It logs to stderr.

    It admits as many sessions as fit into memory; with ``limit_load`` only those for which it has time, as by default.

    Raises:
        ServerError: the server did not start.
    """
    command = [sys.executable, "-m", "mmduet", "serve", "--port", "0", "--log-level", "warning", *arguments]
    command += [] if limit_load else ["--max-utilization", "inf"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout is not None else ""
        address = re.search(r"ws://\S+", line)
        if address is None:
            raise ServerError(f"the server did not start: {' '.join(command)}")
        yield address[0].rstrip(","), process.pid
    finally:
        process.terminate()
        try:
            process.wait(SHUTDOWN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
