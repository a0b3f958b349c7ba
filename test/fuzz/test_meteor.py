"""Paragraphs with odd characters for METEOR's jar: each has its own score, and the jar stays in step with its questions."""

from __future__ import annotations

import math
from itertools import count

from fuzzing import fuzz, only_own_errors
from hypothesis import strategies as st

from mmduet.evaluation.scorers.meteor import Meteor
from mmduet.metrics.captions import Candidate

PIECES = (
    "a man walks", "a", "the", "Cat", "cats", "it's", "1.5", "?!", ".", "\N{LATIN SMALL LETTER E WITH ACUTE}", "\U0001f600",
    "\N{ARABIC LETTER ALEF}", "w" * 5000, "a\N{COMBINING ACUTE ACCENT}", "-" * 300, "SCORE ||| a ||| a", "EVAL ||| 1 2 3",
    "|||", "||||", "| ||", " ||| ", "<unk>", "\x1b[31m", "\x00", "\x1a", "\x7f", "\ufeff", "\ud800", "\uffff",
)  # fmt: skip
SPACES = (
    " ", "  ", "   ", "\t", "\n", "\r", "\r\n", "\n\n", "\v", "\f", "\x1c", "\x85", "\N{NO-BREAK SPACE}", "\u2028", "\u2029",
    "\N{IDEOGRAPHIC SPACE}", "\N{ZERO WIDTH SPACE}", "",
)  # fmt: skip


def test_meteor(meteor: Meteor, share: float) -> None:
    numbers = count()

    def score_new_pair() -> float:
        """Return the score of a caption that equals its reference; the jar has not scored it before."""
        word = f"cat{next(numbers)}"
        return meteor.scores([[Candidate(word, (word,))]])[0][0]

    expected = score_new_pair()

    def check(corpus: list[Candidate]) -> None:
        with only_own_errors():
            ((total, each),) = meteor.scores([corpus])
            assert len(each) == len(corpus)
            assert 0 <= total <= 1
            assert all(math.isnan(score) or 0 <= score <= 1 for score in each)
        assert score_new_pair() == expected, "the jar answers another question"

    word = st.sampled_from(PIECES) | st.text(max_size=6)
    space = st.sampled_from(SPACES)
    text = st.lists(st.tuples(word, space), max_size=12).map(lambda parts: "".join(map("".join, parts)))
    candidate = st.builds(Candidate, text, st.lists(text, min_size=1, max_size=3).map(tuple))
    fuzz("meteor", share, st.lists(candidate, max_size=8), check, 6)
