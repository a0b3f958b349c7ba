"""Text for messages: suggestions for misspelled names."""

from __future__ import annotations

import pytest

from mmduet.text import did_you_mean

NAMES = ("nano", "random:tiny", "random:7b")


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("Nano", ", did you mean nano?"),
        ("nanoo", ", did you mean nano?"),
        ("RANDOM:Tiny", ", did you mean random:tiny?"),
        ("llava", ";"),
        ("", ";"),
        ("n" * 1_000_000, ";"),
    ],
)
def test_a_similar_name_is_suggested_whatever_its_case(name: str, suggestion: str) -> None:
    assert did_you_mean(name, NAMES) == suggestion


def test_a_common_prefix_does_not_make_names_similar() -> None:
    assert did_you_mean("prot", ["port", "host"], "MMDUET_") == ", did you mean MMDUET_port?"
    assert did_you_mean("zz", ["port", "host"], "MMDUET_") == ";"
