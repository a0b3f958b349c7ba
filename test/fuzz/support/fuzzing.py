"""What all fuzz targets share: rounds of Hypothesis within a share of time, the limits of an example, mutations of bytes.

``FUZZ_SECONDS`` is the time of one run of all targets (0: one round each), ``FUZZ_SEED`` the seed of the first round.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mmduet.errors import MmduetError

T = TypeVar("T")
SECONDS, SEED = float(os.environ.get("FUZZ_SECONDS", "0")), int(os.environ.get("FUZZ_SEED", "0"))
EXAMPLE_SECONDS = 20.0  # far above the milliseconds of an example, because the machine may be busy
MAX_MESSAGE_CHARS = 4000  # an error does not repeat its input
MAX_GROWTH_MIB, MAX_NEW_FILES, MAX_NEW_THREADS = 160, 4, 4
INTERESTING = (0, 1, -1, 2**31 - 1, -(2**31), 2**63, 10**400, 0.5, -0.0, 1e308, "", "x", "\x00", "\ud800", None, True)


@dataclass(frozen=True)
class Resources:
    """What the process holds: memory in MiB, open files, threads."""

    memory: float
    files: int
    threads: int

    @classmethod
    def now(cls) -> Resources:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        files = sum(1 for _ in Path("/proc/self/fd").iterdir())
        return cls(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, files, threading.active_count())

    def check_growth(self) -> None:
        """Fail if the process holds much more now."""
        now = Resources.now()
        assert now.files <= self.files + MAX_NEW_FILES, f"{now.files - self.files} files were left open"
        assert now.threads <= self.threads + MAX_NEW_THREADS, f"{now.threads - self.threads} threads were left running"
        assert now.memory <= self.memory + MAX_GROWTH_MIB, f"memory grew by {now.memory - self.memory:.0f} MiB"


def fuzz(name: str, share: float, strategy: SearchStrategy[T], check: Callable[[T], None], examples: int) -> None:
    """Run ``check`` on rounds of ``examples`` inputs for ``share`` seconds, at least once. A round is repeated by its seed."""
    end, number, before = time.monotonic() + share, SEED, None
    while before is None or time.monotonic() < end:
        sys.stdout.write(f"round of seed {number}; repeat: make fuzz SECONDS=0 SEED={number} ARGS='-k {name}'\n")
        _run_round(strategy, check, examples, number)
        before = before or Resources.now()  # after the first round, which fills caches
        number += 1
    before.check_growth()


def _run_round(strategy: SearchStrategy[T], check: Callable[[T], None], examples: int, number: int) -> None:
    def timed(value: T) -> None:
        watchdog = threading.Timer(EXAMPLE_SECONDS, _abort, (repr(value),))
        watchdog.daemon = True
        watchdog.start()
        try:
            check(value)
        finally:
            watchdog.cancel()

    options = settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink) if SECONDS else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    seed(number)(options(given(strategy)(timed)))()


def _abort(example: str) -> None:
    """End the process: an example that hangs in a library cannot be interrupted."""
    sys.stderr.write(f"\nthe example did not end within {EXAMPLE_SECONDS:g} s: {example}\n")
    faulthandler.dump_traceback(sys.stderr)
    os._exit(1)


@contextmanager
def only_own_errors() -> Iterator[None]:
    """Let errors of the project pass; any other exception fails the example."""
    try:
        yield
    except MmduetError as error:
        message = str(error)
        if not 0 < len(message) < MAX_MESSAGE_CHARS:
            raise AssertionError(f"a message of {len(message)} characters: {message[:200]}") from error


# mutations


@dataclass(frozen=True)
class Edit:
    """A change of bytes at ``place``: an offset from 0, or a fraction of the length."""

    kind: str
    place: int | float
    data: bytes

    def apply(self, target: bytes) -> bytes:
        at = int(self.place * len(target)) if isinstance(self.place, float) else min(self.place, len(target))
        before, rest, size = target[:at], target[at:], len(self.data)
        match self.kind:
            case "truncate":
                return before
            case "overwrite":
                return before + self.data + rest[size:]
            case "insert":
                return before + self.data + rest
            case "delete":
                return before + rest[size:]
            case "repeat":
                return before + rest[:size] * 3 + rest
            case _:
                flipped = bytes(byte ^ 0xFF for byte in rest[:size])
                return before + flipped + rest[size:]


def edits(words: tuple[bytes, ...] = ()) -> SearchStrategy[list[Edit]]:
    """Return lists of edits; ``words`` are pieces of the format, such as names of boxes or tags."""
    data = st.binary(min_size=1, max_size=16) | st.sampled_from((b"\x00" * 8, b"\xff" * 8, b"\x7f\xff\xff\xff", *words))
    place = st.integers(0, 1500) | st.floats(0, 1, exclude_max=True)
    kinds = st.sampled_from(("overwrite", "overwrite", "flip", "insert", "delete", "repeat", "truncate"))
    return st.lists(st.builds(Edit, kinds, place, data), min_size=1, max_size=4)


def apply_edits(data: bytes, changes: list[Edit]) -> bytes:
    for change in changes:
        data = change.apply(data)
    return data


@dataclass(frozen=True)
class JsonEdit:
    """A change of a JSON value at the place that ``path`` leads to: a number chooses a key or an index at each level."""

    path: tuple[int, ...]
    kind: str
    value: Any

    def apply(self, target: Any) -> Any:
        return self._apply(target, list(self.path))

    def _apply(self, target: Any, path: list[int]) -> Any:
        if not path or not isinstance(target, dict | list) or not target:
            return self.value
        step = path[0] % len(target)
        key = list(target)[step] if isinstance(target, dict) else step
        if self.kind == "delete" and len(path) == 1:
            rest = target.copy()
            rest.pop(key)
            return rest
        changed = target.copy()
        changed[key] = self._apply(target[key], path[1:])
        return changed


def json_edits(max_size: int = 3) -> SearchStrategy[list[JsonEdit]]:
    """Return lists of changes of JSON values."""
    scalars = st.sampled_from(INTERESTING) | st.text(max_size=8) | st.integers(-3, 300) | st.floats(allow_nan=True)
    values = st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner)
    )
    path = st.lists(st.integers(0, 40), min_size=1, max_size=5).map(tuple)
    kinds = st.sampled_from(("replace", "replace", "delete"))
    return st.lists(st.builds(JsonEdit, path, kinds, values), min_size=1, max_size=max_size)


def apply_json_edits(value: Any, changes: list[JsonEdit]) -> Any:
    for change in changes:
        value = change.apply(value)
    return value
