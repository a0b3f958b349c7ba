"""The live view in a real browser with a real server and nano."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_page import LivePage, open_live_page, write_scene
from playwright.sync_api import Browser, expect

from mmduet.model import LoadedModel, load_model

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
FRAME_SECONDS = 0.25  # nano's sampling interval


@pytest.fixture(scope="module")
def nano() -> LoadedModel:
    return load_model("nano")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return {name: write_scene(folder / f"{name}.mp4", seed, 10.0) for name, seed in (("first", 5), ("second", 6))}


@pytest.fixture
def live(browser: Browser, nano: LoadedModel, clips: dict[str, Path]) -> Iterator[LivePage]:
    with open_live_page(browser, clips, nano) as page:
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


def test_camera_is_shown_as_far_as_its_frames_were_scored(live: LivePage) -> None:
    live.page.evaluate(RECORD)
    live.start({"kind": "camera"}, {"query": "Narrate the scene."})
    live.page.wait_for_function("document.querySelector('mmduet-live').sessionView.figures.scored >= 8")
    assert live.page.evaluate("document.querySelector('mmduet-live').state") == "live"
    live.page.get_by_role("button", name="Pause").click()
    live.wait_for_state("paused")
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
    expect(live.page.locator("mmduet-live").get_by_role("status").first).to_contain_text(
        "was not allowed to use the camera"
    )
    live.start(live.source("missing"))
    live.wait_for_state("failed")
    expect(live.page.locator("mmduet-live").get_by_role("status").first).to_contain_text("does not exist")


def test_wall_runs_every_clip_in_a_session_of_its_own(
    browser: Browser, nano: LoadedModel, clips: dict[str, Path]
) -> None:
    run_wall(browser, nano, clips, 4)


@pytest.mark.slow
def test_wall_of_sixteen(browser: Browser, nano: LoadedModel, clips: dict[str, Path]) -> None:
    run_wall(browser, nano, clips, 16)


def run_wall(browser: Browser, nano: LoadedModel, clips: dict[str, Path], count: int) -> None:
    with open_live_page(browser, clips, nano, show="wall") as live:
        sources = [live.source(("first", "second")[number % 2], speed=2) for number in range(count)]
        live.page.evaluate("(sources) => { document.querySelector('mmduet-wall').start(sources); }", sources)
        live.page.wait_for_function(
            "(count) => document.querySelector('mmduet-wall').tiles.filter((t) => t.view.figures.scored > 0).length === count",
            arg=count,
        )
        assert live.server.manager.active_count == count
        live.page.wait_for_function(
            "document.querySelector('mmduet-wall').tiles.every((t) => t.live.state === 'ended')"
        )
        words = live.page.locator("mmduet-wall .words").all_text_contents()
        assert len(words) == count
        assert all(len(text) > 5 for text in words)
