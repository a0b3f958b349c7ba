"""A ``java`` that answers as METEOR's jar and the PTB tokeniser do, and that some words stop."""

from __future__ import annotations

import sys
from pathlib import Path

SCRIPT = """#!{python}
import os, signal, sys, time
if "-version" in sys.argv:
    sys.exit(print('openjdk version "21"', file=sys.stderr))
if any("PTBTokenizer" in argument for argument in sys.argv):
    if "tokenhang" in (text := sys.stdin.read()):
        time.sleep(600)
    sys.stdout.write(text.lower())
    sys.exit()
open(os.path.join(os.path.dirname(__file__), "starts"), "a").write("x")
for line in sys.stdin:
    command, *texts = line.strip("\\n").split(" ||| ")
    if command == "EVAL":  # a statistic is the number of words
        sys.stdout.write("".join(f"{{float(text) / 10}}\\n" for text in texts))
        print(sum(map(float, texts)) / 10 / len(texts), flush=True)
        continue
    words = texts[-1].split()
    if "hang" in words:
        time.sleep(600)
    if "memory" in words:
        sys.exit('Exception in thread "main" java.lang.OutOfMemoryError: Java heap space')
    marker = os.path.join(os.path.dirname(__file__), "killed")
    if "kill" in words or "once" in words and not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    print(len(words), flush=True)
"""


def install_fake_java(home: Path) -> Path:
    """Write ``bin/java`` below ``home``, for JAVA_HOME."""
    (home / "bin").mkdir(parents=True)
    java = home / "bin" / "java"
    java.write_text(SCRIPT.format(python=sys.executable))
    java.chmod(0o755)
    return home
