"""What nano computes on one rendered clip stays what it was: scores to 1e-3, texts and everything else exactly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from golden_runs import GOLDEN, RUNS, results

TOLERANCE = 1e-3
EXPECTED: dict[str, list[Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return results(tmp_path_factory.mktemp("golden"))


def differences(expected: Any, actual: Any, where: str = "") -> Iterator[str]:
    """Yield where two JSON values differ: numbers by more than the tolerance, anything else at all."""
    if isinstance(expected, float) and isinstance(actual, float):
        if not abs(expected - actual) <= TOLERANCE:
            yield f"{where}: expected {expected}, got {actual}"
    elif isinstance(expected, dict) and isinstance(actual, dict) and expected.keys() == actual.keys():
        for key in expected:
            yield from differences(expected[key], actual[key], f"{where}.{key}")
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for place, pair in enumerate(zip(expected, actual, strict=True)):
            yield from differences(*pair, f"{where}[{place}]")
    elif expected != actual:
        yield f"{where}: expected {expected!r}, got {actual!r}"


@pytest.mark.parametrize("name", RUNS)
def test_results_equal_the_golden_file(computed: dict[str, Any], name: str) -> None:
    actual = computed[name] if isinstance(computed[name], list) else [computed[name]]
    assert list(differences(EXPECTED[name], actual)) == []


def test_the_golden_file_covers_replies_spans_and_answers() -> None:
    assert any(event["type"] == "reply" for event in EXPECTED["narrate"])
    for name, key in [("caption", "segments"), ("ground", "spans"), ("highlight", "top"), ("ask", "answers")]:
        assert EXPECTED[name][0]["videos"][0][key]


@pytest.mark.parametrize(
    ("actual", "count"),
    [
        ({"time": 1.0009, "text": "a"}, 0),
        ({"time": 1.0011, "text": "a"}, 1),
        ({"time": 1.0, "text": "A"}, 1),
        ({"time": float("nan"), "text": "a"}, 1),
        ({"time": 1.0}, 1),
        ([1.0, "a"], 1),
    ],
)
def test_differences_are_found(actual: Any, count: int) -> None:
    assert len(list(differences({"time": 1.0, "text": "a"}, actual))) == count
