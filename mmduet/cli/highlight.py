"""``mmduet highlight``: the best moments of a video, and a file of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmduet.cli._options import takes_options
from mmduet.cli._task_options import TaskOptions
from mmduet.cli._turns import check_text
from mmduet.errors import OptionError
from mmduet.spans import Span

if TYPE_CHECKING:
    from mmduet.cli._task_output import View
    from mmduet.tasks import Highlights
    from mmduet.video.cutter import ClipSpec


@dataclass(frozen=True, kw_only=True)
class HighlightOptions(TaskOptions):
    """The options of ``mmduet highlight``."""

    query: Annotated[
        str | None,
        Option(metavar="TEXT", help="What the highlights are about.", show_default="whatever the model would describe"),
    ] = None
    top: Annotated[int, Option(min=1, help="Maximum number of highlights.")] = 5
    max_seconds: Annotated[
        float | None,
        Option(help="Maximum length of a highlight in seconds.", show_default="a quarter of the video, at most 10"),
    ] = None
    cut: Annotated[
        Path | None,
        Option(
            metavar="DIR", help="Write each highlight as an MP4 file into this directory, and a reel of all of them."
        ),
    ] = None
    copy: Annotated[
        bool,
        Option(
            "--copy",
            help="With --cut: copy instead of re-encoding, which is quicker; each clip then starts at the key frame before it.",
        ),
    ] = False

    @property
    def writes_per_video(self) -> bool:
        """Whether files are written that have the names of the videos."""
        return self.cut is not None or super().writes_per_video

    def check(self) -> None:
        """Raise ``OptionError`` for options that are invalid or contradict each other."""
        super().check()
        if self.query is not None:
            check_text("--query", self.query)
        if self.max_seconds is not None and not 0 < self.max_seconds < math.inf:
            raise OptionError(f"--max-seconds must be a number above 0, got {self.max_seconds}")
        if self.copy and self.cut is None:
            raise OptionError("--copy has no effect without --cut; add --cut DIR")


@takes_options(HighlightOptions)
def highlight(options: HighlightOptions) -> None:
    """Find the best moments of each VIDEO, the best first.

    The exit status is 1 if some of several videos failed.
    """
    options.check()
    from mmduet.cli._task_output import run_and_report
    from mmduet.tasks import HighlightDetection

    task = HighlightDetection(options.query, options.top, options.profile, options.max_seconds)
    with created_folder(options.cut):
        run_and_report(options, task, view(options))


@contextmanager
def created_folder(folder: Path | None) -> Iterator[None]:
    """Create the directory, if there is one, and delete it at the end if it did not exist and is empty.

    Raises ``OptionError`` if it cannot be created.
    """
    from mmduet.files import as_option_error

    if folder is None:
        yield
        return
    existed = folder.exists()
    with as_option_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if not existed:
            with suppress(OSError):  # not empty
                folder.rmdir()


def view(options: HighlightOptions) -> View[Highlights]:
    """Return the view of highlights: by rank. With ``--cut`` it also writes their clips."""
    from mmduet.cli._task_output import View, seconds
    from mmduet.spans import CaptionedSpan

    def write_highlights(video: Path, result: Highlights) -> Sequence[str]:
        if options.cut is None or not result.top:
            return ()
        clips = to_clip_specs(options.cut, video, result)
        inputs = {each.resolve() for each in options.videos}
        for clip in clips:
            if clip.path.resolve() in inputs:
                raise OptionError(f"--cut would write over {clip.path}, which is an input; give another directory")
        return [*write_clips(clips, video, options.copy), *describe_sound(video)]

    return View(
        columns=("rank", "start", "end", "score"),
        rows=lambda result: [
            (str(k), seconds(h.start), seconds(h.end), f"{h.score:.2f}") for k, h in enumerate(result.top, 1)
        ],
        marks=lambda result: [CaptionedSpan(h.start, h.end, f"score {h.score:.2f}") for h in result.top],
        postprocess=write_highlights,
    )


def to_clip_specs(folder: Path, video: Path, result: Highlights) -> list[ClipSpec]:
    """Return the clips to write: ``NAME-highlight-1.mp4`` etc. by rank, ``NAME-reel.mp4`` in order of time."""
    from mmduet.video.cutter import ClipSpec

    spans = [Span(h.start, h.end) for h in result.top]
    clips = [ClipSpec(folder / f"{video.stem}-highlight-{k}.mp4", (span,)) for k, span in enumerate(spans, 1)]
    return [*clips, ClipSpec(folder / f"{video.stem}-reel.mp4", tuple(sorted(spans)))]


def write_clips(clips: Sequence[ClipSpec], video: Path, copy: bool) -> list[str]:
    """Write the clips and return a line about each."""
    from mmduet.video.cutter import copy_clip, cut_clips

    if copy:
        return [f"{clip.path}: {' and '.join(describe_copied(clip, copy_clip(video, clip)))}" for clip in clips]
    cut_clips(video, clips)
    return [str(clip.path) for clip in clips]


def describe_sound(video: Path) -> list[str]:
    """Return a line if a sound track of the video cannot be decoded."""
    from mmduet.video.audio import describe_unreadable_audio

    remark = describe_unreadable_audio(video)
    return [] if remark is None else [remark]


def describe_copied(clip: ClipSpec, copied: Sequence[tuple[float, float]]) -> Iterator[str]:
    """Yield a text about each span in a copied clip, which starts at the key frame before the requested start."""
    from mmduet.cli._task_output import seconds

    for begin, end in copied:
        requested = next(start for start, _ in clip.spans if start >= begin - 1e-3)
        yield f"{seconds(begin)} to {seconds(end)} s (from the key frame before {seconds(requested)} s)"
