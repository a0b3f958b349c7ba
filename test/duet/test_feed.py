"""What only the paper's feed does to a finished reply."""

from __future__ import annotations

import pytest

from mmduet.duet import make_feed


@pytest.mark.parametrize(
    ("decoded", "told"),
    [
        ("He does n't stir the pot .", "He doesn't stir the pot."),
        ("Now , they 're done !", "Now, they're done!"),
        ("the cook ' s knife", "the cook's knife"),
        ("nothing to close up", "nothing to close up"),
    ],
)
def test_the_paper_closes_up_tokenization_spaces(decoded: str, told: str) -> None:
    assert make_feed("paper", "system").clean_reply(decoded) == told
    assert make_feed("fixed", "system").clean_reply(decoded) == decoded
