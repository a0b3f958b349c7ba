"""Warn about a speak policy for which the scores do not matter."""

from __future__ import annotations

import math

import typer

from mmduet.options import SpeakOptions


def warn_if_extreme(speak: SpeakOptions, frames: int | None, quiet: bool = False) -> bool:
    """Write a line to stderr if the policy never fires, or at every one of ``frames`` frames; return whether it does."""
    reason = speak.find_extreme(frames)
    if reason is not None and not quiet:
        typer.echo(f"warning[speak_policy]: --speak {reason}", err=True)
    return reason is not None


def frame_count(duration: float | None, fps: float, max_frames: int | None = None) -> int | None:
    """Return the number of frames of a video at most, None if its duration is unknown."""
    counts = [] if duration is None else [math.ceil(duration * fps - 1e-6)]
    return min([*counts, *([] if max_frames is None else [max_frames])], default=None)
