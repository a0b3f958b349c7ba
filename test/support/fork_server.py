"""Runs ``mmduet`` commands in forks of a process that has already imported torch, so that documents are tested quickly.

A command runs the code of the real command line in a process of its own, with its own folder, environment and standard
streams; it only skips the seconds of importing. ``python fork_server.py SOCKET`` serves, ``write_shim`` writes the ``mmduet``
executable that connects to it.
"""

from __future__ import annotations

import array
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

CRASHED = 139
SHIM = """#!{python} -SE
import array, json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    job = json.dumps({{"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}).encode()
    streams = array.array("i", [0, 1, 2])
    server.sendmsg([len(job).to_bytes(8, "little")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    server.sendall(job)
    status = server.recv(1)
sys.exit(status[0] if status else {crashed})
"""


def write_shim(path: Path, address: Path) -> None:
    """Write an executable that runs ``mmduet`` with its arguments through the server at ``address``."""
    path.write_text(SHIM.format(python=sys.executable, address=str(address), crashed=CRASHED), encoding="utf-8")
    path.chmod(0o755)


@contextmanager
def fork_server(folder: Path, variables: Mapping[str, str] | None = None) -> Iterator[Path]:
    """Start a server for the length of a block; yield the folder to put on PATH, which holds ``mmduet``.

    ``variables`` are environment variables that libraries read when they are imported.
    """
    address = folder / "socket"
    binaries = folder / "bin"
    binaries.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(variables or {})}
    command = [sys.executable, __file__, str(address)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            write_shim(binaries / "mmduet", address)
            yield binaries
        finally:
            server.kill()


def serve(address: str) -> None:
    """Import what commands need, then run each request in a fork; never returns."""
    import mmduet.cli.main
    import mmduet.engine
    import mmduet.model.inspection
    import mmduet.pipelines
    import mmduet.video  # noqa: F401 - imported for the forks

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks are reaped by the kernel
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                handle_request(connection)
            connection.close()


def handle_request(connection: socket.socket) -> None:
    """Run one command in this process, send its exit status and end."""
    head, streams = receive(connection)
    size = int.from_bytes(head, "little")
    job = json.loads(b"".join(iter_bytes(connection, size)))
    for descriptor, stream in enumerate(streams):
        os.dup2(stream, descriptor)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    status = run(job["arguments"])
    connection.sendall(bytes([status]))
    os._exit(status)


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Return the job's size, 8 bytes, and the standard streams that came with it."""
    streams = array.array("i")
    data, ancillary, _, _ = connection.recvmsg(8, socket.CMSG_LEN(3 * streams.itemsize))
    for _, _, received in ancillary:
        streams.frombytes(received)
    return data, list(streams)


def iter_bytes(connection: socket.socket, size: int) -> Iterator[bytes]:
    """Yield ``size`` bytes in pieces."""
    while size:
        piece = connection.recv(min(size, 1 << 16))
        size -= len(piece)
        yield piece


def run(arguments: list[str]) -> int:
    """Run ``mmduet`` as ``python -m mmduet`` does, or a program as ``python -c`` does; return the exit status."""
    status: object = 0
    try:
        if arguments[:1] == ["-c"]:
            sys.argv = ["-c"]
            exec(compile(arguments[1], "<document>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = ["mmduet", *arguments]
            runpy.run_module("mmduet", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code if end.code is not None else 0
    except BaseException:  # noqa: BLE001 - an exception of a program only ends its own process
        import traceback

        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return status if isinstance(status, int) else 1


if __name__ == "__main__":
    serve(sys.argv[1])
