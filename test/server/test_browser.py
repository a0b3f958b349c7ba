"""A real browser: a page of an allowed origin streams its canvas and receives replies; other origins are rejected."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from live_server import RunningServer, run_test_server
from playwright.sync_api import Browser, sync_playwright

PAGE = """<!doctype html><meta charset="utf-8"><canvas id="c" width="64" height="48"></canvas><script>
async function stream(url, key, frames) {
  const ws = new WebSocket(url, ["realtime", "mmduet.key." + key]);
  ws.binaryType = "arraybuffer";
  const events = [];
  const closed = new Promise(done => { ws.onclose = e => done(e.code); });
  ws.onmessage = e => events.push(JSON.parse(e.data));
  const opened = await new Promise(done => { ws.onopen = () => done(true); ws.onerror = () => done(false); });
  if (!opened) return {opened, events, code: await closed};
  const send = o => ws.send(JSON.stringify(o));
  send({type: "session.update", session: {type: "realtime", max_output_tokens: 4,
        duet: {fps: null, speak: {policy: "threshold", value: 0}}}});
  send({type: "conversation.item.create",
        item: {type: "message", role: "user", content: [{type: "input_text", text: "What?"}]}});
  const pen = document.getElementById("c").getContext("2d");
  for (let i = 0; i < frames; i++) {
    pen.fillStyle = `hsl(${i * 60} 80% 50%)`; pen.fillRect(i * 5, 5, 20, 20);
    const blob = await new Promise(done => document.getElementById("c").toBlob(done, "image/jpeg"));
    const body = new Uint8Array(await blob.arrayBuffer());
    const message = new DataView(new ArrayBuffer(16 + body.length));
    message.setUint8(0, 1); message.setUint8(1, 1);
    message.setUint32(4, i, true); message.setBigUint64(8, BigInt(i) * 500000n, true);
    new Uint8Array(message.buffer, 16).set(body);
    ws.send(message.buffer);
  }
  send({type: "input_frame.end"});
  return {opened, protocol: ws.protocol, code: await closed, events};
}
</script>"""


@contextmanager
def serve_page() -> Iterator[int]:
    """Yield the port of an HTTP server with the page."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    site = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield site.server_port
    site.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "no browser is installed; run: apt-get install chromium"
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


def stream_from(browser: Browser, site: int, server: RunningServer, key: str) -> dict:
    tab = browser.new_page()
    try:
        tab.goto(f"http://127.0.0.1:{site}/")
        script = f"stream({json.dumps(server.url())}, {json.dumps(key)}, 4)"
        result: dict = tab.evaluate(script)
    finally:
        tab.close()
    return result


def test_page_streams_its_canvas_and_receives_replies(browser: Browser) -> None:
    with serve_page() as site, run_test_server(keys="s3cret", allowed_origins=f"http://127.0.0.1:{site}") as server:
        result = stream_from(browser, site, server, "s3cret")
    kinds = [event["type"] for event in result["events"]]
    assert (result["protocol"], result["code"]) == ("realtime", 1000)
    assert kinds[0] == "session.created"
    assert kinds[-1] == "session.closed"
    assert kinds.count("input_frame.scored") == 4
    assert kinds.count("response.done") >= 4
    assert "error" not in kinds


def test_page_of_another_origin_is_rejected(browser: Browser) -> None:
    with serve_page() as site, run_test_server(keys="s3cret", allowed_origins="https://example.org") as server:
        result = stream_from(browser, site, server, "s3cret")
        assert server.manager.active_count == 0
    assert result == {"opened": False, "events": [], "code": 1006}
    with serve_page() as site, run_test_server() as server:  # without keys, no page is accepted
        assert stream_from(browser, site, server, "any")["opened"] is False
