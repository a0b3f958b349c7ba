"""The sources of the live page in a real browser: uploads, camera, stream addresses, the playground and the wall."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import RunningServer, wait_for
from page_driver import CHROMIUM_ARGUMENTS, PageDriver, new_context, open_tab, open_tab_in
from page_server import run_page_server
from page_setup import write_scene
from page_visitor import HTTP
from playwright.sync_api import Browser, BrowserContext, expect
from stream_server import body, run_stream_server
from video_files import make

from mmduet.model import load_model
from mmduet.webpage.page import CLIPS

LOOPBACK = {"pull_hosts": ("127.0.0.1",), "pull_networks": ("127.0.0.0/8",)}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with run_page_server(load_model("nano"), max_upload_bytes=1 << 20, **LOOPBACK) as running:
        yield running


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """The context of the tabs, which share its cache."""
    with new_context(browser) as shared:
        yield shared


@pytest.fixture
def tab(context: BrowserContext, server: RunningServer) -> Iterator[PageDriver]:
    with open_tab_in(context, f"{server.http}/page/") as visitor:
        yield visitor


def test_upload_is_narrated_and_deleted_with_its_visitor(
    tab: PageDriver, server: RunningServer, tmp_path: Path
) -> None:
    film = tmp_path / "my film.mp4"
    film.write_bytes((CLIPS / "arrivals.mp4").read_bytes())
    tab.upload(film)
    reply = tab.wait_for_event("e.type === 'response.output_text.done'")
    assert reply["text"] == "a small purple triangle enters from the top"
    tab.select_tab("Finished results")
    expect(tab.page.locator("#mmduet-result-video option").first).to_have_text("my film.mp4 (uploaded)")
    upload = tab.page.evaluate("window.mmduetPage.uploads.list[0].id")
    secret = tab.page.evaluate("window.mmduetPage.requests.secret.latest")
    address, headers = f"{server.http}/page/uploads/{upload}", {"Authorization": f"Bearer {secret}"}
    assert HTTP.get(address, headers=headers).status_code == 200
    tab.leave()
    wait_for(lambda: HTTP.get(address, headers=headers).status_code == 404)
    assert not tab.problems


@pytest.mark.slow
def test_upload_that_browsers_do_not_play_gets_a_preview(tab: PageDriver, tmp_path: Path) -> None:
    film = make(tmp_path / "film.avi", count=50, codec="mpeg4", codec_options={})
    tab.upload(film)
    expect(tab.page.locator("mmduet-live img.thumbnail")).to_be_visible()
    tab.page.wait_for_function("window.mmduetPage.uploads.list[0].playable")
    tab.page.get_by_role("button", name="Watch", exact=True).first.click()
    expect(tab.page.locator("mmduet-live video.picture")).to_have_attribute("src", re.compile("/page/uploads/"))
    tab.wait_for_state("ended")
    tab.page.wait_for_function("window.mmduetPage.view.sessionView.player.time > 1")
    assert not tab.problems


def test_unusable_uploads_are_refused_with_the_reason(tab: PageDriver, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all" * 100)
    tab.upload(broken)
    status = tab.page.locator(".mmduet-drop [role=status]")
    expect(status).to_contain_text("✗")
    expect(status).to_contain_text("broken.mp4")
    huge = tmp_path / "huge.mp4"
    huge.write_bytes(bytes(3 << 20))
    tab.upload(huge)
    expect(status).to_contain_text("huge.mp4 has 3 MiB; this server accepts 1 MiB at most")


def test_stream_address_is_tested_and_watched(tab: PageDriver, tmp_path: Path) -> None:
    data = make(tmp_path / "x.mp4", 40, fps=8).read_bytes()
    with run_stream_server({"/x.mp4": body(data)}) as web:
        tab.select_tab("Stream address")
        address = tab.page.get_by_label("Address (RTSP, HLS or http video)")
        address.fill(web.url("/x.mp4"))
        tab.page.get_by_role("button", name="Test connection").click()
        result = tab.page.locator(".mmduet-test-result")
        expect(result).to_contain_text("✓")
        expect(result.locator("img")).to_be_visible()
        tab.page.get_by_role("button", name="Watch", exact=True).click()
        tab.wait_for_event("e.type === 'input_frame.scored'")
        address.fill("http://10.1.2.3/camera")
        tab.page.get_by_role("button", name="Test connection").click()
        expect(result).to_contain_text("✗")
        expect(result).to_contain_text("not allowed")


def test_playground_is_narrated(tab: PageDriver) -> None:
    tab.start_playground()
    tab.wait_for_event("e.type === 'input_frame.scored' && e.seq > 6")
    assert tab.page.evaluate("window.mmduetPage.playground.canvas.width") > 0
    tab.page.locator("mmduet-playground").get_by_role("button", name="Recolour").click()
    reply = tab.wait_for_event("e.type === 'response.output_text.done'")
    assert "turns" in reply["text"]
    assert not tab.problems


def test_playground_opens_with_an_example_question(tab: PageDriver) -> None:
    tab.select_tab("Playground")
    examples = tab.page.get_by_role("group", name="Or open it with a question:").get_by_role("button")
    expect(examples).to_have_count(4)
    query = examples.nth(3).inner_text()
    examples.nth(3).click()
    tab.wait_for_event("e.type === 'input_frame.scored'")
    expect(tab.page.get_by_label("Question or instruction (query)")).to_have_value(query)
    assert tab.page.evaluate("window.mmduetPage.view.description.queries[0].text") == query
    expect(tab.page.locator("mmduet-playground")).to_be_visible()
    assert not tab.problems


def test_screen_is_watched(tab: PageDriver) -> None:
    tab.select_tab("Screen")
    tab.page.get_by_role("button", name="Share a screen or window").click()
    tab.wait_for_event("e.type === 'input_frame.scored'")
    assert not tab.problems


@pytest.mark.slow
def test_camera_with_a_scene_is_narrated(browser: Browser, server: RunningServer, tmp_path: Path) -> None:
    camera = write_scene(tmp_path / "camera.y4m", 12.0, seed=0)
    arguments = [*CHROMIUM_ARGUMENTS, f"--use-file-for-fake-video-capture={camera}"]
    with (
        browser.browser_type.launch(executable_path=shutil.which("chromium"), args=arguments) as other,
        open_tab(other, f"{server.http}/page/") as visitor,
    ):
        visitor.start_camera()
        visitor.wait_for_event("e.type === 'response.output_text.done' && e.text.includes('enters')")


@pytest.mark.slow
def test_wall_shows_sixteen_streams(tab: PageDriver) -> None:
    tab.select_tab("Wall")
    tab.page.get_by_role("button", name="16 streams").click()
    tab.page.wait_for_function(
        "window.mmduetPage.wall.tiles.length === 16 && window.mmduetPage.wall.tiles.every((tile) => tile.live.lastTime > 2)",
        timeout=60_000,
    )
    expect(tab.page.locator("mmduet-wall").get_by_text("Step time")).to_be_visible()
    assert not tab.problems
