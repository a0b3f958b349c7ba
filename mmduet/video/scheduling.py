"""Protection from encoders that change how the calling thread is scheduled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def preserved_scheduling() -> Iterator[None]:
    """Restore the scheduling policy of the calling thread after the block.

    SVT-AV1 makes the thread that starts it a real-time thread if the user is root. Its later work would then starve all others.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
