"""Options that all task commands share, and their validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from typer import Argument, Option

from mmduet.cli._output_files import check_output_files
from mmduet.cli._turns import check_text
from mmduet.errors import OptionError
from mmduet.options import Profile, SpeakOptions

MODELS_OWN = "the model's; paper: the paper's"

Videos = Annotated[list[Path], Argument(metavar="VIDEO...", help="Video files.", show_default=False)]
Model = Annotated[
    str | None, Option(metavar="NAME|DIR", help="A bundled model or a checkpoint directory.", show_default="nano")
]
ServerUrl = Annotated[
    str | None, Option(metavar="URL", help="Use the model of a running `mmduet serve` instead of loading one.")
]
Key = Annotated[str | None, Option(envvar="MMDUET_KEY", help="Key for the server.", show_default=False)]
Encoded = Annotated[Literal["jpeg", "png", "raw"], Option(help="Encoding of frames that are sent to the server.")]
Fps = Annotated[float | None, Option(help="Frames per second that are processed.", show_default=MODELS_OWN)]
Profiles = Annotated[Profile, Option(help="The model's recommended settings, or those of the paper.")]
Speak = Annotated[
    str | None, Option(metavar="threshold:V|sum:V", help="Speak policy.", show_default=MODELS_OWN)
]  # fmt: skip
Output = Annotated[Path | None, Option(metavar="FILE.json", help="Write results and scores as JSON.")]
Plot = Annotated[
    Path | None, Option(metavar="FILE.png", help="Draw the result over film strip and scores; one file per video.")
]
Subtitles = Annotated[
    Path | None, Option(metavar="FILE.vtt|.srt", help="Write the result as subtitles; one file per video.")
]  # fmt: skip
Quiet = Annotated[bool, Option("--quiet", help="Show nothing but errors.")]


@dataclass(frozen=True)
class TaskOptions:
    """The options that all task commands share; None where an option was not given."""

    videos: list[Path]
    model: str | None
    adapter: Path | None
    allow_pickle: bool
    quantized: Literal["int8", "nf4"] | None
    dtype: Literal["stored", "float32", "bfloat16", "float16"]
    server: str | None
    key: str | None
    encoding: Literal["jpeg", "png", "raw"]
    fps: float | None
    profile: Profile
    at_once: int
    output: Path | None
    plot: Path | None
    quiet: bool
    speak: str | None = None
    subtitles: Path | None = None
    cut: Path | None = None

    @classmethod
    def from_arguments(cls, values: Mapping[str, Any]) -> Self:
        """Return the shared options among a command's arguments. Raises ``OptionError`` if they are invalid."""
        options = cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})
        options.check()
        if values["query"] is not None:
            check_text("--query", values["query"])
        return options

    @property
    def several(self) -> bool:
        """Whether there are several videos, and therefore one output file per video."""
        return len(self.videos) > 1

    def named(self, path: Path, video: Path) -> Path:
        """Return the output path for a video: ``path`` for a single video, else with the video's name appended."""
        return path.with_name(f"{path.stem}-{video.stem}{path.suffix}") if self.several else path

    def check(self) -> None:
        """Raise ``OptionError`` for options that are invalid or contradict each other."""
        from mmduet.video.sampling import check_rate

        check_rate("--fps", self.fps)
        if self.speak is not None:
            SpeakOptions.parse(self.speak)
        here = {"--model": self.model, "--adapter": self.adapter, "--quantized": self.quantized}
        given = [option for option, value in here.items() if value is not None]
        if self.server is not None and given:
            raise OptionError(
                f"{given[0]} and --server contradict each other, because the server loads its own model; give one of them"
            )
        if self.several and (self.plot or self.subtitles or self.cut):
            self._check_unique_names()
        for video in self.videos:
            each = {"--plot": self.plot, "--subtitles": self.subtitles}
            named = {option: self.named(path, video) for option, path in each.items() if path is not None}
            check_output_files({"--output": self.output, **named}, *self.videos)

    def _check_unique_names(self) -> None:
        stems: dict[str, Path] = {}
        for video in self.videos:
            if video.stem in stems:
                raise OptionError(
                    f"{video} and {stems[video.stem]} have the same file name, so their output files would collide; "
                    "run the command once for each"
                )
            stems[video.stem] = video
