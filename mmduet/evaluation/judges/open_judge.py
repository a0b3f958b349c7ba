"""Open a judge by the address of its endpoint, with a cache of its replies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmduet.evaluation.judges.chat_judge import ChatJudge
from mmduet.evaluation.judges.judge import ExactJudge, Judge
from mmduet.evaluation.judges.judgement_files import CachedJudge

EXACT = "exact"
"""In place of an address: compare texts instead of querying a model."""


@contextmanager
def open_judge(url: str, model: str, cache: Path, max_grade: int) -> Iterator[Judge]:
    """Yield the judge ``model`` at ``url``, whose replies are kept in the file ``cache``, or ``ExactJudge`` for ``EXACT``.

    Raises:
        OptionError: the address, the API key or the cache cannot be used.
    """
    if url == EXACT:
        yield ExactJudge(max_grade)
        return
    with ChatJudge(url, model) as judge:
        yield CachedJudge(judge, cache)
