"""Uploads in a real browser: previews play in its player, and the reason of a refusal reaches the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_server import RunningServer
from page_server import run_page_server
from page_visitor import Visitor
from playwright.sync_api import Browser, Page
from video_files import make

UPLOAD = """async ([secret, bytes, size]) => {
  const body = new Blob([size ? new Uint8Array(size) : new Uint8Array(bytes)]);
  const headers = { Authorization: secret };
  const response = await fetch("uploads?name=film.mp4", { method: "POST", body, headers });
  return { status: response.status, body: await response.json() };
}"""
PLAY = """async (url) => {
  const video = document.createElement("video");
  video.muted = true;
  video.src = url;
  const next = (name) => new Promise((done, fail) => {
    video.addEventListener(name, done, { once: true });
    video.addEventListener("error", () => fail(new Error(video.error.message)), { once: true });
  });
  document.body.append(video);
  await next("loadeddata");
  const seeked = next("seeked");
  video.currentTime = 1.5;
  await seeked;
  return [video.videoWidth, video.videoHeight, video.duration, video.currentTime];
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with run_page_server(temporary=tmp_path_factory.mktemp("page"), max_upload_bytes=1 << 20) as server:
        yield server


@pytest.fixture
def page(browser: Browser, server: RunningServer) -> Iterator[Page]:
    page = browser.new_page()
    page.goto(f"{server.http}/page/clips")  # any document of the page's origin and path
    yield page
    page.close()


def upload(page: Page, visitor: Visitor, data: bytes, size: int = 0) -> dict[str, Any]:
    """Upload bytes, or ``size`` zeros, from the page."""
    return dict(page.evaluate(UPLOAD, [visitor.headers["Authorization"], list(data), size]))


@pytest.mark.parametrize(
    ("name", "codec", "playable"),
    [("v.mp4", "libx264", True), ("v.webm", "libvpx", True), ("v.webm", "libvpx-vp9", True), ("v.avi", "mpeg4", False)],
)
def test_previews_play_and_seek(
    name: str, codec: str, playable: bool, page: Page, server: RunningServer, tmp_path: Path
) -> None:
    visitor = Visitor(server)
    source = make(tmp_path / name, count=50, codec=codec, codec_options={})
    stored = upload(page, visitor, source.read_bytes())["body"]
    assert stored["playable"] == playable
    visitor.wait_for_preview(stored["id"])
    width, height, duration, time = page.evaluate(PLAY, stored["preview"])
    assert (width, height, time) == (64, 48, 1.5)
    assert duration == pytest.approx(2.0, abs=0.1)


def test_the_page_learns_why_a_file_is_refused(page: Page, server: RunningServer) -> None:
    visitor = Visitor(server)
    corrupt = upload(page, visitor, b"not a video")
    assert (corrupt["status"], corrupt["body"]["error"]["code"]) == (400, "corrupt_video")
    large = upload(page, visitor, b"", size=8 << 20)
    assert (large["status"], large["body"]["error"]["code"]) == (413, "too_large")
