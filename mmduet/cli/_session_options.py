"""Options that ``run`` and ``stream`` share: the source, the turns of the session, and what is displayed and written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from mmduet.cli._options import StrictVideo
from mmduet.cli._output_files import check_output_files
from mmduet.cli._turns import parse_turns
from mmduet.errors import OptionError
from mmduet.events import Context, Query

VIDEO_HELP = (
    "A file, - for standard input, webcam[:N], screen, or an rtsp:// or http(s):// address of a camera, stream or file."
)
TURN_METAVAR = "TEXT[@SECONDS]"
WINDOW_METAVAR = "N|SECONDSs|none"
SPEAK_METAVAR = "threshold:V|sum:V|never"
SPEAK_HELP = (
    "When to speak: if the score of a frame is above V (from 0 to 1), if the sum of the scores since the last reply is above "
    "V, or never."
)
HEADS_HELP = (
    "The scores that --speak uses: informative (something new happens), relevance (the frame matches the query), or both, "
    "whose sum then counts."
)
WINDOW_HELP = "How much the model remembers: a number of frames, a duration such as 6s, or none for no limit."
KEEP_HELP = "Keep the model's replies in its memory, or remove each one when it is complete."
TOKENS_HELP = "Maximum length of a reply, in tokens (parts of words)."
PENALTY_HELP = "Values above 1 make repetition within a reply less likely."


@dataclass(frozen=True, kw_only=True)
class TurnOptions:
    """The turns of the user."""

    query: Annotated[
        list[str] | None,
        Option(
            metavar=TURN_METAVAR,
            help="Ask or instruct this from the beginning, or from this time of the video on; repeatable.",
        ),
    ] = None
    no_query: Annotated[
        bool,
        Option(
            "--no-query",
            help="Ask nothing, not even the query that the model has by default; it may then speak at once.",
        ),
    ] = False
    context: Annotated[
        list[str] | None,
        Option(
            metavar=TURN_METAVAR,
            help="Show this text to the model at this time, such as a line of a transcript; repeatable.",
        ),
    ] = None

    def parse_turns(self) -> list[Query | Context]:
        """Return context turns, then queries. Raises ``OptionError`` for invalid ones."""
        turns: list[Query | Context] = [*parse_turns("--context", self.context, Context)]
        turns += parse_turns("--query", self.query, Query)
        if self.no_query and self.query:
            raise OptionError("--no-query and --query contradict each other; give one of them")
        return turns


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """The source, and how much of it is processed."""

    video: Annotated[str, Argument(metavar="VIDEO", help=VIDEO_HELP, show_default=False)]
    transport: Annotated[Literal["tcp", "udp"], Option(help="Transport protocol of an RTSP camera.")] = "tcp"
    seconds: Annotated[
        float | None, Option(help="Stop after this number of seconds of video.", show_default="at the end")
    ] = None

    def check_source(self) -> None:
        """Raise ``OptionError`` for a duration that is not positive."""
        if self.seconds is not None and not self.seconds > 0:
            raise OptionError(f"--seconds must be greater than 0, got {self.seconds}")

    def limit(self, duration: float | None) -> float | None:
        """Return how many seconds of a source of this duration are processed at most; None if that is unknown."""
        return min((end for end in (duration, self.seconds) if end is not None), default=None)


@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """What is displayed and written."""

    output: Annotated[
        Path | None,
        Option(metavar="FILE.jsonl", help="Write scores, queries and replies to this file, one JSON object per line."),
    ] = None
    plot: Annotated[
        Path | None, Option(metavar="FILE.png", help="Draw scores and replies over time (.png, .pdf or .svg).")
    ] = None
    subtitles: Annotated[
        Path | None, Option(metavar="FILE.vtt|.srt", help="Write the replies as WebVTT or SubRip subtitles.")
    ] = None
    strict_video: StrictVideo = False
    scores: Annotated[bool, Option("--scores", help="Display also a line with the scores of every frame.")] = False
    quiet: Annotated[bool, Option("--quiet", help="Display nothing but warnings and errors.")] = False

    def check_files(self, video: str) -> None:
        """Raise ``OptionError`` for files that cannot be written, or that would overwrite ``video``."""
        files = {"--output": self.output, "--plot": self.plot, "--subtitles": self.subtitles}
        check_output_files(files, Path(video))
