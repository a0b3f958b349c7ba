"""What a user types while ``mmduet run`` and ``mmduet stream`` run: the line editor, the commands, and both in a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import MODEL, Command, check_subtitles, in_process, of_type, read_events, write_video
from live_server import run_test_server
from terminal_process import TerminalProcess, run_in_terminal

from mmduet.cli._line_editor import LineEditor
from mmduet.cli._typed_commands import COMMANDS, TypedCommands
from mmduet.errors import CapacityError, SessionClosedError
from mmduet.events import Context, Frame, Output, Query, Scores
from mmduet.model import load_model
from mmduet.options import SpeakOptions

SPEAK = SpeakOptions("sum", 2.0, ("informative", "relevance"), at_end=True)

# the line editor


@pytest.mark.parametrize(
    ("keys", "lines", "rest"),
    [
        (b"What?\n", ["What?"], ""),
        (b"one\rtwo\nthr", ["one", "two"], "thr"),
        ("größe?\r".encode(), ["größe?"], ""),
        (b"Whax\x7ft?\x08!\r", ["What!"], ""),
        (b"\x7f\x7fa\r", ["a"], ""),
        (b"a b c\x17\x17d", [], "a d"),
        (b"wrong\x15right", [], "right"),
        (b"a\x1b[Db\x1bOPc\x1b[3~d\x1b[1;5Ce", [], "abcde"),
        (b"a\x1bb", [], "ab"),
        (b"tab\tbell\x07null\x00", [], "tab bellnull"),
        (b"bad\xffbyte", [], "bad\N{REPLACEMENT CHARACTER}byte"),
        (b"\n\n", ["", ""], ""),
    ],
)
def test_keys_edit_a_line(keys: bytes, lines: list[str], rest: str) -> None:
    whole, bytewise = LineEditor(), LineEditor()
    assert list(whole.feed(keys)) == lines
    assert [line for k in range(len(keys)) for line in bytewise.feed(keys[k : k + 1])] == lines
    assert whole.text == bytewise.text == rest


def test_a_line_is_bounded() -> None:
    editor = LineEditor()
    list(editor.feed(b"x" * 100_000))
    assert len(editor.text) == 4000


# commands


class RecordedStream:
    """Records what is done with it, in order; ``error`` is raised instead."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.error: Exception | None = None

    def push(self, item: Frame | Query | Context) -> None:
        self._record(item)

    def speak_now(self) -> None:
        self._record("speak now")

    def update_speak(self, speak: SpeakOptions) -> None:
        self._record(speak)

    def end(self) -> None:
        self._record("end")

    def close(self) -> None:
        self._record("close")

    def outputs(self) -> Iterator[Output]:
        return iter(())

    def _record(self, call: object) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append(call)


def make_commands(speak: SpeakOptions = SPEAK) -> tuple[TypedCommands, RecordedStream]:
    stream = RecordedStream()
    return TypedCommands(stream, speak, lambda: stream.calls.append("quit")), stream


def test_a_line_is_a_query_at_the_latest_frame() -> None:
    commands, stream = make_commands()
    commands.on_output(Scores(6, 1.5, 0.1, 0.2))
    assert commands.execute("  What is this? \n") is None
    assert commands.execute("   ") is None
    assert stream.calls == [Query("What is this?", 1.5)]


def test_quiet_stops_unprompted_replies_and_answers_queries() -> None:
    commands, stream = make_commands()
    assert "/speak" in (commands.execute("/quiet") or "")
    commands.execute("What is this?")
    commands.execute("/speak")
    commands.execute("And now?")
    quiet, *others = stream.calls
    assert isinstance(quiet, SpeakOptions)
    assert (quiet.policy, quiet.at_end) == ("never", False)
    assert others == [Query("What is this?", 0.0), "speak now", SPEAK, Query("And now?", 0.0)]


def test_threshold_replaces_the_policy_and_stays_quiet() -> None:
    commands, stream = make_commands()
    assert commands.execute("/threshold 0.6") == "threshold 0.6 of informative + relevance"
    commands.execute("/quiet")
    assert (commands.execute("/threshold 0.7") or "").endswith("after /speak")
    commands.execute("/speak")
    used = [(call.policy, call.value) for call in stream.calls if isinstance(call, SpeakOptions)]
    assert [each for each in used if each[0] != "never"] == [("threshold", 0.6), ("threshold", 0.7)]
    assert used[1][0] == "never"
    assert "never lets the model speak" in (commands.execute("/threshold 2") or "")


def test_the_policy_never_is_explained() -> None:
    commands, _ = make_commands(SpeakOptions("never", 0.0))
    assert "/threshold 0.5" in (commands.execute("/speak") or "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/thresh 0.5", "unknown command /thresh, did you mean /threshold?"),
        ("/", "unknown command /"),
        ("/where is it?", "/help lists the commands"),
        ("/threshold", "/threshold takes a number, as in /threshold 0.6, got none"),
        ("/threshold 0,6", "got 0,6"),
        ("/threshold nan", "must be at least 0"),
        ("/threshold -1", "must be at least 0"),
        ("/now please", "/now takes no value, got 'please'"),
    ],
)
def test_wrong_commands_are_explained_and_do_nothing(line: str, message: str) -> None:
    commands, stream = make_commands()
    assert message in (commands.execute(line) or "")
    assert stream.calls == []


def test_help_lists_every_command_and_quit_ends_the_session() -> None:
    commands, stream = make_commands()
    text = commands.execute("/help") or ""
    assert all(f"\n  {name} " in text for name in COMMANDS)
    assert commands.execute("/quit") is None
    assert commands.execute("/now") is None
    assert stream.calls == ["quit", "speak now"]


def test_a_line_that_cannot_be_sent_is_reported() -> None:
    commands, stream = make_commands()
    stream.error = SessionClosedError("session 1 has ended")
    assert commands.execute("What?") == "not sent, because the session is ending: What?"
    stream.error = CapacityError("512 of 512 tokens are used; shorten it")
    assert commands.execute("What?") == "512 of 512 tokens are used; shorten it"


# in a terminal


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("long") / "long.mp4", 300, fps=4)


SILENT = ("--fps", "4", "--speak", "never", "--max-new-tokens", "4", "--no-query")


def type_conversation(terminal: TerminalProcess) -> None:
    """Type two queries and several commands, while a session runs that speaks only when it is asked to."""
    terminal.wait_for("frames in view")
    terminal.wait_for("type a question, or /help")
    terminal.type("What is tihs")
    terminal.wait_for("> What is tihs▌")
    assert not terminal.echoes
    terminal.type("\x7f\x7f\x7fhis?\r")
    terminal.wait_for("user       What is this?")
    terminal.type("/nwo\r")
    terminal.wait_for("unknown command /nwo, did you mean /now?")
    terminal.type("/now\r")
    terminal.wait_for("s  assistant")
    terminal.type("/threshold 0.6\r")
    terminal.wait_for("threshold 0.6 of informative")
    terminal.type("/quiet\r")
    terminal.wait_for("quiet: queries are answered")
    terminal.type("Answer at once.\r")
    terminal.wait_for("user       Answer at once.")
    terminal.wait_for("2 replies")


def check_log(log: Path) -> None:
    """Check the events of that conversation."""
    logged = read_events(log)
    queries = of_type(logged, "query_read")
    assert [query["query"]["text"] for query in queries] == ["What is this?", "Answer at once."]
    assert 0 <= queries[0]["time"] <= queries[1]["time"] < 300
    assert [reply["forced"] for reply in of_type(logged, "reply")] == [True, True]


@pytest.mark.slow
def test_ctrl_c_after_a_conversation_keeps_the_files_and_restores_the_terminal(
    long_video: Path, tmp_path: Path
) -> None:
    log, subtitles = tmp_path / "a.jsonl", tmp_path / "a.vtt"
    files = ("--output", log, "--subtitles", subtitles)
    with run_in_terminal("run", long_video, *MODEL, *SILENT, "--realtime", *files) as terminal:
        type_conversation(terminal)
        terminal.type("half a line\x03")
        assert terminal.wait() == 130, terminal.display
        assert terminal.settings == terminal.settings_before
        assert "Traceback" not in terminal.display
        assert "s of video, 2 replies" in terminal.display
    check_log(log)
    assert not of_type(read_events(log), "stream_ended")
    check_subtitles(subtitles)
    assert not list(tmp_path.glob(".*"))


def test_stream_takes_the_same_lines_and_ends_with_quit(long_video: Path, tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    with run_test_server(load_model("random:tiny")) as server:
        command = ("stream", long_video, "--server", f"127.0.0.1:{server.port}", *SILENT, "--output", log)
        with run_in_terminal(*command) as terminal:
            type_conversation(terminal)
            terminal.type("/quit\r")
            assert terminal.wait() == 0, terminal.display
            assert terminal.settings == terminal.settings_before
            assert "s of video, 2 replies" in terminal.display
    check_log(log)
    logged = read_events(log)
    assert logged[-1]["type"] == "stream_ended"
    assert logged[-1]["frames"] == len(of_type(logged, "scores"))


@pytest.mark.slow
def test_without_a_display_the_terminal_echoes(long_video: Path, tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    with run_in_terminal("run", long_video, *MODEL, *SILENT, "--realtime", "--quiet", "--output", log) as terminal:
        terminal.type("Typed early.\r/threshold 0.6\r")
        terminal.wait_for("threshold 0.6 of informative")
        assert terminal.echoes
        terminal.wait_until(lambda: "query_read" in log.read_text())
        terminal.type("/quit\r")
        assert terminal.wait() == 0, terminal.display
        assert terminal.settings == terminal.settings_before
    assert [query["query"]["text"] for query in of_type(read_events(log), "query_read")] == ["Typed early."]


def test_standard_input_is_not_read_unless_it_is_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], video: Path
) -> None:
    run: Command = in_process(monkeypatch, capsys, "run")
    before, (reading, writing) = os.dup(0), os.pipe()
    os.dup2(reading, 0)
    try:
        os.write(writing, b"What is this?\n/quit\n")
        os.close(writing)
        done = run(video, *MODEL, *SILENT)
        assert os.read(0, 100) == b"What is this?\n/quit\n"
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(reading)
    assert (done.status, done.out) == (0, "")
