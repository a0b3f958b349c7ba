"""Measure how well a model narrates the playground: a real browser, real pointer events, a real server.

Scripted visitors drag, drop, recolour, grow, shrink and hide shapes at a hand's pace. The playground logs what has happened;
the replies are compared with this log as `mmduet scenes score` compares them with a scene's events.

    python scripts/measure_playground.py --sequences 30 --seed 1 --json outputs/playground.json
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "test" / "webpage" / "support"))  # of page_driver

from page_driver import open_chromium
from playground_visitor import Visitor
from playwright.sync_api import Browser, Route

from mmduet.bench.server_process import server_process
from mmduet.metrics.reply_matching import MatchCounts, TimedText, compare_replies, match_replies

STATIC = Path(__file__).resolve().parent.parent / "mmduet" / "webpage" / "static"
VIEWPORT = {"width": 1100, "height": 760}
TARGETS = {"speak_f1": 0.9, "captions_exact": 0.85}
LISTEN_SECONDS = 1.75  # after the last action, in which its reply arrives
HTML = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Playground</title>
<style>body { margin: 1rem; }</style>
<mmduet-playground SEED></mmduet-playground>
<script type="module" src="static/playground.js"></script>
<script type="module" src="stream.js"></script></html>"""
# A minimal client: sends the canvas as JPEG frames with times of performance.now(), and collects replies.
STREAM = """
const playground = document.querySelector("mmduet-playground");
const scaled = new OffscreenCanvas(384, 384);
const state = { replies: [], scored: 0, dropped: 0, ages: [], intervals: [], warnings: [], ready: false };
window.stream = state;
const socket = new WebSocket(SOCKET_URL);
socket.binaryType = "arraybuffer";
const send = (event) => socket.send(JSON.stringify(event));
let seq = 0, last = null;
async function sendFrame() {
  const time = performance.now();
  if (last !== null) state.intervals.push(time - last);
  last = time;
  scaled.getContext("2d").drawImage(playground.canvas, 0, 0, 384, 384);
  const blob = await scaled.convertToBlob({ type: "image/jpeg", quality: 0.9 });
  const header = new DataView(new ArrayBuffer(16));
  header.setUint8(0, 1); header.setUint8(1, 1); header.setUint32(4, seq++, true);
  header.setBigUint64(8, BigInt(Math.round(time * 1000)), true);
  const message = new Uint8Array(16 + blob.size);
  message.set(new Uint8Array(header.buffer)); message.set(new Uint8Array(await blob.arrayBuffer()), 16);
  if (socket.readyState === WebSocket.OPEN) socket.send(message);
}
socket.onmessage = ({ data }) => {
  const event = JSON.parse(data);
  if (event.type === "session.created") {
    send({ type: "session.update", session: { type: "realtime", duet: { max_frame_age: 10 } } });
    send({ type: "conversation.item.create", item: { type: "message", role: "user",
      content: [{ type: "input_text", text: QUERY }] } });
    const interval = 1000 / event.session.duet.fps;
    // The server takes the first frame after each multiple of the interval, so frames are sent just after these times.
    const tick = () => {
      sendFrame();
      const next = (Math.floor(performance.now() / interval) + 1) * interval + 2;
      setTimeout(tick, next - performance.now());
    };
    tick();
    state.ready = true;
  } else if (event.type === "response.done") {
    const { duet, output } = event.response;
    state.replies.push({ time: duet.trigger_pts / 1e6, text: output[0].content[0].text, shown: performance.now() / 1000 });
  } else if (event.type === "input_frame.scored") { state.scored += 1; state.ages.push(event.age_ms);
  } else if (event.type === "input_frame.dropped") { state.dropped += 1;
  } else if (event.type === "session.warning" || event.type === "error") { state.warnings.push(JSON.stringify(event)); }
};
"""
Json = dict[str, Any]


@dataclass
class Sequence:
    """What happened in one sequence. Times are seconds on the page's clock."""

    seed: int
    actions: list[Json]
    replies: list[Json]
    attempts: list[str]
    stream: Json

    @property
    def expected(self) -> list[TimedText]:
        """The captions of the actions, at the actions' ends."""
        return [TimedText(action["end"], action["text"]) for action in self.actions]

    @property
    def given(self) -> list[TimedText]:
        """The replies, at the times of the frames that triggered them."""
        return [TimedText(reply["time"], reply["text"]) for reply in self.replies]

    @property
    def counts(self) -> MatchCounts:
        """The comparison of actions and replies."""
        return compare_replies(self.expected, self.given)


def run_sequence(browser: Browser, server: str, seed: int, actions: int, query: str) -> Sequence:
    """Run one visitor with ``actions`` actions on a fresh page, streamed to ``server`` (its WebSocket address)."""
    with browser.new_context(viewport=VIEWPORT) as context:
        page = context.new_page()
        page.route("**/playground-test/**", lambda route: answer_request(route, server, seed, query))
        address = urlsplit(server)
        page.goto(f"http://{address.netloc}/playground-test/index.html")
        page.wait_for_function("window.stream?.ready")
        page.wait_for_timeout(1500)
        attempts = Visitor(page, np.random.default_rng([seed, 18])).act(actions)
        page.wait_for_function("document.querySelector('mmduet-playground').isAtRest")
        page.wait_for_timeout(1000 * LISTEN_SECONDS)
        log = page.evaluate("document.querySelector('mmduet-playground').actions")
        stream = page.evaluate("window.stream")
    return Sequence(seed, log, stream.pop("replies"), attempts, stream)


def answer_request(route: Route, server: str | None, seed: int, query: str) -> None:
    """Serve the page that holds the playground, and its modules from the checkout.

    ``server`` is the WebSocket address to which the page streams; None: it does not stream.
    """
    name = urlsplit(route.request.url).path.removeprefix("/playground-test/")
    if name == "index.html":
        route.fulfill(content_type="text/html", body=HTML.replace("SEED", f'seed="{seed}"'))
    elif name == "stream.js" and server is None:
        route.fulfill(content_type="text/javascript", body="")
    elif name == "stream.js":
        settings = f"const SOCKET_URL = {json.dumps(server)};\nconst QUERY = {json.dumps(query)};\n"
        route.fulfill(content_type="text/javascript", body=settings + STREAM)
    elif (STATIC / Path(name).name).is_file():
        route.fulfill(content_type="text/javascript", body=(STATIC / Path(name).name).read_text(encoding="utf-8"))
    else:
        route.fulfill(status=404)


def summarize(sequences: list[Sequence]) -> Json:
    """Return the scores of all sequences, by kind of action, and how the stream ran."""
    counts = sum((sequence.counts for sequence in sequences), MatchCounts())
    ages = [age for sequence in sequences for age in sequence.stream["ages"]] or [0.0]
    intervals = [interval for sequence in sequences for interval in sequence.stream["intervals"]] or [0.0]
    delays = [
        sequence.replies[reply]["shown"] - sequence.actions[event]["end"]
        for sequence in sequences
        for event, reply in match_replies(sequence.expected, sequence.given)
    ] or [0.0]
    return {
        "sequences": len(sequences),
        "attempts": sum(len(sequence.attempts) for sequence in sequences),
        "actions": counts.events,
        "replies": counts.replies,
        "speak_f1": counts.f1,
        "speak_precision": counts.precision,
        "speak_recall": counts.recall,
        "captions_exact": counts.exact_share,
        "repeat_rate": counts.repeat_rate,
        "kinds": _by_kind(sequences),
        "end_to_caption_s": {"p50": float(np.median(delays)), "p95": float(np.percentile(delays, 95))},
        "frames": {
            "scored": sum(sequence.stream["scored"] for sequence in sequences),
            "dropped": sum(sequence.stream["dropped"] for sequence in sequences),
            "age_ms_p50": float(np.median(ages)),
            "age_ms_p95": float(np.percentile(ages, 95)),
            "interval_ms_p95": float(np.percentile(intervals, 95)),
        },
        "warnings": [warning for sequence in sequences for warning in sequence.stream["warnings"]],
    }


def _by_kind(sequences: list[Sequence]) -> Json:
    """Return the numbers of actions, of matched ones and of exact captions by kind of action."""
    kinds: Json = {}
    for sequence in sequences:
        matched = dict(match_replies(sequence.expected, sequence.given))
        for index, action in enumerate(sequence.actions):
            row = kinds.setdefault(action["kind"], {"actions": 0, "matched": 0, "exact": 0})
            row["actions"] += 1
            row["matched"] += index in matched
            row["exact"] += index in matched and sequence.replies[matched[index]]["text"] == action["text"]
    return dict(sorted(kinds.items()))


def describe_errors(sequence: Sequence) -> list[str]:
    """Return a line for each action and reply that does not agree."""
    matched = dict(match_replies(sequence.expected, sequence.given))
    lines = []
    for index, action in enumerate(sequence.actions):
        seconds, text = action["end"] - action["start"], action["text"]
        if index not in matched:
            lines.append((action["end"], f"missed: {text} ({seconds:.2f} s)"))
        elif (reply := sequence.replies[matched[index]]["text"]) != text:
            lines.append((action["end"], f"wrong: {text} ({seconds:.2f} s): {reply}"))
    given = set(matched.values())
    lines += [(r["time"], f"extra: {r['text']}") for i, r in enumerate(sequence.replies) if i not in given]
    return [f"  {time:7.2f} {line}" for time, line in sorted(lines)]


def print_table(scores: Json) -> None:
    """Print the scores."""
    print(f"{scores['actions']} actions in {scores['sequences']} sequences, {scores['replies']} replies")
    print(f"speaks when it should (F1)   {scores['speak_f1']:.3f}   target {TARGETS['speak_f1']}")
    print(f"  precision / recall         {scores['speak_precision']:.3f} / {scores['speak_recall']:.3f}")
    print(f"captions exactly right       {scores['captions_exact']:.3f}   target {TARGETS['captions_exact']}")
    print(f"{'kind':10}{'actions':>9}{'matched':>9}{'exact':>7}")
    for kind, row in scores["kinds"].items():
        print(f"{kind:10}{row['actions']:9}{row['matched']:9}{row['exact']:7}")
    delay, frames = scores["end_to_caption_s"], scores["frames"]
    print(f"end of action to caption on the page: p50 {delay['p50']:.2f} s, p95 {delay['p95']:.2f} s")
    print(
        f"frames: {frames['scored']} scored, {frames['dropped']} dropped; age p50 {frames['age_ms_p50']:.0f} ms, "
        f"p95 {frames['age_ms_p95']:.0f} ms; interval p95 {frames['interval_ms_p95']:.0f} ms"
    )


def main() -> None:
    """Run the measurement. The exit status is 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=30, help="number of sequences (30)")
    parser.add_argument("--actions", type=int, default=6, help="actions per sequence (6)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first sequence; the others count up from it")
    parser.add_argument("--model", default="nano", help="model to serve (nano)")
    parser.add_argument("--query", default="Narrate the scene.")
    parser.add_argument("--json", type=Path, help="file for scores and all actions and replies")
    options = parser.parse_args()
    sequences: list[Sequence] = []
    with server_process("--model", options.model) as (server, _), open_chromium() as browser:
        for seed in range(options.seed, options.seed + options.sequences):
            sequences.append(run_sequence(browser, server, seed, options.actions, options.query))
            print(
                f"sequence {seed}: {', '.join(sequences[-1].attempts)}",
                *describe_errors(sequences[-1]),
                sep="\n",
                flush=True,
            )
    scores = summarize(sequences)
    print_table(scores)
    if options.json:
        details = [{"seed": s.seed, "actions": s.actions, "replies": s.replies, "stream": s.stream} for s in sequences]
        options.json.write_text(json.dumps({"scores": scores, "sequences": details}, indent=1), encoding="utf-8")
    sys.exit(any(scores[name] < target for name, target in TARGETS.items()))


if __name__ == "__main__":
    main()
