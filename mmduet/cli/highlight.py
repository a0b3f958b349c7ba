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
    from mmduet.cli._task_output import View
    from mmduet.cli._task_running import VideoRun
    from mmduet.tasks import Highlights
    from mmduet.video.cutter import ClipSpec


def highlight(
    videos: Videos,
    query: Annotated[
        str | None,
        Option(metavar="TEXT", help="What the highlights are about.", show_default="whatever the model would describe"),
    ] = None,
    top: Annotated[int, Option(min=1, help="Maximum number of highlights.")] = 5,
    cut: Annotated[
        Path | None,
        Option(metavar="DIR", help="Write each highlight as an MP4 into this directory, and a reel of all."),
    ] = None,
    copy: Annotated[
        bool, Option("--copy", help="Cut without re-encoding; each clip then starts at the key frame before it.")
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

    The exit status is 1 if some of several videos failed.
    """
    options = TaskOptions.from_arguments(locals())
    if copy and cut is None:
        raise OptionError("--copy has no effect without --cut; add --cut DIR")
    if cut is not None:
        make_folder(cut)
    from mmduet.cli._task_output import run_and_report
    from mmduet.tasks import HighlightDetection

    run_and_report(options, HighlightDetection(query, top, profile), view(cut, copy))


def make_folder(folder: Path) -> None:
    """Create the directory. Raises ``OptionError`` if that is not possible."""
    from mmduet.files import as_option_error

    with as_option_error(folder):
        folder.mkdir(parents=True, exist_ok=True)


def view(cut: Path | None, copy: bool) -> View[Highlights]:
    """Show highlights by rank, and cut them if ``cut`` is given."""
    from mmduet.cli._task_output import View, seconds
    from mmduet.spans import CaptionedSpan

    def cut_out(run: VideoRun, result: Highlights) -> Sequence[str]:
        if cut is None or not result.top:
            return ()
        clips = clips_of(cut, run.video, result)
        taken = {video.resolve() for video in run.options.videos}
        for clip in clips:
            if clip.path.resolve() in taken:
                raise OptionError(f"--cut would write over {clip.path}, which is an input; give another directory")
        return write_clips(clips, run.video, copy)

    return View(
        columns=("rank", "start", "end", "score"),
        rows=lambda result: [
            (str(k), seconds(h.start), seconds(h.end), f"{h.score:.2f}") for k, h in enumerate(result.top, 1)
        ],
        marks=lambda result: [CaptionedSpan(h.start, h.end, f"score {h.score:.2f}") for h in result.top],
        more=cut_out,
    )


def clips_of(folder: Path, video: Path, result: Highlights) -> list[ClipSpec]:
    """Return the clips to write: ``NAME-highlight-1.mp4`` etc. by rank, ``NAME-reel.mp4`` in order of time."""
    from mmduet.video.cutter import ClipSpec

    spans = [(h.start, h.end) for h in result.top]
    clips = [ClipSpec(folder / f"{video.stem}-highlight-{k}.mp4", (span,)) for k, span in enumerate(spans, 1)]
    return [*clips, ClipSpec(folder / f"{video.stem}-reel.mp4", tuple(sorted(spans)))]


def write_clips(clips: Sequence[ClipSpec], video: Path, copy: bool) -> list[str]:
    """Write the clips and return a line about each."""
    from mmduet.video.cutter import copy_clip
    from mmduet.video.cutter import cut_clips as cut_exactly

    if copy:
        return [f"{clip.path}: {' and '.join(starts(clip, copy_clip(video, clip)))}" for clip in clips]
    cut_exactly(video, clips)
    return [str(clip.path) for clip in clips]


def starts(clip: ClipSpec, copied: Sequence[tuple[float, float]]) -> Iterator[str]:
    """Yield which seconds were copied: a copy starts at the key frame before the requested start."""
    from mmduet.cli._task_output import seconds

    for begin, end in copied:
        requested = next(start for start, _ in clip.spans if start >= begin - 1e-3)
        yield f"{seconds(begin)} to {seconds(end)} s (from the key frame before {seconds(requested)} s)"
