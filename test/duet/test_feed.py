"""The emitted text of finished replies under both profiles."""

from __future__ import annotations

import pytest

from mmduet.duet import make_feed


@pytest.mark.parametrize(
    ("decoded", "emitted"),
    [
        ("He does n't stir the pot .", "He doesn't stir the pot."),
        ("Now , they 're done !", "Now, they're done!"),
        ("the cook ' s knife", "the cook's knife"),
        ("nothing to close up", "nothing to close up"),
    ],
)
def test_paper_feed_removes_tokenization_spaces(decoded: str, emitted: str) -> None:
    assert make_feed("paper", "system").clean_reply(decoded) == emitted
    assert make_feed("fixed", "system").clean_reply(decoded) == decoded
