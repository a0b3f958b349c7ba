"""``mmduet serve`` in a process that a test kills and starts again on the same port and journal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

SERVE = """
import os, runpy, sys
print(os.getpid(), flush=True)
sys.argv = ["mmduet", "serve", "--model", "random:tiny", "--port", {port!r}, "--journal", {journal!r}]
runpy.run_module("mmduet", run_name="__main__", alter_sys=True)
"""


def start_server_process(binaries: Path, journal: Path, port: int) -> int:
    """Start a server; return its process id once it is listening. ``binaries`` is the folder of a ``fork_server``."""
    program = SERVE.format(port=str(port), journal=str(journal))
    command = [str(binaries / "mmduet"), "-c", program]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert f":{port}/" in process.stdout.readline()
    return pid


def kill_server_process(pid: int) -> None:
    """Kill a server, if it is running."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
