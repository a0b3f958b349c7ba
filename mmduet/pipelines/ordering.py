"""Order of results that finish out of order."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

T = TypeVar("T")

Finished = Generator[tuple[int, T], None, None]  # index of the job, its result; as they finish


def drop_index(finished: Finished[T]) -> Generator[T, None, None]:
    """Yield results as they finish."""
    with closing(finished):
        for _, result in finished:
            yield result


def sort_by_index(finished: Finished[T]) -> Generator[T, None, None]:
    """Yield results in the order of their indices; one that finishes early waits for those before it."""
    with closing(finished):
        waiting: dict[int, T] = {}
        due = 0
        for index, result in finished:
            waiting[index] = result
            while due in waiting:
                yield waiting.pop(due)
                due += 1
