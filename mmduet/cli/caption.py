"""``mmduet caption``: what happens in a video, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmduet.cli._loading import Adapter, AllowPickle, Dtype, MaxConcurrent, Quantized
from mmduet.cli._task_options import (
    Encoded,
    Fps,
    Key,
    Model,
    Output,
    Plot,
    Profiles,
    Quiet,
    ServerUrl,
    Speak,
    Subtitles,
    TaskOptions,
    Videos,
)

if TYPE_CHECKING:
    from mmduet.cli._task_output import View
    from mmduet.tasks import Captions


def caption(
    videos: Videos,
    query: Annotated[
        str | None, Option(metavar="TEXT", help="Instruction for the model.", show_default="the model's own")
    ] = None,
    model: Model = None,
    adapter: Adapter = None,
    allow_pickle: AllowPickle = False,
    quantized: Quantized = None,
    dtype: Dtype = "float32",
    server: ServerUrl = None,
    key: Key = None,
    encoding: Encoded = "jpeg",
    fps: Fps = None,
    speak: Speak = None,
    profile: Profiles = "fixed",
    at_once: MaxConcurrent = 8,
    output: Output = None,
    plot: Plot = None,
    subtitles: Subtitles = None,
    quiet: Quiet = False,
) -> None:
    """Dense captioning: what happens in each VIDEO, from when to when.

    The exit status is 1 if some of several videos failed.
    """
    options = TaskOptions.from_arguments(locals())
    from mmduet.cli._task_output import run_and_report
    from mmduet.tasks import DenseCaptioning

    run_and_report(options, DenseCaptioning(query, profile), view())


def view() -> View[Captions]:
    """Show segments by time."""
    from mmduet.annotations.subtitles import Cue
    from mmduet.cli._task_output import View, seconds
    from mmduet.spans import CaptionedSpan
    from mmduet.viz.subtitle_timing import enforce_min_cue

    return View(
        columns=("start", "end", "caption"),
        rows=lambda result: [(seconds(s.start), seconds(s.end), s.caption) for s in result.segments],
        marks=lambda result: [CaptionedSpan(s.start, s.end, s.caption) for s in result.segments],
        cues=lambda result: list(enforce_min_cue(Cue.from_text(s.start, s.end, s.caption) for s in result.segments)),
    )
