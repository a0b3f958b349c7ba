"""``mmduet caption``: what happens in a video, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmduet.cli._loading import Adapter, AtOnce, NumberType, Pickles, Quantized
from mmduet.cli._task_options import (
    Asked,
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
    Videos,
)

if TYPE_CHECKING:
    from mmduet.cli._task_showing import View
    from mmduet.tasks import Captions


def caption(
    videos: Videos,
    query: Annotated[str | None, Option(metavar="TEXT", help="Ask for this.", show_default="the model's own")] = None,
    model: Model = None,
    adapter: Adapter = None,
    allow_pickle: Pickles = False,
    quantized: Quantized = None,
    dtype: NumberType = "float32",
    server: ServerUrl = None,
    key: Key = None,
    encoding: Encoded = "jpeg",
    fps: Fps = None,
    speak: Speak = None,
    profile: Profiles = "fixed",
    at_once: AtOnce = 8,
    output: Output = None,
    plot: Plot = None,
    subtitles: Subtitles = None,
    quiet: Quiet = False,
) -> None:
    """Dense captioning: what happens in each VIDEO, from when to when.

    Exit status 1 if some of several videos could not be watched.
    """
    asked = Asked.among(locals())
    from mmduet.cli._task_showing import carry_out
    from mmduet.tasks import DenseCaptioning

    carry_out(asked, DenseCaptioning(query, profile), view())


def view() -> View[Captions]:
    """Segments, as they follow each other."""
    from mmduet.annotations.subtitles import Cue, apart
    from mmduet.cli._task_showing import View, seconds
    from mmduet.viz.task_plot import Mark

    return View(
        columns=("start", "end", "caption"),
        rows=lambda found: [(seconds(s.start), seconds(s.end), s.caption) for s in found.segments],
        marks=lambda found: [Mark(s.start, s.end, s.caption) for s in found.segments],
        cues=lambda found: list(apart(Cue.of(s.start, s.end, s.caption) for s in found.segments)),
    )
