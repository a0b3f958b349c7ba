"""Options that the task commands share, and their validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from mmduet.cli._loading import (
    MODEL_HELP,
    MODEL_METAVAR,
    PROFILE_HELP,
    LoadingOptions,
    MaxConcurrent,
)
from mmduet.cli._options import StrictVideo
from mmduet.cli._output_files import check_output_files
from mmduet.cli._session_options import SPEAK_HELP, SPEAK_METAVAR
from mmduet.errors import OptionError
from mmduet.options import Profile, SpeakOptions

FROM_MODEL = "the model's; paper: the paper's"


@dataclass(frozen=True, kw_only=True)
class TaskOptions(LoadingOptions):
    """The options of every task command; None where an option was not given."""

    videos: Annotated[
        list[Path], Argument(metavar="VIDEO", help="Video files; - reads standard input.", show_default=False)
    ]
    model: Annotated[str | None, Option(metavar=MODEL_METAVAR, help=MODEL_HELP, show_default="nano")] = None
    server: Annotated[
        str | None, Option(metavar="URL", help="Use the model of a running `mmduet serve` instead of loading one.")
    ] = None
    key: Annotated[
        str | None, Option(envvar="MMDUET_KEY", help="API key of the server, if it requires one.", show_default=False)
    ] = None
    encoding: Annotated[
        Literal["jpeg", "png", "raw"], Option(help="Encoding of frames that are sent to the server.")
    ] = "jpeg"
    fps: Annotated[float | None, Option(help="Frames per second to process.", show_default=FROM_MODEL)] = None
    profile: Annotated[Profile, Option(help=PROFILE_HELP)] = "fixed"
    at_once: MaxConcurrent = 8
    strict_video: StrictVideo = False
    output: Annotated[
        Path | None, Option(metavar="FILE.json", help="Write the results and all scores to this file.")
    ] = None
    plot: Annotated[
        Path | None,
        Option(
            metavar="FILE.png",
            help="Draw the result over film strip and scores (.png, .pdf or .svg); one file per video.",
        ),
    ] = None
    quiet: Annotated[bool, Option("--quiet", help="Display nothing but warnings and errors.")] = False

    @property
    def several(self) -> bool:
        """Whether there are several videos, and therefore one output file per video."""
        return len(self.videos) > 1

    @property
    def video_outputs(self) -> Mapping[str, Path | None]:
        """The output paths, by option, that are written once per video."""
        return {"--plot": self.plot}

    @property
    def writes_per_video(self) -> bool:
        """Whether files are written that have the names of the videos."""
        return any(path is not None for path in self.video_outputs.values())

    def path_for(self, path: Path, video: Path) -> Path:
        """Return the output path for a video: ``path`` for a single video, else with the video's name appended."""
        return path.with_name(f"{path.stem}-{video.stem}{path.suffix}") if self.several else path

    def check(self) -> None:
        """Raise ``OptionError`` for options that are invalid or contradict each other."""
        from mmduet.video.sampling import check_rate

        check_rate("--fps", self.fps)
        self._check_server()
        self._check_files()

    def _check_server(self) -> None:
        names = ("model", "adapter", "quantized", "quantized_tower", "device", "dtype", "attention", "kv_dtype")
        given = [name for name in names if getattr(self, name) not in (None, "auto")]
        if self.server is not None and given:
            option = f"--{given[0].replace('_', '-')}"
            raise OptionError(
                f"{option} and --server contradict each other, because the server loads its own model; give one of them"
            )

    def _check_files(self) -> None:
        if self.several and self.writes_per_video:
            self._check_unique_names()
        for video in self.videos:
            files = {option: path and self.path_for(path, video) for option, path in self.video_outputs.items()}
            check_output_files({"--output": self.output, **files}, *self.videos)

    def _check_unique_names(self) -> None:
        stems: dict[str, Path] = {}
        for video in self.videos:
            if video.stem in stems:
                raise OptionError(
                    f"{video} and {stems[video.stem]} have the same file name, so their output files would collide; "
                    "run the command once for each"
                )
            stems[video.stem] = video


@dataclass(frozen=True, kw_only=True)
class ReplyTaskOptions(TaskOptions):
    """The options of the tasks whose result is made of the model's replies."""

    speak: Annotated[
        str | None, Option(metavar=SPEAK_METAVAR, help=SPEAK_HELP, show_default=FROM_MODEL)
    ] = None  # fmt: skip
    subtitles: Annotated[
        Path | None, Option(metavar="FILE.vtt|.srt", help="Write the result as subtitles; one file per video.")
    ] = None

    @property
    def video_outputs(self) -> Mapping[str, Path | None]:
        """The output paths, by option, that are written once per video."""
        return {**super().video_outputs, "--subtitles": self.subtitles}

    def check(self) -> None:
        """Raise ``OptionError`` for options that are invalid or contradict each other."""
        if self.speak is not None:
            SpeakOptions.parse(self.speak)
        super().check()
