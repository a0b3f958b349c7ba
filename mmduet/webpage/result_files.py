"""Writes the files of a result: captions as WebVTT, clips and a reel of highlights, a film strip with spans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmduet.annotations.subtitles import Cue, shift_cues, write_subtitles
from mmduet.pipelines.jobs import VideoResult
from mmduet.spans import CaptionedSpan, Span
from mmduet.tasks import Answers, Captions, GroundingResult, Highlights
from mmduet.video.cutter import ClipSpec, cut_clips
from mmduet.viz.film_strip import FilmStrip
from mmduet.viz.run_plot import TimedText
from mmduet.viz.subtitle_timing import MAX_REPLY_SECONDS, enforce_min_cue
from mmduet.viz.task_plot import TaskPlot, save_task_plot

CAPTIONS, FILM_STRIP, REEL = "captions.vtt", "film-strip.png", "reel.mp4"
MEDIA_TYPES = {".vtt": "text/vtt; charset=utf-8", ".png": "image/png", ".mp4": "video/mp4"}


@dataclass(frozen=True)
class FileRequest:
    """What the files of a result are made from, and where they are written.

    ``name`` is the video's for display, ``threshold`` the one of grounding. ``on_time`` is called while clips are cut, with the
    time up to which the video has been read; what it raises ends the work.
    """

    folder: Path
    name: str
    result: VideoResult[Path, Any]
    strip: FilmStrip
    threshold: float
    on_time: Callable[[float], None]


def write_files(request: FileRequest) -> Sequence[Path]:
    """Write the files of a result and return them. Raises ``MmduetError``."""
    match request.result.output:
        case Captions() as captions:
            return [_write_cues(request, (Cue.from_text(s.start, s.end, s.caption) for s in captions.segments))]
        case Answers() as answers:
            cues = (Cue.from_text(a.start, a.end, a.text) for a in answers.answers)
            return [_write_cues(request, cues, MAX_REPLY_SECONDS)]
        case GroundingResult() as grounding:
            return _draw_film_strip(request, grounding)
        case Highlights() as highlights:
            return _cut_highlights(request, highlights)
    return []


def span_file(rank: int) -> str:
    """Return the name of the clip of a highlight; ``rank`` is its place in ``Highlights.top``, counted from 1."""
    return f"span-{rank}.mp4"


def _write_cues(request: FileRequest, cues: Iterable[Cue], *min_seconds: float) -> Path:
    """Write WebVTT for the video's own clock, as players of the uploaded file count."""
    path, result = request.folder / CAPTIONS, request.result
    duration = None if result.stream is None else result.stream.duration
    start = 0.0 if result.info is None else result.info.start
    write_subtitles(path, shift_cues(enforce_min_cue(cues, *min_seconds), duration, start))
    return path


def _draw_film_strip(request: FileRequest, grounding: GroundingResult) -> Sequence[Path]:
    stream = request.result.stream
    if stream is None or not stream.scores:
        return []
    spans = [
        CaptionedSpan(s.start, s.end, f"relevance {s.score:.2f}{', the best' if s == grounding.best else ''}")
        for s in grounding.spans
    ]
    plot = TaskPlot(
        title=request.name,
        remark=f"temporal grounding by {request.result.model}",
        times=stream.times,
        curves={"relevance": stream.mean_scores(("relevance",))},
        threshold=("relevance", request.threshold),
        queries=[TimedText(0.0, grounding.query)],
        spans=spans,
        strip=request.strip,
    )
    path = request.folder / FILM_STRIP
    save_task_plot(path, plot)
    return [path]


def _cut_highlights(request: FileRequest, highlights: Highlights) -> Sequence[Path]:
    """Write a clip of each highlight, except those without duration, and a reel of all in order of time."""
    spans = {rank: Span(h.start, h.end) for rank, h in enumerate(highlights.top, 1) if h.end > h.start}
    if not spans:
        return []
    clips = [ClipSpec(request.folder / span_file(rank), (span,)) for rank, span in spans.items()]
    clips.append(ClipSpec(request.folder / REEL, tuple(sorted(spans.values()))))
    cut_clips(request.result.video, clips, on_time=request.on_time)
    return [clip.path for clip in clips]
