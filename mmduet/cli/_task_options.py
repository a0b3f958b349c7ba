"""What the commands of the tasks all ask, and what of it cannot be done; knows no task, no model and no server."""

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

Videos = Annotated[list[Path], Argument(metavar="VIDEO...", help="The videos to watch.", show_default=False)]
Model = Annotated[
    str | None, Option(metavar="NAME|DIR", help="A bundled model or a checkpoint's directory.", show_default="nano")
]
ServerUrl = Annotated[str | None, Option(metavar="URL", help="Have `mmduet serve` watch, instead of a model here.")]
Key = Annotated[str | None, Option(envvar="MMDUET_KEY", help="Key for the server.", show_default=False)]
Encoded = Annotated[Literal["jpeg", "png", "raw"], Option(help="How frames travel to the server.")]
Fps = Annotated[float | None, Option(help="Frames watched per second.", show_default=MODELS_OWN)]
Profiles = Annotated[Profile, Option(help="As the model is best run, or as the paper ran the task.")]
Speak = Annotated[
    str | None, Option(metavar="threshold:V|sum:V", help="When to speak.", show_default=MODELS_OWN)
]  # fmt: skip
Output = Annotated[Path | None, Option(metavar="FILE.json", help="Write what was found, and every score, as JSON.")]
Plot = Annotated[Path | None, Option(metavar="FILE.png", help="Draw it over film and scores; of several videos each.")]
Subtitles = Annotated[
    Path | None, Option(metavar="FILE.vtt|.srt", help="Write it as subtitles; for several videos each.")
]  # fmt: skip
Quiet = Annotated[bool, Option("--quiet", help="Show nothing but errors.")]


@dataclass(frozen=True)
class TaskOptions:
    """The command line as it was given, as far as all tasks have it; None where nothing was said."""

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
        """Those of a command's arguments that are asked by all; refused, with ``OptionError``, where they cannot be used."""
        asked = cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})
        asked.check()
        if values["query"] is not None:
            check_text("--query", values["query"])
        return asked

    @property
    def several(self) -> bool:
        """Whether there is more than one video, and so more than one file of a kind."""
        return len(self.videos) > 1

    def named(self, path: Path, video: Path) -> Path:
        """What ``path`` is called for one of the videos: as it is where there is only one, else with the video's name."""
        return path.with_name(f"{path.stem}-{video.stem}{path.suffix}") if self.several else path

    def check(self) -> None:
        """Raise ``OptionError`` for what cannot be done, before anything is."""
        from mmduet.video.sampling import check_rate

        check_rate("--fps", self.fps)
        if self.speak is not None:
            SpeakOptions.parse(self.speak)
        here = {"--model": self.model, "--adapter": self.adapter, "--quantized": self.quantized}
        given = [option for option, value in here.items() if value is not None]
        if self.server is not None and given:
            raise OptionError(
                f"{given[0]} and --server contradict each other: the server has its own; give one of them"
            )
        if self.several and (self.plot or self.subtitles or self.cut):
            self._refuse_names_that_are_not_their_own()
        for video in self.videos:
            each = {"--plot": self.plot, "--subtitles": self.subtitles}
            named = {option: self.named(path, video) for option, path in each.items() if path is not None}
            check_output_files({"--output": self.output, **named}, *self.videos)

    def _refuse_names_that_are_not_their_own(self) -> None:
        stems: dict[str, Path] = {}
        for video in self.videos:
            if video.stem in stems:
                raise OptionError(
                    f"{video} and {stems[video.stem]} would give files of one name; watch them in two calls"
                )
            stems[video.stem] = video
