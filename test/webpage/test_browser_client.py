"""The browser client in a real browser: sessions, input, settings, events and their end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client_page import open_client_page, read_document_page, run_client_server, serve_site
from fastapi import FastAPI
from fastapi.responses import FileResponse
from live_server import RunningServer, wait_for
from playwright.sync_api import Browser, Page

from mmduet.model import load_model
from mmduet.video import VideoWriter

CLIP_FPS, CLIP_SECONDS = 10, 2


def add_clip(app: FastAPI, folder: Path) -> None:
    """Serve a clip of 20 frames at ``/page/clip``."""
    path = folder / "clip.mp4"
    with VideoWriter(path, 64, 64, CLIP_FPS, gop=CLIP_FPS) as writer:
        for step in range(CLIP_FPS * CLIP_SECONDS):
            writer.write(np.full((64, 64, 3), 10 * step, np.uint8))

    @app.get("/page/clip")
    async def clip() -> FileResponse:
        return FileResponse(path, media_type="video/mp4")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with run_client_server() as running:
        add_clip(running.uvicorn.config.app, tmp_path_factory.mktemp("clip"))  # type: ignore[arg-type]
        yield running


@pytest.fixture(scope="module")
def shared_page(browser: Browser, server: RunningServer) -> Iterator[Page]:
    with open_client_page(browser, server.http, permissions=["camera"]) as page:
        yield page


@pytest.fixture
def page(shared_page: Page, server: RunningServer) -> Iterator[Page]:
    """A page whose tests leave no session, no timer and no worker behind."""
    yield shared_page
    wait_for(lambda: server.manager.active_count == 0)
    assert shared_page.evaluate("async () => (await import('/page/static/mmduet/timers.js')).timerCount()") == 0
    assert shared_page.workers == []


@pytest.mark.slow
def test_a_canvas_is_narrated(browser: Browser) -> None:
    script = """async () => {
      const session = await connect(location.origin);
      const events = eventsOf(session), frames = [];
      session.ask("Narrate the scene.");
      const canvas = document.getElementById("canvas"), pen = canvas.getContext("2d");
      let step = 0;
      const timer = setInterval(() => {
        pen.fillStyle = "#505860"; pen.fillRect(0, 0, 160, 120);
        if (++step > 20) { pen.fillStyle = "#e02020"; pen.fillRect(60, 40, 40, 40); }
      }, 50);
      const pump = streamFrom(session, canvas);
      pump.addEventListener("frame", ({ detail }) => frames.push(detail));
      await until(() => events.some(({ type }) => type === "response.output_text.done"));
      clearInterval(timer);
      session.end();
      await until(() => session.isEnded);
      return { events, frames, counts: session.frames, stopped: pump.stopped };
    }"""
    with run_client_server(load_model("nano")) as nano, open_client_page(browser, nano.http) as page:
        result = page.evaluate(script)
    texts = [event["text"] for event in result["events"] if event["type"] == "response.output_text.done"]
    scored = [event["seq"] for event in result["events"] if event["type"] == "input_frame.scored"]
    assert "red" in texts[0]
    assert scored == [frame["seq"] for frame in result["frames"]] == list(range(len(scored)))
    times = np.array([frame["time"] for frame in result["frames"]])
    assert np.all(np.diff(np.floor((times - times[0] + 1e-6) * 4)) >= 1), "one frame per tick of the model's 4 fps"
    assert result["counts"]["sent"] == result["counts"]["scored"] == len(scored)
    assert result["stopped"]


def test_a_camera_is_streamed_and_ends_the_pump(page: Page) -> None:
    result = page.evaluate("""async () => {
      const session = await connect(location.origin), events = eventsOf(session);
      const camera = await navigator.mediaDevices.getUserMedia({ video: true });
      const pump = streamFrom(session, camera, { fps: 10, maxSide: 64 });
      await until(() => session.frames.scored >= 3);
      pump.pause();
      await until(() => session.frames.pending === 0);
      const whilePaused = session.frames.sent;
      await sleep(150);
      const hasPaused = session.frames.sent === whilePaused;
      pump.resume();
      await until(() => session.frames.sent > whilePaused);
      const ended = new Promise((resolve) => pump.addEventListener("ended", resolve));
      camera.getTracks()[0].dispatchEvent(new Event("ended")); // a live track is not an end
      const goesOn = !pump.stopped;
      camera.getTracks()[0].stop();
      camera.getTracks()[0].dispatchEvent(new Event("ended")); // the browser sends it for a device that is disconnected
      await ended;
      session.close();
      return { hasPaused, goesOn, stopped: pump.stopped };
    }""")
    assert result == {"hasPaused": True, "goesOn": True, "stopped": True}


def test_frames_of_a_video_have_its_own_times_which_increase_when_it_repeats(page: Page) -> None:
    result = page.evaluate("""async () => {
      const video = document.getElementById("video");
      Object.assign(video, { src: "/page/clip", loop: true });
      const session = await connect(location.origin), frames = [];
      await session.update({ duet: { fps: 5 } });
      const pump = streamFrom(session, video);
      pump.addEventListener("frame", ({ detail }) => frames.push(detail));
      await video.play();
      await until(() => frames.length >= 14);
      pump.stop();
      await until(() => session.frames.pending === 0);
      const counts = session.frames;
      session.close();
      video.pause();
      return { frames, counts };
    }""")
    times = np.array([frame["time"] for frame in result["frames"]])
    media = np.array([frame["mediaTime"] for frame in result["frames"]])
    assert np.all(np.diff(times) > 0)
    assert np.sum(np.diff(media) < 0) >= 1, "the video has begun again"
    assert media.max() <= CLIP_SECONDS
    assert media[0] == times[0]
    assert result["counts"]["droppedByServer"] == 0, "frames are selected by the server's rule"
    assert result["counts"]["scored"] == len(times)


def test_pictures_of_another_origin_are_an_error_of_the_pump(page: Page) -> None:
    with serve_site() as other:
        result = page.evaluate(
            """async (url) => {
              const image = new Image();
              image.src = `${url}/page/square.svg`;
              await image.decode();
              const canvas = document.createElement("canvas");
              canvas.getContext("2d").drawImage(image, 0, 0);
              const session = await connect(location.origin);
              const pump = streamFrom(session, canvas);
              const { detail } = await new Promise((resolve) => pump.addEventListener("error", resolve));
              session.close();
              return [detail.code, detail.message, pump.stopped];
            }""",
            other,
        )
    assert result[0] == "bad_source"
    assert "another origin" in result[1]
    assert result[2]


def test_updates_resolve_with_the_settings_or_reject_with_the_error(page: Page) -> None:
    result = page.evaluate("""async () => {
      const session = await connect(location.origin), events = eventsOf(session);
      const [first, rejected, last] = await Promise.allSettled([
        session.update({ duet: { speak: { policy: "threshold", value: 0.25 } } }),
        session.update({ duet: { speak: { policy: "loudest" } } }),
        session.update({ duet: { speak: { value: 0.75 } }, max_output_tokens: 4 }),
      ]);
      const { code, message, param, name } = rejected.reason;
      const { limits, resume_token, query } = session.created.duet;
      session.close();
      return { first: first.value.duet.speak.value, last: last.value.duet.speak.value, rejected: { code, message, param, name },
        kept: [limits !== undefined, resume_token.length > 0], tokens: session.created.max_output_tokens,
        errors: events.filter(({ type }) => type === "error").length };
    }""")
    assert (result["first"], result["last"], result["tokens"]) == (0.25, 0.75, 4)
    assert result["rejected"]["name"] == "MmduetError"
    assert result["rejected"]["param"] == "session.duet.speak.policy"
    assert "loudest" in result["rejected"]["message"]
    assert result["kept"] == [True, True]
    assert result["errors"] == 0, "an error about an update rejects its promise instead"


def test_errors_about_other_input_are_events(page: Page) -> None:
    code = page.evaluate("""async () => {
      const session = await connect(location.origin);
      const error = new Promise((resolve) => session.addEventListener("error", ({ detail }) => resolve(detail.error)));
      session.openSource("file:///etc/passwd", { speed: 1 });
      const { code } = await error;
      session.close();
      return code;
    }""")
    assert code != ""


def test_iteration_yields_every_event_and_ends(page: Page) -> None:
    result = page.evaluate("""async () => {
      const session = await connect(location.origin), events = eventsOf(session);
      const image = await picture(1);
      const bytes = new Uint8Array(await image.arrayBuffer());
      session.ask("What is it?", { time: 0.5 });
      session.addContext("A test.", { keep: true });
      const seqs = [session.push(image, 0), session.push(bytes, 0.5), session.push(bytes.buffer, 1)];
      session.speakNow();
      session.end();
      const seen = [], other = session[Symbol.asyncIterator]();
      for await (const event of session) seen.push(event);
      const left = await other.next();
      await other.return();
      const late = [];
      for await (const event of session) late.push(event);
      return { seen, same: JSON.stringify(seen) === JSON.stringify(events), seqs, left: left.value.type, late,
        failure: await failure((async () => session.ask("more"))()), counts: session.frames };
    }""")
    kinds = [event["type"] for event in result["seen"]]
    roles = [event["item"]["role"] for event in result["seen"] if event["type"] == "conversation.item.added"]
    assert kinds[-1] == "session.closed"
    assert result["same"], "listeners get the same events"
    assert result["seqs"] == [0, 1, 2]
    assert kinds.count("input_frame.scored") == result["counts"]["scored"] == 3
    assert roles[:2] == ["user", "system"]
    assert "response.done" in kinds
    assert result["left"] == result["seen"][0]["type"]
    assert result["late"] == []
    assert result["failure"]["code"] == "session_closed"


def test_invalid_arguments_are_rejected_before_anything_is_sent(page: Page) -> None:
    codes = page.evaluate("""async () => {
      const session = await connect(location.origin);
      const image = await picture(1), empty = new Blob([], { type: "image/jpeg" });
      const attempts = [
        () => connect("127.0.0.1:8765"), () => connect("ftp://host"), () => connect("ws://user:secret@host"),
        () => connect(location.origin, { key: "a", clientSecret: "b" }), () => connect(location.origin, { waitSeconds: -1 }),
        () => connect(location.origin, { key: "not a token" }),
        async () => session.push(image, -1), async () => session.push(image, NaN), async () => session.push(empty, 0),
        async () => session.push(new Uint8Array([1, 2, 3]), 0),
        async () => session.push(new Blob([new Uint8Array(5e6)], { type: "image/jpeg" }), 0),
        async () => streamFrom(session, document.body), async () => streamFrom(session, new MediaStream()),
        async () => streamFrom(session, document.getElementById("canvas"), { fps: 0 }),
        async () => ClientSecret.from(location.origin, {}),
      ];
      const found = [];
      for (const attempt of attempts) found.push(await failure(attempt()));
      session.close();
      return found;
    }""")
    assert [found and found["code"] for found in codes] == ["bad_option"] * len(codes)
    assert "secret" not in codes[2]["message"]


def test_two_sessions_of_a_page_are_independent(page: Page) -> None:
    result = page.evaluate("""async () => {
      const sessions = await Promise.all([connect("../v1/realtime"), connect(`${location.origin.replace("http", "ws")}/v1`)]);
      const logs = sessions.map(eventsOf);
      for (const session of sessions) session.ask("What?");
      await Promise.all(sessions.map((session, value) => session.update({ duet: { speak: { policy: "threshold", value } } })));
      for (let step = 0; step < 4; step++) sessions[0].push(await picture(step), step);
      sessions[1].push(await picture(9), 0);
      sessions[0].end();
      await until(() => sessions[0].isEnded);
      const isOtherOpen = !sessions[1].isEnded;
      sessions[1].end();
      await until(() => sessions[1].isEnded);
      const count = (log, type) => log.filter((event) => event.type === type).length;
      const [scored, replies] = ["input_frame.scored", "response.done"].map((type) => logs.map((log) => count(log, type)));
      return { isOtherOpen, scored, replies, ids: new Set(sessions.map(({ created }) => created.id)).size };
    }""")
    assert result == {"isOtherOpen": True, "scored": [4, 1], "replies": [4, 0], "ids": 2}


def test_close_frees_the_session_at_once_and_an_abort_signal_closes(page: Page, server: RunningServer) -> None:
    page.evaluate("async () => { globalThis.session = await connect(location.origin); session.speakNow(); }")
    assert server.manager.active_count == 1
    page.evaluate("() => session.close()")
    wait_for(lambda: server.manager.active_count == 0)
    result: dict[str, Any] = page.evaluate("""async () => {
      const abort = new AbortController();
      const session = await connect(location.origin, { signal: abort.signal });
      abort.abort();
      const { isEnded, error } = session;
      return { isEnded, error, failure: await failure(connect(location.origin, { signal: abort.signal })) };
    }""")
    assert result["isEnded"]
    assert result["error"] is None
    assert result["failure"]["name"] == "AbortError"


def test_leaving_the_page_ends_its_sessions(browser: Browser, server: RunningServer) -> None:
    with open_client_page(browser, server.http) as page:
        page.evaluate("async () => { globalThis.session = await connect(location.origin); session.ask('What?'); }")
        assert server.manager.active_count == 1
        page.goto("about:blank")
        wait_for(lambda: server.manager.active_count == 0)  # it would stay for a minute if it was only disconnected


def test_a_policy_against_workers_does_not_stop_the_frames(browser: Browser, server: RunningServer) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{server.http}/page/without_workers")
        scored = page.evaluate("""async () => {
          const { connect, streamFrom } = await import("/page/static/mmduet.js");
          const session = await connect(location.origin);
          document.getElementById("canvas").getContext("2d").fillRect(0, 0, 9, 9);
          streamFrom(session, document.getElementById("canvas"), { fps: 20 });
          await new Promise((resolve) => session.addEventListener("input_frame.scored", resolve));
          session.close();
          return session.frames.scored;
        }""")
        assert scored >= 1
        assert page.workers == []


def test_the_page_of_the_guide_narrates_the_camera_from_another_origin(browser: Browser) -> None:
    with (
        serve_site(lambda: document) as site,
        run_client_server(allowed_origins=site) as server,
        browser.new_context(permissions=["camera"]) as context,
    ):
        document = read_document_page().replace("http://127.0.0.1:8765", server.http)
        assert document.count(server.http) == 2
        page = context.new_page()
        page.goto(f"{site}/page/document")
        page.get_by_role("button", name="Start").click()
        page.wait_for_selector("#replies li", state="attached")
        assert page.get_by_role("status").inner_text().strip() == "connected"
