"""The picture of a session: scores over time with the turns of the user and the replies of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mmduet.events import Scores
from mmduet.options import SpeakOptions
from mmduet.text import to_printable
from mmduet.viz.film_strip import FilmStrip
from mmduet.viz.score_timeline import ScoreTimeline
from mmduet.viz.sheet import MAX_ENTRIES, ListEntry
from mmduet.viz.style import HEAD_COLOURS
from mmduet.viz.turn_flags import draw_turn_flags, flags_height
from mmduet.viz.video_plot import Panel, VideoPlot, save_video_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class TimedText(NamedTuple):
    """A query or a reply at ``time`` seconds."""

    time: float
    text: str


@dataclass(frozen=True)
class RunPlot:
    """What a session's picture shows; ``strip`` and ``scores`` have at least one frame."""

    title: str
    remark: str
    scores: Sequence[Scores]
    queries: Sequence[TimedText]
    replies: Sequence[TimedText]
    speak: SpeakOptions
    strip: FilmStrip


def save_run_plot(path: Path, plot: RunPlot) -> None:
    """Draw ``plot`` into ``path``, whose suffix is the format (png, pdf or svg). Raises ``OptionError`` if it cannot."""
    timeline, entries = _timeline(plot), list_turns(plot.queries, plot.replies)
    unlisted = [reply.time for reply in plot.replies[MAX_ENTRIES:]]
    flags = [entry for entry in entries if entry.end is None]

    def draw_flags(axes: Axes) -> None:
        draw_turn_flags(axes, flags, timeline.span, unlisted)

    panel = Panel(flags_height(flags, timeline.span), 0.0, draw_flags)
    save_video_plot(path, VideoPlot(plot.title, _describe_run(plot), plot.strip, timeline, entries, panel))


def list_turns(queries: Sequence[TimedText], replies: Sequence[TimedText]) -> list[ListEntry]:
    """Return queries (Q1, Q2, …) and replies (1, 2, …) in the order of time; replies beyond ``MAX_ENTRIES`` are one entry."""
    listed = replies[:MAX_ENTRIES]
    entries = [ListEntry(time, f"Q{k}", to_printable(text).strip(), True) for k, (time, text) in enumerate(queries, 1)]
    entries += [ListEntry(time, str(k), text, False) for k, (time, text) in enumerate(listed, 1)]
    entries.sort(key=lambda entry: (entry.time, not entry.is_query))
    if rest := replies[len(listed) :]:
        entries.append(ListEntry(rest[0].time, "•", f"and {len(rest)} more replies", False, rest[-1].time))
    return entries


def _timeline(plot: RunPlot) -> ScoreTimeline:
    speak = plot.speak
    return ScoreTimeline(
        times=[scores.time for scores in plot.scores],
        curves={head: [float(getattr(scores, head)) for scores in plot.scores] for head in HEAD_COLOURS},
        threshold=(speak.heads[0], speak.value) if speak.policy == "threshold" and len(speak.heads) == 1 else None,
        shaded_heads=speak.heads,
        query_times=[query.time for query in plot.queries],
        reply_times=[reply.time for reply in plot.replies],
    )


def _describe_run(plot: RunPlot) -> str:
    """Return the line below the title: the remark, and the numbers of frames and replies."""
    frames, replies = len(plot.scores), len(plot.replies)
    return f"{plot.remark}  ·  {frames} frame{'s' * (frames != 1)}  ·  {replies} repl{'y' if replies == 1 else 'ies'}"
