"""File descriptors of the process: raises the limit and derives how many sessions it allows."""

from __future__ import annotations

import contextlib
import resource

import psutil

from mmduet.errors import CapacityError

PER_SOCKET, PER_JOURNAL, PER_SOURCE = 1, 1, 8
"""Descriptors of one session: its client, its journal, and a camera over RTSP with UDP, which needs more than other sources."""
MIN_RESERVE, MAX_RESERVE, RESERVE_SHARE = 32, 1024, 8
"""Descriptors for requests and for clients that wait or are rejected: an eighth of the limit, within these bounds."""
SCARCE = 1024
OPENED_AT_START = 16
"""Descriptors that the process opens after the count: listening sockets, the event loop, files of libraries."""


def raise_limit() -> None:
    """Raise the soft limit of open files to the hard limit, as far as the system permits."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS accepts less than the hard limit that it reports
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def is_scarce() -> bool:
    """Return whether the soft limit is so low that a burst of connections may exceed the reserve."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit != resource.RLIM_INFINITY and limit < SCARCE


def session_capacity(*, journaled: bool, with_sources: bool) -> int | None:
    """Return how many sessions the soft limit allows beside a reserve for HTTP; None if there is no limit.

    ``journaled`` and ``with_sources`` are whether sessions have journals and may open sources.

    Raises ``CapacityError`` if the limit leaves no room for a session.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return None
    per_session = PER_SOCKET + PER_JOURNAL * journaled + PER_SOURCE * with_sources
    sessions = (limit - psutil.Process().num_fds() - OPENED_AT_START - _reserve(limit)) // per_session
    if sessions < 1:
        raise CapacityError(
            f"the limit of {limit} open files leaves no room for a session; raise it (ulimit -n, LimitNOFILE=)"
        )
    return int(sessions)


def queue_capacity(max_queued: int) -> int:
    """Return how many of ``max_queued`` clients may wait for a session: they use at most half of the reserve."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max_queued if limit == resource.RLIM_INFINITY else min(max_queued, _reserve(limit) // 2)


def _reserve(limit: int) -> int:
    return min(max(limit // RESERVE_SHARE, MIN_RESERVE), MAX_RESERVE)
