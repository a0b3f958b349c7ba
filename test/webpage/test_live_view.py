"""The live view in a real browser with a real server and nano."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from live_page import (
    LivePage,
    camera_arguments,
    open_live_page,
    run_live_server,
    write_camera_recording,
    write_scene,
)
from live_server import RunningServer
from playwright.sync_api import Browser, expect
from rtsp_server import run_rtsp_server

from mmduet.model import LoadedModel, load_model
from mmduet.scenes.annotations import captions
from mmduet.scenes.scene_generator import generate_scene

RECORD = """() => {
  const view = document.querySelector("mmduet-live");
  window.shown = [];
  const record = () => {
    const player = view.sessionView.player;
    if (player !== null && !player.reviewing) window.shown.push([player.time, view.live.lastTime]);
    requestAnimationFrame(record);
  };
  record();
}"""
COUNT_ANIMATION = """() => {
  const { requestAnimationFrame: request, setInterval: start, clearInterval: stop } = window;
  window.intervals = new Set();
  window.requested = 0;
  window.requestAnimationFrame = (use) => { window.requested++; return request(use); };
  window.setInterval = (...options) => { const id = start(...options); window.intervals.add(id); return id; };
  window.clearInterval = (id) => { window.intervals.delete(id); stop(id); };
  window.isAtRest = () => {  // called every 50 ms: whether the page has requested no animation frame for 10 calls
    window.quiet = window.requested === window.last ? window.quiet + 1 : 0;
    window.last = window.requested;
    return window.quiet >= 10;
  };
}"""
FRAME_SECONDS = 0.25  # nano's sampling interval


@pytest.fixture(scope="module")
def nano() -> LoadedModel:
    return load_model("nano")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return {name: write_scene(folder / f"{name}.mp4", seed, 10.0) for name, seed in (("first", 5), ("second", 6))}


@pytest.fixture(scope="module")
def server(nano: LoadedModel, clips: dict[str, Path]) -> Iterator[RunningServer]:
    with run_live_server(clips, nano, pull_hosts="127.0.0.1", pull_networks="127.0.0.1/32") as running:
        yield running


@pytest.fixture
def live(browser: Browser, server: RunningServer) -> Iterator[LivePage]:
    with open_live_page(browser, server) as page:
        yield page


def test_clip_is_narrated_in_step_with_the_scores(live: LivePage) -> None:
    live.page.evaluate(RECORD)
    live.start(live.source("first", speed=4))
    live.wait_for_state("ended")
    shown = live.page.evaluate("window.shown")
    assert max(time for time, _ in shown) > 5  # it plays
    assert max(time - scored for time, scored in shown) <= FRAME_SECONDS
    replies = live.page.locator("mmduet-conversation li.reply")
    assert replies.count() == len(live.events("response.done")) > 0
    expect(replies.first).to_contain_text("informative 0.")
    expect(replies.first).to_contain_text("first word after")
    markers = live.page.evaluate("document.querySelector('mmduet-live').parts.curve.markers.map((m) => m.kind)")
    assert markers.count("reply") == replies.count()
    figures = live.page.locator("mmduet-figures")
    expect(figures).to_contain_text("Frame to score")
    expect(figures).to_contain_text(" ms / ")


@pytest.mark.slow
def test_video_rests_after_the_session_and_moves_again(live: LivePage) -> None:
    time = "document.querySelector('mmduet-live').sessionView.player.time"
    live.page.evaluate(COUNT_ANIMATION)
    live.start(live.source("first", speed=4))
    live.wait_for_state("ended")
    live.page.wait_for_function(f"{time} > 9.7")
    live.page.wait_for_function("window.isAtRest()", polling=50)
    live.page.evaluate("document.querySelector('mmduet-live').seek(9)")
    live.page.get_by_role("button", name="Play from here").click()
    live.page.wait_for_function(f"{time} > 9.7")
    live.page.get_by_role("button", name="Restart").click()
    live.page.wait_for_function(f"{time} > 1 && {time} < 9")


@pytest.mark.slow
def test_wall_rests_after_its_sessions(browser: Browser, server: RunningServer) -> None:
    with open_live_page(browser, server, show="wall") as live:
        live.page.evaluate(COUNT_ANIMATION)
        sources = [live.source("first", speed=None), live.source("missing")]
        live.page.evaluate("(sources) => { document.querySelector('mmduet-wall').start(sources); }", sources)
        assert live.page.evaluate("window.intervals.size") > 0
        expect(live.page.locator("mmduet-wall")).to_contain_text("1 ended, 1 failed", timeout=30_000)
        live.page.wait_for_function("window.isAtRest() && window.intervals.size === 0", polling=50)


def test_question_is_answered_mid_stream_and_while_paused(live: LivePage) -> None:
    live.start(live.source("first"), {"query": "", "duet": {"speak": {"value": 2}}})  # never speaks on its own
    live.wait_for_event("e.type === 'input_frame.scored'")
    ask = live.page.get_by_label("Ask or instruct")
    ask.fill("What is visible?")
    live.page.get_by_role("button", name="Reply now").click()
    first = live.wait_for_event("e.type === 'response.done'")
    assert first["response"]["duet"]["forced"]
    live.page.get_by_role("button", name="Pause").click()
    live.wait_for_state("paused")
    live.wait_for_event("e.type === 'input_source.updated' && e.state === 'paused'")
    ask.fill("What moves?")
    live.page.get_by_role("button", name="Reply now").click()
    live.wait_for_event(f"e.type === 'response.done' && e.response.id !== '{first['response']['id']}'")
    assert live.page.evaluate("document.querySelector('mmduet-live').state") == "paused"
    texts = live.page.locator("mmduet-conversation li .text").all_text_contents()
    assert [text for text in texts if text in ("What is visible?", "What moves?")] == [
        "What is visible?",
        "What moves?",
    ]
    live.page.get_by_role("button", name="Resume").click()
    live.wait_for_state("live")
    live.page.get_by_role("button", name="Stop").click()
    live.wait_for_state("ended")


def test_dragging_the_threshold_changes_when_the_model_speaks(live: LivePage) -> None:
    live.page.evaluate(
        "document.querySelector('mmduet-live').addEventListener('settingschange', (e) => { window.changed = e.detail; })"
    )
    live.start(live.source("first"))
    live.wait_for_event("e.type === 'input_frame.scored'")
    handle = live.page.get_by_role("slider", name="Threshold")
    box = handle.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] - 20, box["y"] + box["height"] / 2
    live.page.mouse.move(x, y)
    live.page.mouse.down()
    live.page.mouse.move(x, y + 300, steps=4)  # below the axis: 0
    live.page.mouse.up()
    assert live.page.evaluate("window.changed") == {"duet": {"speak": {"value": 0}}}
    live.wait_for_event("e.type === 'session.updated' && e.session.duet.speak.value === 0")
    reply = live.wait_for_event("e.type === 'response.created' && e.response.duet.informative < 0.45")
    assert not reply["response"]["duet"]["forced"]
    handle.press("End")
    live.wait_for_event("e.type === 'session.updated' && e.session.duet.speak.value === 1")
    handle.press("PageDown")
    handle.press("ArrowDown")
    live.wait_for_event("e.type === 'session.updated' && e.session.duet.speak.value === 0.89")
    assert handle.get_attribute("aria-valuenow") == "0.89"


@pytest.mark.slow
def test_replies_and_curve_lead_back_to_their_moment(live: LivePage) -> None:
    live.start(live.source("first", speed=None))
    live.wait_for_state("ended")
    reply = live.page.locator("mmduet-conversation li.reply").first
    reply.get_by_role("button").click()
    review = live.page.locator("mmduet-live .review")
    expect(review).to_be_visible()
    time = live.events("response.created")[0]["response"]["duet"]["trigger_pts"] / 1e6
    shown = "() => document.querySelector('mmduet-live').sessionView.player.time"
    assert live.page.evaluate(shown) == pytest.approx(time, abs=0.01)
    expect(reply).to_have_class("reply selected")
    live.page.get_by_role("button", name="Back to live").click()
    expect(review).to_be_hidden()
    frame = live.page.get_by_role("slider", name="Frame")
    frame.click(position={"x": 40, "y": 30})
    expect(review).to_be_visible()
    assert live.page.evaluate(shown) < 1.5
    frame.press("Home")
    frame.press("ArrowRight")
    frame.press("Enter")
    assert live.page.evaluate(shown) == pytest.approx(FRAME_SECONDS, abs=0.01)


@pytest.mark.slow
def test_camera_is_shown_as_far_as_its_frames_were_scored(live: LivePage) -> None:
    live.page.evaluate(RECORD)
    live.start({"kind": "camera"}, {"query": "Narrate the scene."})
    live.page.wait_for_function("document.querySelector('mmduet-live').sessionView.figures.scored >= 8")
    assert live.page.evaluate("document.querySelector('mmduet-live').state") == "live"
    live.page.get_by_role("button", name="Pause").click()
    live.wait_for_state("paused")
    live.page.get_by_role("slider", name="Frame").click(position={"x": 40, "y": 30})
    expect(live.page.locator("mmduet-live .review")).to_contain_text("Showing 0:00.")
    live.page.get_by_role("button", name="Back to live").click()
    live.page.get_by_role("button", name="Stop").click()
    live.wait_for_state("ended")
    shown = live.page.evaluate("window.shown")
    assert len({time for time, _ in shown}) > 4
    assert max(time - scored for time, scored in shown) <= 0.001


def test_denied_camera_and_unknown_clip_are_explained(live: LivePage) -> None:
    denied = "() => Promise.reject(new DOMException('denied', 'NotAllowedError'))"
    live.page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = {denied}; }}")
    live.start({"kind": "camera"})
    live.wait_for_state("failed")
    expect(live.status).to_contain_text("was not allowed to use the camera")
    live.page.evaluate("Object.defineProperty(window, 'isSecureContext', { value: false })")
    live.start({"kind": "screen"})
    live.wait_for_state("failed")
    expect(live.status).to_contain_text("Browsers allow the screen only on pages that were opened over HTTPS")
    live.start(live.source("missing"))
    live.wait_for_state("failed")
    expect(live.status).to_contain_text("does not exist")


@pytest.mark.slow
def test_camera_that_films_a_scene_is_narrated(browser: Browser, server: RunningServer, tmp_path: Path) -> None:
    recording = write_camera_recording(tmp_path / "scene.y4m", 5, 10.0)
    filming = browser.browser_type.launch(executable_path=shutil.which("chromium"), args=camera_arguments(recording))
    with open_live_page(filming, server) as live:
        live.start({"kind": "camera"}, {"query": "Narrate the scene."})
        narrated = "document.querySelector('mmduet-live').sessionView.figures.replies >= 3"
        live.page.wait_for_function(narrated, timeout=60_000)
        texts = {event["text"] for event in live.events("response.output_text.done")}
        warnings = live.events("session.warning")
    filming.close()
    assert texts & {caption["text"] for caption in captions(generate_scene(np.random.default_rng(5), 10.0))}
    assert not warnings


@pytest.mark.slow
def test_lost_connection_is_reported_and_resumed(live: LivePage) -> None:
    live.start(live.source("first"))
    live.wait_for_event("e.type === 'input_frame.scored'")
    live.page.evaluate("() => { window.offline = true; window.sockets.at(-1).close(4000); }")
    live.wait_for_state("retrying")
    expect(live.status).to_contain_text("The connection to the server was lost")
    expect(live.status).to_contain_text("Retrying")
    live.page.evaluate("() => { window.offline = false; }")
    live.wait_for_state("live", "ended")
    expect(live.page.locator("mmduet-conversation")).to_contain_text("the session was resumed")
    live.page.evaluate("() => document.querySelector('mmduet-live').setSpeed(null)")
    live.wait_for_state("ended")
    assert [event["seq"] for event in live.events("input_frame.scored")] == list(range(40))


@pytest.mark.slow
def test_thumbnails_replace_a_preview_that_the_browser_cannot_play(live: LivePage) -> None:
    live.start({**live.source("first", speed=4), "preview": "static/theme.js"})
    thumbnail = live.page.locator("mmduet-live img.thumbnail")
    expect(thumbnail).to_be_visible()
    live.wait_for_state("ended")
    assert str(thumbnail.get_attribute("src")).startswith("data:image/jpeg;base64,")


@pytest.mark.slow
def test_interrupted_network_camera_is_shown_as_retrying(live: LivePage) -> None:
    with run_rtsp_server() as camera:
        port = camera.port  # type: ignore[attr-defined]
        live.start({"kind": "url", "url": f"rtsp://127.0.0.1:{port}/film", "transport": "tcp"})
        expect(live.page.locator("mmduet-live img.thumbnail")).to_be_visible(timeout=20_000)
        expect(live.page.get_by_label("Speed")).to_be_hidden()
        camera.kill()
        camera.wait()
        live.wait_for_state("retrying")
        expect(live.status).to_contain_text("The source is not available")
        with run_rtsp_server(port):
            live.wait_for_state("live")
            live.page.get_by_role("button", name="Stop").click()
            live.wait_for_state("ended")


@pytest.mark.slow
def test_wall_runs_every_clip_in_a_session_of_its_own(browser: Browser, server: RunningServer) -> None:
    run_wall(browser, server, 4)


@pytest.mark.slow
def test_wall_of_sixteen(browser: Browser, server: RunningServer) -> None:
    run_wall(browser, server, 16)


def run_wall(browser: Browser, server: RunningServer, count: int) -> None:
    with open_live_page(browser, server, show="wall") as live:
        sources = [live.source(("first", "second")[number % 2], speed=None) for number in range(count)]
        live.page.evaluate("(sources) => { document.querySelector('mmduet-wall').start(sources); }", sources)
        ended = "document.querySelector('mmduet-wall').tiles.every((tile) => tile.live.state === 'ended')"
        live.page.wait_for_function(ended, timeout=120_000)
        ids = "document.querySelector('mmduet-wall').tiles.map((tile) => tile.live.confirmed.id)"
        assert len(set(live.page.evaluate(ids))) == count
        words = live.page.locator("mmduet-wall .words").all_text_contents()
        assert len(words) == count
        assert all(len(text) > 5 for text in words)
        expect(live.page.locator("mmduet-wall .batch")).to_contain_text("frames scored per second")
        rates = live.page.locator("mmduet-wall .batch dd.number").all_text_contents()
        assert float(rates[1]) > 0


@pytest.mark.slow
def test_exported_python_code_runs_at_this_server(live: LivePage, clips: dict[str, Path], tmp_path: Path) -> None:
    live.start({**live.source("first", speed=None), "kind": "upload", "file": str(clips["first"])})
    live.wait_for_state("ended")
    script = """async () => {
        const { toPython } = await import(new URL("static/export_session.js", document.baseURI).href);
        return toPython(document.querySelector("mmduet-live").description);
    }"""
    program = tmp_path / "session.py"
    program.write_text(live.page.evaluate(script), encoding="utf-8")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=120, check=True)
    replies = [event["text"] for event in live.events("response.output_text.done")]
    assert [line.partition(" s  ")[2] for line in done.stdout.splitlines()] == replies


@pytest.mark.slow
def test_full_server_shows_the_place_in_the_queue(browser: Browser, nano: LoadedModel, clips: dict[str, Path]) -> None:
    with (
        run_live_server(clips, nano, max_sessions=1) as server,
        open_live_page(browser, server) as first,
        open_live_page(browser, server) as second,
    ):
        first.start(first.source("first"))
        first.wait_for_state("live")
        second.start(second.source("second", speed=None))
        second.wait_for_state("queued")
        expect(second.status).to_contain_text("The server is full. You are next")
        first.page.get_by_role("button", name="Stop").click()
        second.wait_for_state("ended")
        assert second.events("response.done")
        third = second  # without waiting, the server refuses at once
        first.start(first.source("first"))
        first.wait_for_state("live")
        third.page.evaluate("document.querySelector('mmduet-live').waitSeconds = 0")
        third.start(third.source("second"))
        third.wait_for_state("failed")
        expect(third.status).to_contain_text("Start again in a minute")
