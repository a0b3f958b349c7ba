"""Print warnings on stderr in one form, ``NAME: warning[CODE]: MESSAGE``, also with ``--quiet``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mmduet.cli._transcript import OutputListener
from mmduet.events import SPEAK_POLICY, Output, SessionWarning
from mmduet.options import SpeakOptions
from mmduet.redaction import redact
from mmduet.text import to_printable

if TYPE_CHECKING:
    from mmduet.video.damage import Damage

DAMAGED_VIDEO = "damaged_video"


def print_warning(code: str, message: str, video: Path | str | None = None) -> None:
    """Print a warning, about ``video`` if it is given."""
    name = "" if video is None else f"{to_printable(redact(str(video)))}: "
    typer.echo(f"{name}warning[{code}]: {to_printable(message)}", err=True)


def warn_about_damage(video: Path | str, damage: Damage) -> None:
    """Print a warning if a video is damaged."""
    if damage:
        print_warning(DAMAGED_VIDEO, damage.describe(), video)


def print_session_warnings(video: Path | str) -> OutputListener:
    """Return a listener that prints the warnings of a session about ``video``."""

    def listen(output: Output) -> None:
        if isinstance(output, SessionWarning):
            print_warning(output.code, output.message, video)

    return listen


def warn_if_extreme(speak: SpeakOptions, frames: int | None) -> None:
    """Print a warning if the policy never fires, or at every one of ``frames`` frames."""
    reason = speak.find_extreme(frames)
    if reason is not None:
        print_warning(SPEAK_POLICY, reason)


def frame_count(duration: float | None, fps: float, max_frames: int | None = None) -> int | None:
    """Return the number of frames of a video at most, None if its duration is unknown."""
    counts = [] if duration is None else [math.ceil(duration * fps - 1e-6)]
    return min([*counts, *([] if max_frames is None else [max_frames])], default=None)
