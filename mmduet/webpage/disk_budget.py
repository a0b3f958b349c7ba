"""Bounds the disk space of the uploaded videos of all visitors, with their previews and results."""

from __future__ import annotations

import threading
from pathlib import Path

from mmduet.errors import CapacityError


class DiskBudget:
    """``total_bytes`` of disk space, divided into shares. Any thread may use it."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._used, self._lock = 0, threading.Lock()

    @property
    def used_bytes(self) -> int:
        """The bytes of all shares."""
        return self._used

    def change(self, size: int) -> None:
        """Count ``size`` more bytes, or fewer if it is negative. Raises ``CapacityError`` if there are too many."""
        with self._lock:
            if size > 0 and self._used + size > self.total_bytes:
                raise CapacityError(
                    f"the videos of all visitors would need more than the {self.total_bytes} bytes that the server sets aside; "
                    "try again later"
                )
            self._used += size


class DiskShare:
    """What one upload or result uses of a budget."""

    def __init__(self, budget: DiskBudget) -> None:
        self._budget = budget
        self._size, self._is_released, self._lock = 0, False, threading.Lock()

    @property
    def size(self) -> int:
        """The bytes that are counted."""
        return self._size

    def add(self, size: int) -> None:
        """Count ``size`` more bytes. Raises ``CapacityError``, and then counts nothing; also after ``release``."""
        with self._lock:
            if self._is_released:
                raise CapacityError("the video was deleted; upload it again")
            self._budget.change(size)
            self._size += size

    def add_file(self, path: Path) -> None:
        """Count a file, or delete it and raise ``CapacityError``."""
        try:
            self.add(path.stat().st_size)
        except CapacityError:
            path.unlink(missing_ok=True)
            raise

    def release(self) -> None:
        """Count nothing from now on."""
        with self._lock:
            self._budget.change(-self._size)
            self._size, self._is_released = 0, True
