"""Clients that wait for a session, in the order of their arrival, while the server is full or their key is at its limit."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from contextvars import copy_context
from time import monotonic

from mmduet.errors import CapacityError, RateLimitError
from mmduet.server.client_secrets import account_of
from mmduet.server.config import ServerConfig
from mmduet.server.file_descriptors import queue_capacity
from mmduet.server.kv_budget import KVBudget
from mmduet.server.live_session import LiveSession

MAX_DEPARTURES, MAX_DEPARTURE_AGE_SECONDS = 16, 600.0
"""Which departures of sessions are recent."""


class QueueClosed(Exception):  # noqa: N818 - the server stops, or moves to another process
    """The client cannot wait any longer; its socket is closed with ``code`` and ``reason``."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Ticket:
    """A client's place in the queue.

    ``open_session`` runs in the context of the client's request, so that log lines have its fields.

    Attributes:
        outcome: The session, or the error instead of one, once the client has left the queue.
        position: Number of clients that may get a session before this one, itself included.
        estimated_wait: Expected time until it gets a session, in seconds; None if unknown.
    """

    def __init__(self, owner: str, open_session: Callable[[], LiveSession]) -> None:
        self.owner = owner
        self.outcome: asyncio.Future[LiveSession | Exception] = asyncio.get_running_loop().create_future()
        self.position = 1
        self.estimated_wait: float | None = None
        self._open_session, self._context = open_session, copy_context()

    def open_session(self) -> LiveSession:
        """Open the session. Raises ``CapacityError`` while the server is full."""
        return self._context.run(self._open_session)


class DepartureRate:
    """Measures how often sessions end; the clock returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._times = clock, deque[float](maxlen=MAX_DEPARTURES)

    def record(self) -> None:
        """Count a session that ends now."""
        self._times.append(self._clock())

    @property
    def interval(self) -> float | None:
        """Return the mean time between recent departures in seconds, which grows while none follows; None if unknown."""
        now = self._clock()
        recent = [time for time in self._times if now - time <= MAX_DEPARTURE_AGE_SECONDS]
        return (now - recent[0]) / (len(recent) - 1) if len(recent) > 1 else None


class AdmissionQueue:
    """The waiting clients. The oldest one gets a session as soon as the server has room for it.

    Clients whose key or client secret is at its limit of sessions are passed over until one of its sessions ends.

    Args:
        max_waiting: Maximum number of waiting clients.
        max_waiting_per_key: Maximum number of those with the same key and its client secrets; None for no limit.
        is_at_limit: Returns whether an owner may open no further session.
        clock: Returns the time in seconds.
        max_waiting_per_secret: Maximum number of those with the same client secret; None for no limit.
    """

    def __init__(
        self,
        max_waiting: int,
        max_waiting_per_key: int | None,
        is_at_limit: Callable[[str], bool],
        clock: Callable[[], float] = monotonic,
        max_waiting_per_secret: int | None = None,
    ) -> None:
        self._max_waiting, self._max_waiting_per_key, self._is_at_limit = max_waiting, max_waiting_per_key, is_at_limit
        self._max_waiting_per_secret = max_waiting_per_secret
        self._waiting: list[Ticket] = []
        self._departures = DepartureRate(clock)
        self._is_serving = False

    def __len__(self) -> int:
        """Return the number of waiting clients."""
        return len(self._waiting)

    def join(self, owner: str, open_session: Callable[[], LiveSession]) -> LiveSession | Ticket:
        """Return a session if one can be opened at once, otherwise the ticket of a new waiting client.

        Raises ``CapacityError`` if the client would have to wait and the queue is full, ``RateLimitError`` if its key or client
        secret has too many waiting clients, and the errors of ``open_session``.
        """
        ticket = Ticket(owner, open_session)
        self._waiting.append(ticket)
        self.serve()
        if ticket.outcome.done():
            outcome = ticket.outcome.result()
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        try:
            self._check_size(owner)
        except CapacityError:
            self._waiting.remove(ticket)
            raise
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Remove a client that has stopped waiting. A session that was opened for it meanwhile is closed."""
        if ticket in self._waiting:
            self._waiting.remove(ticket)
            self.serve()
        elif ticket.outcome.done() and isinstance(session := ticket.outcome.result(), LiveSession):
            session.finished = True
            session.close("ended")

    def on_departure(self) -> None:
        """Record that a session has ended, and serve the next client."""
        self._departures.record()
        self.serve()

    def serve(self) -> None:
        """Open sessions for as many clients as possible, and update the positions of the others.

        Call it whenever there may be room for a session.
        """
        if self._is_serving:
            return  # called for the session that is being opened
        self._is_serving = True
        try:
            self._open_sessions()
        finally:
            self._is_serving = False
        self._update_positions()

    def close(self, code: int, reason: str) -> None:
        """Make every client leave, whose socket is then closed with ``code`` and ``reason``."""
        waiting, self._waiting = self._waiting, []
        for ticket in waiting:
            ticket.outcome.set_result(QueueClosed(code, reason))

    def _open_sessions(self) -> None:
        for ticket in tuple(self._waiting):
            if self._is_at_limit(ticket.owner):
                continue
            outcome: LiveSession | Exception
            try:
                outcome = ticket.open_session()
            except RateLimitError:
                continue
            except CapacityError:
                return
            except Exception as error:  # noqa: BLE001 - raised in the client's task
                outcome = error
            self._waiting.remove(ticket)
            ticket.outcome.set_result(outcome)

    def _update_positions(self) -> None:
        interval, servable, passed_over = self._departures.interval, 0, Counter[str]()
        for ticket in self._waiting:
            if self._is_at_limit(ticket.owner):
                key = account_of(ticket.owner)
                passed_over[key] += 1
                ticket.position, ticket.estimated_wait = servable + passed_over[key], None
            else:
                servable += 1
                ticket.position = servable
                ticket.estimated_wait = None if interval is None else servable * interval

    def _check_size(self, owner: str) -> None:
        """Raise if the newest client, which belongs to this owner, exceeds a limit."""
        if len(self._waiting) > self._max_waiting:
            raise CapacityError(f"no session is free and {self._max_waiting} clients wait already; try again later")
        limit, key = self._max_waiting_per_key, account_of(owner)
        if limit is not None and sum(account_of(ticket.owner) == key for ticket in self._waiting) > limit:
            raise RateLimitError(f"{limit} clients of this key wait for a session; try again later")
        limit = self._max_waiting_per_secret if owner != key else None
        if limit is not None and sum(ticket.owner == owner for ticket in self._waiting) > limit:
            raise RateLimitError(f"{limit} clients of this client secret wait for a session; try again later")


def create_queue(config: ServerConfig, budget: KVBudget) -> AdmissionQueue:
    """Return the queue for the sessions of ``budget``.

    Of several keys, each may have half of the waiting clients, and every client secret a quarter.
    """
    max_waiting = queue_capacity(config.max_queued)
    max_waiting_per_key = max(max_waiting // 2, 1) if len(config.keys) > 1 else None
    max_waiting_per_secret = max(max_waiting // 4, 1)
    queue = AdmissionQueue(
        max_waiting, max_waiting_per_key, budget.is_at_limit, max_waiting_per_secret=max_waiting_per_secret
    )
    budget.on_release = queue.on_departure
    return queue
