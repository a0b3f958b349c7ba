"""The session options that a model was made for; the one place where its recommendations become options."""

from __future__ import annotations

from mmduet.model import Recommended
from mmduet.options import DecodeOptions, Profile, SessionOptions, SpeakOptions

PAPER_TOKENS = 200


def recommended_options(best: Recommended, profile: Profile = "fixed") -> SessionOptions:
    """What ``best`` recommends, silent until something is asked.

    Under ``paper`` with the paper's 200 tokens a reply, without window, minimum interval and that silence, which it did not
    have.
    """
    paper = profile == "paper"
    interval = 0.0 if paper else best.min_interval
    return SessionOptions(
        speak=SpeakOptions.parse(best.speak, best.score_heads, min_interval=interval, unasked=paper),
        decode=DecodeOptions(max_new_tokens=PAPER_TOKENS if paper else best.max_new_tokens),
        window=None if paper else best.window,
        profile=profile,
    )
