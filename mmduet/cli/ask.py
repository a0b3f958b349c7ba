"""``mmduet ask``: a question about a video, and every answer with its time."""

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
from mmduet.cli._watching import parse_timed

if TYPE_CHECKING:
    from mmduet.cli._task_showing import View
    from mmduet.tasks import Answers


def ask(
    videos: Videos,
    query: Annotated[str, Option(metavar="TEXT[@SECONDS]", help="The question, and when.", show_default=False)],
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
    """Question answering: every answer to a question about each VIDEO, with its time. What is said again lasts.

    Exit status 1 if some of several videos could not be watched.
    """
    asked = Asked.among(locals())
    question, at = parse_timed("--query", query)
    from mmduet.cli._task_showing import carry_out
    from mmduet.tasks import QuestionAnswering

    carry_out(asked, QuestionAnswering(question, at, profile), view())


def view() -> View[Answers]:
    """Answers by time."""
    from mmduet.annotations.subtitles import LONGEST_CUE, Cue, apart
    from mmduet.cli._task_showing import View, seconds
    from mmduet.viz.task_plot import Mark

    return View(
        columns=("from", "to", "answer"),
        rows=lambda found: [(seconds(a.start), seconds(a.end), a.text) for a in found.answers],
        marks=lambda found: [Mark(a.start, a.end, a.text) for a in found.answers],
        cues=lambda found: list(apart((Cue.of(a.start, a.end, a.text) for a in found.answers), LONGEST_CUE)),
    )
