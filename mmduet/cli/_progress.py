"""Progress bars on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mmduet.cli._display import is_terminal


@contextmanager
def progress_bar(label: str, *, transient: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Yield a function ``(done, total)`` that updates a bar on stderr; its first call displays the bar.

    Where stderr is not a terminal, only the last state is written, at the end. A ``transient`` bar disappears then, and is not
    displayed at all without a terminal.
    """
    if transient and not is_terminal(sys.stderr):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=transient)
    task = bar.add_task(label, total=None)
    started = False

    def update(done: int, total: int) -> None:
        nonlocal started
        if not started:
            bar.start()
            started = True
        bar.update(task, completed=done, total=total)

    try:
        yield update
    finally:
        if started:
            bar.stop()
