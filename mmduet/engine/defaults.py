"""The session options that a model was made for; the one place where its recommendations become options."""

from __future__ import annotations

from mmduet.model import Recommended
from mmduet.options import DecodeOptions, Profile, SessionOptions, SpeakOptions


def recommended_options(best: Recommended, profile: Profile = "fixed") -> SessionOptions:
    """What ``best`` recommends; under ``paper`` without window and minimum interval, which the paper did not have."""
    paper = profile == "paper"
    return SessionOptions(
        speak=SpeakOptions.parse(best.speak, best.score_heads, min_interval=0.0 if paper else best.min_interval),
        decode=DecodeOptions(max_new_tokens=best.max_new_tokens),
        window=None if paper else best.window,
        profile=profile,
    )
