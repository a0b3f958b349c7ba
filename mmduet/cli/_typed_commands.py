"""What a user types while a session runs: queries, and commands that begin with a slash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from mmduet.errors import MmduetError, OptionError, SessionClosedError
from mmduet.events import Output, Query, Scores
from mmduet.options import SpeakOptions
from mmduet.text import did_you_mean

if TYPE_CHECKING:
    from mmduet.tasks.streaming import InteractiveStream

COMMANDS = {
    "/now": "reply now, regardless of the speak policy",
    "/quiet": "stop unprompted replies; a query is then answered at once",
    "/speak": "allow unprompted replies again",
    "/threshold": "speak when the score of a frame is above a value, as in /threshold 0.6",
    "/quit": "end the session and write its files",
    "/help": "list the commands",
}
HINT = "type a question, or /help"
HELP = "\n".join(
    ["A line without a slash is a query, read before the next frame. Commands:"]
    + [f"  {name:<12}{meaning}" for name, meaning in COMMANDS.items()]
)


class TypedCommands:
    """Executes typed lines on a stream; ``speak`` are its speak options, ``quit_session`` ends it.

    Lines come from one thread, outputs from another one.
    """

    def __init__(self, stream: InteractiveStream, speak: SpeakOptions, quit_session: Callable[[], None]) -> None:
        self._stream, self._speak, self._quit = stream, speak, quit_session
        self._is_quiet = False
        self._time = 0.0  # of the latest scored frame

    def on_output(self, output: Output) -> None:
        """Follow the stream, so that a query is asked about the latest scored frame."""
        if isinstance(output, Scores):
            self._time = output.time

    def execute(self, line: str) -> str | None:
        """Execute a line and return a message for the user, if there is one; errors are messages."""
        text = line.strip()
        if not text:
            return None
        try:
            if text.startswith("/"):
                return self._run_command(*text.split(maxsplit=1))
            self._ask(text)
        except SessionClosedError:
            return f"not sent, because the session is ending: {text}"
        except MmduetError as error:
            return str(error)
        return None

    def _ask(self, text: str) -> None:
        self._stream.push(Query(text, self._time))
        if self._is_quiet:
            self._stream.speak_now()

    def _run_command(self, name: str, value: str = "") -> str | None:
        if name not in COMMANDS:
            return f"unknown command {name}{did_you_mean(name, COMMANDS)} /help lists the commands"
        if value and name != "/threshold":
            return f"{name} takes no value, got {value!r}; a query does not begin with a slash"
        match name:
            case "/now":
                self._stream.speak_now()
            case "/quiet":
                return self._set_quiet()
            case "/speak":
                return self._allow_speaking()
            case "/threshold":
                return self._set_threshold(value)
            case "/quit":
                self._quit()
            case "/help":
                return HELP
        return None

    def _set_quiet(self) -> str:
        self._stream.update_speak(replace(self._speak, policy="never", at_end=False))
        self._is_quiet = True
        return "quiet: queries are answered, nothing else; /speak allows unprompted replies again"

    def _allow_speaking(self) -> str:
        self._stream.update_speak(self._speak)
        self._is_quiet = False
        if self._speak.policy == "never":
            return "the speak policy is never: it allows no unprompted replies; set a threshold, as in /threshold 0.5"
        return f"speaks without being asked: {self._describe()}"

    def _set_threshold(self, text: str) -> str:
        try:
            value = float(text)
        except ValueError:
            raise OptionError(f"/threshold takes a number, as in /threshold 0.6, got {text or 'none'}") from None
        speak = replace(self._speak, policy="threshold", value=value)
        if not self._is_quiet:
            self._stream.update_speak(speak)
        self._speak = speak
        note = speak.find_extreme()
        message = self._describe() + (f" ({note})" if note is not None else "")
        return f"{message}, after /speak" if self._is_quiet else message

    def _describe(self) -> str:
        speak = self._speak
        return f"{speak.policy} {speak.value:g} of {' + '.join(speak.heads)}"
