"""The moves of all slots before a step, as one plan of token indices: what is gathered, rotated and scattered in the pool.

Keys are stored rotated to their positions. A pinned token moves with every eviction, so its key is rotated from an unrotated
float32 copy, and no error accumulates; a token of the window is rotated by the distance of its rare moves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmduet.engine.slot import Slot

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Relocation:
    """Token indices in the pool's storage, and pin indices in its unrotated keys.

    First, the keys ``new_pins`` are rotated back by ``new_pin_positions`` and stored at the pins ``new_pin_targets``. Then the
    keys of the pins ``placed`` and the keys at ``shifted`` are rotated by ``distances``, in this order, and written to
    ``targets``, and the values at ``value_sources`` are written there, too. All reading precedes all writing.
    """

    new_pins: Indices
    new_pin_positions: Indices
    new_pin_targets: Indices
    placed: Indices
    shifted: Indices
    distances: Indices
    value_sources: Indices
    targets: Indices


def plan_relocation(slots: Iterable[Slot]) -> Relocation | None:
    """Return the moves of all slots; None if nothing moves. Call ``Slot.moved`` of each of them once they are executed."""
    moved = [(slot, moves) for slot in slots if (moves := slot.moves()) is not None]
    if not moved:
        return None
    new_pins, new_positions, new_targets = list[int](), list[int](), list[int]()
    placed, place_distances, place_sources, place_targets = list[int](), list[int](), list[int](), list[int]()
    shifted, shift_distances, shift_targets = list[int](), list[int](), list[int]()
    for slot, moves in moved:
        base, count = slot.base, len(moves.pinned)
        positions = moves.pinned[moves.stored :]
        new_pins += [base + position for position in positions]
        new_positions += positions
        new_targets += range(slot.pin_base + moves.stored, slot.pin_base + count)
        placed += range(slot.pin_base, slot.pin_base + count)
        place_distances += range(moves.start, moves.start + count)
        place_sources += [base + position for position in moves.pinned]
        place_targets += range(base + moves.start, base + moves.start + count)
        if moves.shift:
            begin, end = moves.window
            shifted += range(base + begin, base + end)
            shift_distances += [-moves.shift] * (end - begin)
            shift_targets += range(base + begin - moves.shift, base + end - moves.shift)
    return Relocation(
        _indices(new_pins),
        _indices(new_positions),
        _indices(new_targets),
        _indices(placed),
        _indices(shifted),
        _indices(place_distances + shift_distances),
        _indices(place_sources + shifted),
        _indices(place_targets + shift_targets),
    )


def _indices(values: list[int]) -> Indices:
    return np.array(values, np.int64)
