"""Run a server in a separate process for the duration of a measurement."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from mmduet.errors import ServerError

SHUTDOWN_SECONDS = 30.0
UNLIMITED = ("--max-utilization", "inf")


@contextmanager
def server_process(
    *arguments: str,
    limit_load: bool = False,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> Iterator[tuple[str, int]]:
    """Run ``mmduet serve`` with ``arguments`` on a free port; yield its address and its process id.

    ``environment`` adds variables to those of this process. The server logs to the file ``log``, by default to stderr.

    It admits as many sessions as fit into memory; with ``limit_load`` only those for which it has time, as by default.

    Raises:
        ServerError: the server did not start.
    """
    arguments = (*arguments, *([] if limit_load else UNLIMITED))
    with _running("--port", "0", *arguments, environment=environment, log=log) as (address, process):
        yield address, process.pid


@contextmanager
def upgradable_server(*arguments: str) -> Iterator[tuple[str, Callable[[], int]]]:
    """Run a server with a journal; yield its address and a function that replaces it by another process.

    The servers admit sessions regardless of the load. The function returns the exit status of the old process once the new one
    serves.

    Raises:
        ServerError: the server, or the new one, did not start.
    """
    with TemporaryDirectory() as journal, ExitStack() as servers:
        options = ("--journal", journal, *UNLIMITED, *arguments)
        address, process = servers.enter_context(_running("--port", "0", *options))

        def replace_server() -> int:
            servers.enter_context(_running("--port", str(urlsplit(address).port), *options))
            return process.wait(SHUTDOWN_SECONDS)

        yield address, replace_server


@contextmanager
def _running(
    *arguments: str, environment: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``mmduet serve`` until the block ends; yield its address and process once it is listening."""
    command = [sys.executable, "-m", "mmduet", "serve", "--log-level", "warning", *arguments]
    variables = {**os.environ, **(environment or {})}
    with nullcontext() if log is None else log.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=variables)
    try:
        line = process.stdout.readline() if process.stdout is not None else ""
        address = re.search(r"ws://\S+", line)
        if address is None:
            raise ServerError(f"the server did not start: {' '.join(command)}")
        yield address[0].rstrip(","), process
    finally:
        process.terminate()
        try:
            process.wait(SHUTDOWN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
