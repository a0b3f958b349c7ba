"""The admission queue with simulated sessions: its order, limits and estimates."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest

from mmduet.errors import CapacityError, RateLimitError, StorageError
from mmduet.server.admission_queue import AdmissionQueue, QueueClosed, Ticket


class Simulation:
    """A queue in front of ``capacity`` simulated sessions, of which one owner may have ``owner_limit``."""

    def __init__(
        self,
        capacity: int,
        owner_limit: int = 100,
        max_waiting: int = 8,
        per_key: int | None = None,
        per_secret: int | None = None,
    ) -> None:
        self.now, self.capacity, self.owner_limit = 0.0, capacity, owner_limit
        self.sessions, self.opened = Counter[str](), list[str]()
        self.failure: Exception | None = None
        self.queue = AdmissionQueue(max_waiting, per_key, self.is_at_limit, lambda: self.now, per_secret)

    def is_at_limit(self, owner: str) -> bool:
        return self.sessions[owner] >= self.owner_limit

    def join(self, owner: str) -> Any:
        return self.queue.join(owner, lambda: self.open(owner))

    def open(self, owner: str) -> Any:
        if self.failure is not None:
            raise self.failure
        if self.sessions.total() >= self.capacity:
            raise CapacityError("full")
        self.sessions[owner] += 1
        self.opened.append(owner)
        return f"session of {owner}"

    def end(self, owner: str, now: float | None = None) -> None:
        self.now = self.now if now is None else now
        self.sessions[owner] -= 1
        self.queue.on_departure()


def in_loop(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def places(*tickets: Ticket) -> list[int]:
    return [ticket.position for ticket in tickets]


def test_clients_are_served_in_the_order_of_their_arrival() -> None:
    async def run() -> None:
        server = Simulation(capacity=1)
        assert server.join("a") == "session of a", "no client waits while there is room"
        tickets = [server.join(owner) for owner in "bcd"]
        assert (places(*tickets), len(server.queue)) == ([1, 2, 3], 3)
        server.end("a")
        assert tickets[0].outcome.result() == "session of b"
        assert (places(*tickets[1:]), len(server.queue)) == ([1, 2], 2)
        server.capacity = 3
        server.queue.serve()
        assert server.opened == ["a", "b", "c", "d"]

    in_loop(run())


def test_an_owner_at_its_limit_is_passed_over() -> None:
    async def run() -> None:
        server = Simulation(capacity=3, owner_limit=2)
        mine = [server.join("mine") for _ in range(4)][2:]
        assert places(*mine) == [1, 2], "two places of its own, and the server is not full"
        server.join("yours")
        yours = server.join("yours")
        assert places(*mine, yours) == [1, 2, 1]
        server.end("mine")
        assert mine[0].outcome.done(), "it was there before"
        assert places(mine[1], yours) == [1, 1]
        server.end("yours")
        assert yours.outcome.done()
        assert not mine[1].outcome.done()

    in_loop(run())


def test_the_wait_is_estimated_from_recent_departures() -> None:
    async def run() -> None:
        server = Simulation(capacity=4, owner_limit=2)
        for owner in "aabb":
            server.join(owner)
        first, limited, second = server.join("c"), server.join("a"), server.join("d")
        server.capacity = 1  # so that departures make no room
        server.end("b", now=100.0)
        assert first.estimated_wait is None, "a rate needs two departures"
        server.end("b", now=110.0)
        assert [ticket.estimated_wait for ticket in (first, limited, second)] == [10.0, None, 20.0]
        server.now = 130.0
        server.queue.serve()
        assert first.estimated_wait == 30.0, "it grows while no session ends"
        server.now = 1000.0
        server.queue.serve()
        assert first.estimated_wait is None, "these departures are not recent any more"

    in_loop(run())


def test_the_queue_and_the_share_of_a_key_are_bounded() -> None:
    async def run() -> None:
        server = Simulation(capacity=1, max_waiting=3, per_key=2)
        for owner in ("key-1", "key-1.x", "key-1.y"):
            server.join(owner)
        with pytest.raises(RateLimitError, match="2 clients of this key wait"):
            server.join("key-1.z")
        server.join("key-2")
        with pytest.raises(CapacityError, match="no session is free and 3 clients wait already"):
            server.join("key-3")
        assert len(server.queue) == 3
        server.capacity = 9
        assert server.join("key-3") == "session of key-3"
        assert server.opened == ["key-1", "key-1.x", "key-1.y", "key-2", "key-3"], "after those that have waited"

    in_loop(run())


def test_one_client_secret_cannot_fill_the_queue() -> None:
    async def run() -> None:
        server = Simulation(capacity=1, per_secret=2)
        for owner in ("key", "key.x", "key.x"):
            server.join(owner)
        with pytest.raises(RateLimitError, match="2 clients of this client secret wait"):
            server.join("key.x")
        server.join("key.y")
        for _ in range(3):
            server.join("key")  # not a client secret
        assert len(server.queue) == 6

    in_loop(run())


def test_a_session_that_cannot_be_opened_does_not_hold_up_the_others() -> None:
    async def run() -> None:
        server = Simulation(capacity=1)
        server.join("a")
        failing, other = server.join("b"), server.join("c")
        server.failure = StorageError("the disk is full")
        server.end("a")
        assert [failing.outcome.result(), other.outcome.result()] == [server.failure, server.failure]
        with pytest.raises(StorageError):
            server.join("d")
        assert len(server.queue) == 0

    in_loop(run())


def test_clients_leave_on_their_own_or_all_at_once() -> None:
    async def run() -> None:
        server = Simulation(capacity=1)
        server.join("a")
        first, second = server.join("b"), server.join("c")
        server.queue.leave(first)
        server.queue.leave(first)
        assert (second.position, len(server.queue)) == (1, 1)
        server.queue.close(1012, "shutdown")
        outcome = second.outcome.result()
        assert isinstance(outcome, QueueClosed)
        assert (outcome.code, outcome.reason, len(server.queue)) == (1012, "shutdown", 0)
        server.end("a")
        assert server.opened == ["a"]

    in_loop(run())
