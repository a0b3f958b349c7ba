"""Exports and bounded memory of the live view's modules, in a real browser."""

from __future__ import annotations

import ast
import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from live_page import LivePage, open_live_page, run_live_server
from playwright.sync_api import Browser

from mmduet.cli._help import build_command, walk
from mmduet.cli.main import app
from mmduet.cli.run import RunOptions

RUN: Any = dict(walk((), build_command(app)))[("run",)]
SPEAK = {
    "policy": "threshold",
    "value": 0.6,
    "heads": ["informative", "relevance"],
    "min_interval": 0.8,
    "repeat_window": 5,
}
RECORD = {
    "source": {"kind": "clip", "url": "clip:crossing", "speed": 1},
    "server": "ws://127.0.0.1:8765/v1/realtime",
    "model": "nano",
    "maxOutputTokens": 48,
    "duet": {"fps": 4, "speak": SPEAK, "keep_replies": False, "window": 16, "adapter": None, "scores": True},
    "queries": [
        {"text": "Narrate the scene.", "time": 0},
        {"text": 'It\'s "$HOME" `x`; what\nis at 5@3?', "time": 12.504},
        {"text": "-- mail me@7", "time": 0},
    ],
}


@pytest.fixture(scope="module")
def live(browser: Browser) -> Iterator[LivePage]:
    with run_live_server({}) as server, open_live_page(browser, server) as page:
        yield page


def call(live: LivePage, module: str, script: str, argument: Any = None) -> Any:
    """Run a script with a module ``m`` of the page and an argument ``a``."""
    wrapped = f"""async (a) => {{
        const m = await import(new URL("static/{module}", document.baseURI).href);
        return (() => {{ {script} }})();
    }}"""
    return live.page.evaluate(wrapped, argument)


def parse_command(text: str) -> tuple[list[str], dict[str, Any]]:
    """Return the comment lines of a command, and what the command line parser makes of it."""
    comments = [line for line in text.splitlines() if line.startswith("#")]
    words = shlex.split(text.partition("mmduet ")[2].replace("\\\n", ""))
    assert words[0] == "run"
    return comments, RUN.make_context("run", words[1:]).params


def test_command_line_is_parsed_with_the_same_settings(live: LivePage) -> None:
    text = call(live, "export_session.js", "return m.toCommand(a);", RECORD)
    comments, values = parse_command(text)
    assert comments == ["# Not available as an option: repeat_window 5 s."]
    options = RunOptions(**values)
    assert str(options.video) == "demo/clips/crossing.mp4"
    assert (options.fps, options.speak, options.score_heads) == (4, "threshold:0.6", "informative,relevance")
    assert (options.window, options.min_interval, options.max_new_tokens, options.realtime) == ("16", 0.8, 48, True)
    turns = options.parse_turns()
    assert [(turn.text, turn.time) for turn in turns] == [
        ("Narrate the scene.", 0), ('It\'s "$HOME" `x`; what\nis at 5@3?', 12.5), ("-- mail me@7", 0)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "video"),
    [
        ({"kind": "camera"}, "webcam"),
        ({"kind": "screen"}, "screen"),
        ({"kind": "upload", "url": "upload:8f", "file": "-my video's.mkv"}, "./-my video's.mkv"),
        ({"kind": "url", "url": "rtsp://me:secret@camera/1"}, "rtsp://USER:PASSWORD@camera/1"),
    ],
)
def test_source_is_named_as_the_command_line_names_it(live: LivePage, source: dict[str, Any], video: str) -> None:
    duet = {"speak": {"policy": "never", "value": 0, "heads": ["informative"]}, "window": None, "fps": None}
    text = call(
        live, "export_session.js", "return m.toCommand(a);", {**RECORD, "source": source, "duet": duet, "queries": []}
    )
    _, values = parse_command(text)
    assert str(values["video"]).replace("rtsp:/USER", "rtsp://USER").removeprefix("./") == video.removeprefix("./")
    assert (values["speak"], values["window"], values["no_query"]) == ("never", "none", True)
    assert "secret" not in text


def test_python_code_has_the_settings_and_queries(live: LivePage) -> None:
    text = call(live, "export_session.js", "return m.toPython(a);", RECORD)
    tree = ast.parse(text)
    values = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
    duet = ast.literal_eval(values["duet"])
    assert duet == {"fps": None, "speak": SPEAK, "keep_replies": False, "window": 16, "adapter": None}
    turns = [
        [ast.literal_eval(each) for each in call.args]
        for call in ast.walk(values["turns"])
        if isinstance(call, ast.Call)
    ]
    assert turns == [["Narrate the scene.", 0], ['It\'s "$HOME" `x`; what\nis at 5@3?', 12.5], ["-- mail me@7", 0]]


def test_log_is_bounded_and_has_no_resume_token(live: LivePage) -> None:
    script = """
        const log = new m.EventLog(1000);
        log.add({type: "session.created", session: {id: "s", duet: {fps: 4, resume_token: "secret"}}});
        for (let i = 0; i < 5000; i++) log.add({type: "input_frame.scored", seq: i});
        log.add({type: "input_frame.thumbnail", image: "data:"});
        return {events: log.events, omitted: log.omitted};"""
    log = call(live, "event_log.js", script)
    assert len(log["events"]) <= 1100
    assert len(log["events"]) + log["omitted"] == 5001
    assert log["events"][-1]["seq"] == 4999
    lines = call(live, "export_session.js", "return m.toJsonLines(a);", log).splitlines()
    header, *events = [json.loads(line) for line in lines]
    assert (header["type"], header["events"], header["omitted_events"]) == ("export", len(events), log["omitted"])
    script = "const log = new m.EventLog(); log.add(a); return log.events[0];"
    event = {"type": "session.created", "session": {"id": "s", "duet": {"fps": 4, "resume_token": "secret"}}}
    assert call(live, "event_log.js", script, event)["session"] == {"id": "s", "duet": {"fps": 4}}


def test_curve_keeps_extremes_of_old_frames_in_bounded_memory(live: LivePage) -> None:
    script = """
        const history = new m.ScoreHistory(500, 100);
        for (let i = 0; i < 50000; i++) {
          const informative = i === 1234 ? 0.99 : 0.1;
          history.add({time: i / 4, informative, relevance: 0.2, score: informative, threshold: 0.5, spoke: false});
        }
        return {size: history.size, start: history.start, end: history.end, nearest: history.nearest(12499).time,
                highest: history.maximum("informative", 0, 1000), later: history.maximum("informative", 2000, 9000)};"""
    found = call(live, "score_history.js", script)
    assert found["size"] <= 500 + 256 + 100
    assert (found["start"], found["end"], found["nearest"]) == (0, 49999 / 4, 12499)
    assert (found["highest"], found["later"]) == (0.99, 0.1)


def test_conversation_keeps_the_newest_entries(live: LivePage) -> None:
    script = """
        const conversation = document.querySelector("mmduet-live").parts.conversation;
        for (let i = 0; i < 1000; i++) {
          conversation.startReply(`r${i}`, {time: i, forced: false, comparison: "informative 0.80 > 0.45"});
          conversation.appendText(`r${i}`, "<b>text</b>");
          conversation.finishReply(`r${i}`, {status: "completed", firstWord: 12, tokens: 3});
        }
        const root = conversation.shadowRoot;
        return {entries: root.querySelectorAll("li").length, replies: conversation.replies.size,
                bold: root.querySelectorAll("b").length, omitted: root.querySelector(".omitted").textContent,
                last: root.querySelector("li:last-child .text").textContent};"""
    found = call(live, "conversation.js", script)
    assert found["entries"] == found["replies"] == 300
    assert found["omitted"].startswith("700 earlier entries")
    assert (found["last"], found["bold"]) == ("<b>text</b>", 0)


def test_player_of_a_file_that_starts_late_shows_the_times_of_the_session(live: LivePage) -> None:
    script = """
        const player = new m.FilePlayer("", 2);
        for (const time of [0, 1, 2]) player.scored(time);
        player.review(1);
        const found = [player.video.currentTime, player.time];
        player.review(9);
        found.push(player.video.currentTime);
        player.destroy();
        return found;"""
    assert call(live, "file_player.js", script) == [3, 1, 4]


def test_clock_never_passes_the_last_score(live: LivePage) -> None:
    script = """
        const clock = new m.PlaybackClock();
        let [ahead, total, now] = [0, 0, 0];
        const random = (() => { let x = 1; return () => { x = (x * 16807) % 2147483647; return x / 2147483647; }; })();
        for (let frame = 0; frame < 400; frame++) {
          clock.scored(frame / 4, now);
          const next = now + 0.25 * (0.5 + random());
          for (; now < next; now += 1 / 60) {
            const position = clock.position(now);
            ahead = Math.max(ahead, position - frame / 4);
            total = Math.max(total, frame / 4 - position);
          }
          now = next;
        }
        const stopped = clock.position(now + 100);
        return {ahead, behind: total, stopped};"""
    found = call(live, "playback_clock.js", script)
    assert found["ahead"] <= 1e-9
    assert found["behind"] < 1.5
    assert found["stopped"] == pytest.approx(399 / 4)


@pytest.mark.slow
def test_memory_of_a_page_that_stays_open_is_bounded(live: LivePage) -> None:
    script = """(from) => {
        const live = document.querySelector("mmduet-live").live;
        const emit = (detail) => { live.log.add(detail); live.dispatchEvent(new CustomEvent("event", { detail })); };
        for (let seq = from; seq < from + 15000; seq++) {
          const scores = {informative: (seq % 10) / 10, relevance: 0.5, decision: seq % 10 === 9 ? "speak" : "listen"};
          emit({type: "input_frame.scored", seq, pts: seq * 250000, age_ms: 20, ...scores});
          if (seq % 3 === 0) emit({type: "input_frame.dropped", seq, pts: seq * 250000, reason: "late"});
          if (scores.decision !== "speak") continue;
          const duet = {trigger_seq: seq, trigger_pts: seq * 250000, informative: 0.9, relevance: 0.5, forced: false};
          emit({type: "response.created", response: {id: `r${seq}`, duet}});
          emit({type: "response.output_text.delta", response_id: `r${seq}`, delta: `reply ${seq}`});
          const timing = {first_delta_ms: 20, done_ms: 40};
          emit({type: "response.done", response: {id: `r${seq}`, status: "completed", duet: {...duet, timing}}});
        }
    }"""
    protocol = live.page.context.new_cdp_session(live.page)

    def used_bytes() -> int:
        protocol.send("HeapProfiler.collectGarbage")
        return int(protocol.send("Runtime.getHeapUsage")["usedSize"])

    sizes = []
    for start in (0, 15_000, 30_000):  # an hour of nano each
        live.page.evaluate(script, start)
        sizes.append(used_bytes())
    assert sizes[2] <= sizes[1] * 1.05
