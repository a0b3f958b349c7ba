"""``mmduet highlight``: the best moments of a video, and a file of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
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
    TaskOptions,
    Videos,
)
from mmduet.errors import OptionError

if TYPE_CHECKING:
    from mmduet.cli._task_running import VideoRun
    from mmduet.cli._task_showing import View
    from mmduet.tasks import Highlights
    from mmduet.video.cutter import ClipSpec


def highlight(
    videos: Videos,
    query: Annotated[
        str | None, Option(metavar="TEXT", help="What they are to be about.", show_default="what is worth telling")
    ] = None,
    top: Annotated[int, Option(min=1, help="Maximum number of highlights.")] = 5,
    cut: Annotated[Path | None, Option(metavar="DIR", help="Write each as an mp4 there, and a reel of all.")] = None,
    copy: Annotated[
        bool, Option("--copy", help="Cut without encoding: each then starts at the key frame before.")
    ] = False,
    model: Model = None,
    adapter: Adapter = None,
    allow_pickle: AllowPickle = False,
    quantized: Quantized = None,
    dtype: Dtype = "float32",
    server: ServerUrl = None,
    key: Key = None,
    encoding: Encoded = "jpeg",
    fps: Fps = None,
    profile: Profiles = "fixed",
    at_once: MaxConcurrent = 8,
    output: Output = None,
    plot: Plot = None,
    quiet: Quiet = False,
) -> None:
    """Highlights: the best moments of each VIDEO, the best first.

    Exit status 1 if some of several videos could not be watched.
    """
    asked = TaskOptions.from_arguments(locals())
    if copy and cut is None:
        raise OptionError("--copy says how to cut, and nothing is to be cut; give --cut DIR as well")
    if cut is not None:
        make_folder(cut)
    from mmduet.cli._task_showing import run_and_report
    from mmduet.tasks import HighlightDetection

    run_and_report(asked, HighlightDetection(query, top, profile), view(cut, copy))


def make_folder(folder: Path) -> None:
    """Raise ``OptionError`` where files cannot be written to it."""
    from mmduet.files import as_option_error

    with as_option_error(folder):
        folder.mkdir(parents=True, exist_ok=True)


def view(cut: Path | None, copy: bool) -> View[Highlights]:
    """Highlights by rank; they are cut where that was asked for."""
    from mmduet.cli._task_showing import View, seconds
    from mmduet.spans import CaptionedSpan

    def cut_out(viewing: VideoRun, found: Highlights) -> Sequence[str]:
        if cut is None or not found.top:
            return ()
        clips = clips_of(cut, viewing.video, found)
        taken = {video.resolve() for video in viewing.options.videos}
        for clip in clips:
            if clip.path.resolve() in taken:
                raise OptionError(f"--cut would write over {clip.path}, which is to be watched; give another folder")
        return write_clips(clips, viewing.video, copy)

    return View(
        columns=("rank", "start", "end", "score"),
        rows=lambda found: [
            (str(k), seconds(h.start), seconds(h.end), f"{h.score:.2f}") for k, h in enumerate(found.top, 1)
        ],
        marks=lambda found: [CaptionedSpan(h.start, h.end, f"score {h.score:.2f}") for h in found.top],
        more=cut_out,
    )


def clips_of(folder: Path, video: Path, found: Highlights) -> list[ClipSpec]:
    """``NAME-highlight-1.mp4`` and so on by rank, ``NAME-reel.mp4`` in order of time."""
    from mmduet.video.cutter import ClipSpec

    spans = [(h.start, h.end) for h in found.top]
    clips = [ClipSpec(folder / f"{video.stem}-highlight-{k}.mp4", (span,)) for k, span in enumerate(spans, 1)]
    return [*clips, ClipSpec(folder / f"{video.stem}-reel.mp4", tuple(sorted(spans)))]


def write_clips(clips: Sequence[ClipSpec], video: Path, copy: bool) -> list[str]:
    """Returns what was written, in words."""
    from mmduet.video.cutter import copy_clip
    from mmduet.video.cutter import cut_clips as cut_exactly

    if copy:
        return [f"{clip.path}: {' and '.join(starts(clip, copy_clip(video, clip)))}" for clip in clips]
    cut_exactly(video, clips)
    return [str(clip.path) for clip in clips]


def starts(clip: ClipSpec, copied: Sequence[tuple[float, float]]) -> Iterator[str]:
    """What was copied instead of what was wanted: a copy starts at the key frame before."""
    from mmduet.cli._task_showing import seconds

    for begin, end in copied:
        wanted = next(start for start, _ in clip.spans if start >= begin - 1e-3)
        yield f"{seconds(begin)} to {seconds(end)} s (from the key frame before {seconds(wanted)} s)"
