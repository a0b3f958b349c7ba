"""Allocates contiguous ranges of a fixed number of items, first fit. It holds integers only."""

from __future__ import annotations


class RangeAllocator:
    """Allocates ranges of ``total`` items. Their sizes are rounded up to multiples of ``unit``."""

    def __init__(self, total: int, unit: int = 1) -> None:
        self.total, self._unit = total - total % unit, unit
        self._free = [(0, self.total)] if self.total else []  # (begin, end), ascending; neighbours are merged

    @property
    def largest(self) -> int:
        """The size of the largest range that can be allocated."""
        return max((end - begin for begin, end in self._free), default=0)

    @property
    def used(self) -> int:
        """The number of items in allocated ranges."""
        return self.total - sum(end - begin for begin, end in self._free)

    def rounded(self, size: int) -> int:
        """Return the number of items that a range of ``size`` items takes."""
        return -(-size // self._unit) * self._unit

    def allocate(self, size: int) -> int | None:
        """Return the begin of a range of ``size`` items; None if no free range is large enough."""
        size = self.rounded(size)
        if size == 0:
            return 0
        for index, (begin, end) in enumerate(self._free):
            if end - begin >= size:
                self._free[index : index + 1] = [(begin + size, end)] if end - begin > size else []
                return begin
        return None

    def free(self, begin: int, size: int) -> None:
        """Return a range that ``allocate`` returned for ``size`` items."""
        end = begin + self.rounded(size)
        if begin == end:
            return
        merged: list[tuple[int, int]] = []
        for span in sorted([*self._free, (begin, end)]):
            if merged and merged[-1][1] == span[0]:
                merged[-1] = (merged[-1][0], span[1])
            else:
                merged.append(span)
        self._free = merged
