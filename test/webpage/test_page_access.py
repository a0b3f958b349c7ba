"""Who may use the live page, what of Gradio's is closed, and the page behind a reverse proxy or at a full server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from certificates import write_certificate
from live_server import RunningServer
from page_driver import CHROMIUM_ARGUMENTS, PageDriver, open_tab
from page_server import run_page_server
from playwright.sync_api import Browser, expect
from proxies import run_caddy, run_nginx
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mmduet.errors import OptionError, RateLimitError
from mmduet.model import LoadedModel, load_model
from mmduet.server.config_loading import load_config
from mmduet.webpage.visitor_rate import VisitorRate

PUBLIC = {"public": True, "page": True, "max_sessions_per_client_secret": 1, "frames_per_second_per_client_secret": 8.0}


@pytest.fixture(scope="module")
def nano() -> LoadedModel:
    return load_model("nano")


@pytest.fixture(scope="module")
def server(nano: LoadedModel) -> Iterator[RunningServer]:
    with run_page_server(nano, keys="s3cret") as running:
        yield running


def url_of(server: RunningServer) -> str:
    return f"{server.http}/page/"


def test_key_is_asked_for_until_it_is_right(browser: Browser, server: RunningServer) -> None:
    visitor = PageDriver(browser.new_context(), url_of(server))
    try:
        visitor.open()
        key = visitor.page.get_by_label("Access key (API key)")
        key.fill("wrong")
        key.press("Enter")
        expect(visitor.page.get_by_role("alert")).to_contain_text("key")
        key.fill("s3cret")
        key.press("Enter")
        visitor.wait_until_ready()
        visitor.start_clip(0)
        visitor.wait_for_event("e.type === 'response.output_text.done'")
        assert "s3cret" not in visitor.page.evaluate("JSON.stringify([sessionStorage, localStorage, document.cookie])")
        visitor.page.reload()
        visitor.wait_until_ready()  # without the key: the tab keeps its client secret
    finally:
        visitor.close()


def test_public_page_admits_visitors_with_limits(browser: Browser, nano: LoadedModel) -> None:
    with run_page_server(nano, keys="s3cret", **PUBLIC) as server:
        with open_tab(browser, url_of(server)) as visitor:
            visitor.start_clip(0)
            visitor.wait_for_state("live")
            (session,) = server.manager.sessions
            assert session.owner.count(".") == 1, "the owner is a client secret of the key"
            assert not visitor.problems
        assert httpx2.get(f"{server.http}/v1/models").status_code == 401, "the API still needs a key"
        foreign = {"Origin": "https://elsewhere.example"}
        assert httpx2.post(f"{server.http}/page/visitors", headers=foreign).status_code == 403


def test_one_address_cannot_create_visitors_without_end(nano: LoadedModel) -> None:
    with run_page_server(nano, keys="s3cret", **PUBLIC) as server, httpx2.Client() as client:
        answers = [client.post(f"{server.http}/page/visitors") for _ in range(6)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert answers[0].status_code == 200
    assert refused
    assert int(refused[0].headers["retry-after"]) > 0


@pytest.mark.slow
def test_start_that_fails_can_be_tried_again(browser: Browser, nano: LoadedModel) -> None:
    with run_page_server(nano, keys="s3cret", **PUBLIC) as public:
        visitor = PageDriver(browser.new_context(), url_of(public))
        message = "too many visitors from this network address; try again in 10 s"
        limited = {"error": {"code": "rate_limited", "type": "rate_limit_error", "message": message}}
        visitor.page.route("**/page/visitors", lambda route: route.fulfill(status=429, json=limited))
        visitor.open()
        expect(visitor.page.get_by_role("alert")).to_contain_text(message)
        visitor.page.unroute("**/page/visitors")
        visitor.page.route("**/page/visitors", lambda route: route.abort())
        visitor.page.get_by_role("button", name="Try again").click()
        expect(visitor.page.get_by_role("alert")).to_contain_text("cannot be reached")
        visitor.page.unroute("**/page/visitors")
        visitor.page.get_by_role("button", name="Try again").click()
        visitor.wait_until_ready()
        expect(visitor.page.get_by_role("button", name="Try again")).to_have_count(0)
        visitor.close()


@pytest.mark.slow
def test_camera_and_screen_require_https_and_the_page_explains_it(browser: Browser, server: RunningServer) -> None:
    arguments = [*CHROMIUM_ARGUMENTS, "--host-resolver-rules=MAP page.example 127.0.0.1"]
    with browser.browser_type.launch(executable_path=shutil.which("chromium"), args=arguments) as other:
        visitor = PageDriver(other.new_context(), f"http://page.example:{server.port}/page/")
        visitor.open()
        visitor.page.get_by_label("Access key (API key)").fill("s3cret")
        visitor.page.get_by_label("Access key (API key)").press("Enter")
        visitor.wait_until_ready()
        for source, button in (("Camera", "Start the camera"), ("Screen", "Share a screen or window")):
            visitor.page.get_by_role("tab", name=source, exact=True).click()
            expect(visitor.page.get_by_role("button", name=button)).to_be_disabled()
            expect(visitor.page.get_by_role("note").filter(visible=True)).to_contain_text(
                "over HTTPS or from localhost"
            )
        visitor.page.evaluate("window.mmduetPage.start({kind: 'camera'})")
        visitor.wait_for_state("failed")
        help_of_view = visitor.view.locator("a[href$='static/https.html']")
        expect(help_of_view).to_be_visible()
        visitor.page.get_by_role("link", name="How to enable HTTPS").filter(visible=True).first.click()
        expect(visitor.page.get_by_role("heading", level=1)).to_have_text("HTTPS for camera and screen")
        visitor.page.get_by_role("link", name="Back to the live page").click()
        visitor.wait_until_ready()
        visitor.close()


def test_addresses_of_visitors_are_limited_one_by_one() -> None:
    now = [0.0]
    rate = VisitorRate(lambda: now[0])
    for _ in range(4):
        rate.take("one")
    with pytest.raises(RateLimitError, match="network address") as limited:
        rate.take("one")
    assert limited.value.retry_after_seconds == pytest.approx(30)
    rate.take("other")
    now[0] = 30.0
    rate.take("one")


@pytest.mark.parametrize(
    ("addresses", "other"),
    [
        ([f"2001:db8:0:1::{n}" for n in range(1, 6)], "2001:db8:0:2::1"),
        (["203.0.113.7", "::ffff:203.0.113.7"] * 2 + ["203.0.113.7"], "::ffff:203.0.113.8"),
    ],
)
def test_addresses_of_one_network_count_as_one(addresses: list[str], other: str) -> None:
    rate = VisitorRate(lambda: 0.0)
    for address in addresses[:4]:
        rate.take(address)
    with pytest.raises(RateLimitError):
        rate.take(addresses[4])
    rate.take(other)


def test_visitors_without_key_are_not_admitted_unless_public(server: RunningServer) -> None:
    answer = httpx2.post(f"{server.http}/page/visitors")
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        401,
        "this page is not public; enter an access key",
    )


@pytest.mark.parametrize("missing", sorted(PUBLIC.keys() - {"public"}))
def test_public_requires_page_and_limits(missing: str) -> None:
    settings = {name: value for name, value in PUBLIC.items() if name != missing}
    with pytest.raises(OptionError, match=missing):
        load_config(keys="k", **settings)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "gradio_api/upload"),
        ("POST", "gradio_api/queue/join"),
        ("POST", "gradio_api/run/predict"),
        ("POST", "gradio_api/call/predict"),
        ("POST", "gradio_api/reset"),
        ("POST", "gradio_api/component_server"),
        ("GET", "gradio_api/queue/data"),
        ("GET", "gradio_api/file=/etc/passwd"),
        ("GET", "gradio_api/file/etc/passwd"),
        ("GET", "gradio_api/proxy=http://127.0.0.1:1/"),
        ("GET", "gradio_api/vibe-code/"),
        ("GET", "gradio_api/heartbeat/abc"),
        ("GET", "monitoring"),
        ("POST", "login"),
        ("GET", "static/../../page.py"),
        ("GET", "static/%2e%2e/page.py"),
    ],
)
def test_what_the_page_does_not_need_is_closed(server: RunningServer, method: str, path: str) -> None:
    answer = httpx2.request(method, f"{url_of(server)}{path}", json={} if method == "POST" else None)
    assert answer.status_code in (404, 405)


@pytest.mark.parametrize("path", ["", "x", "clips", "gradio_api/queue/join", "static/ws"])
def test_the_page_has_no_websocket_endpoint(server: RunningServer, path: str) -> None:
    with pytest.raises(InvalidStatus) as rejected:
        connect(f"{url_of(server).replace('http', 'ws', 1)}{path}").close()
    assert rejected.value.response.status_code == 404
    assert b"/v1/realtime" in rejected.value.response.body


def test_page_forbids_other_hosts_and_frames(server: RunningServer) -> None:
    headers = httpx2.get(url_of(server)).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    host = server.http.removeprefix("http://")
    assert policy["connect-src"] == f"'self' ws://{host} wss://{host}", "no WebSocket to other hosts"
    assert headers["x-frame-options"] == "SAMEORIGIN"


@pytest.mark.slow
def test_visitors_wait_while_the_server_is_full(browser: Browser, nano: LoadedModel) -> None:
    with (
        run_page_server(nano, max_sessions=1) as server,
        open_tab(browser, url_of(server)) as first,
        open_tab(browser, url_of(server)) as second,
    ):
        first.start_clip(0)
        first.wait_for_state("live")
        second.start_clip(1)
        second.wait_for_state("queued")
        expect(second.view.get_by_text("You are next.")).to_be_visible()
        first.press("Stop")
        second.wait_for_state("live")
        second.wait_for_event("e.type === 'input_frame.scored'")


@pytest.mark.parametrize("proxy", [run_nginx, pytest.param(run_caddy, marks=pytest.mark.slow)])
def test_page_works_behind_a_proxy_with_prefix_and_tls(
    browser: Browser, nano: LoadedModel, tmp_path: Path, proxy: object
) -> None:
    certificate, key = write_certificate(tmp_path)
    with (
        run_page_server(nano, keys="s3cret", root_path="/mmduet", trusted_proxies="127.0.0.1", **PUBLIC) as server,
        proxy(tmp_path, server.port, certificate, key) as port,  # type: ignore[operator]
        open_tab(browser, f"https://localhost:{port}/mmduet/page/", ignore_https_errors=True) as visitor,
    ):
        visitor.start_clip(0)
        visitor.wait_for_event("e.type === 'response.output_text.done'")
        assert visitor.page.evaluate("isSecureContext")
        assert not visitor.problems


@pytest.mark.slow
def test_server_restarts_under_the_page(browser: Browser, nano: LoadedModel, tmp_path: Path) -> None:
    with run_page_server(nano, journal=tmp_path) as server:
        port = server.port
        visitor = PageDriver(browser.new_context(), url_of(server))
        visitor.open()
        visitor.wait_until_ready()
        visitor.start_camera()
        visitor.wait_for_event("e.type === 'input_frame.scored'")
    visitor.wait_for_state("retrying")
    scored = len(visitor.events("input_frame.scored"))
    with run_page_server(nano, journal=tmp_path, port=port):
        visitor.wait_for_state("live")
        visitor.page.wait_for_function(
            "(count) => window.mmduetPage.view.log.events.filter((e) => e.type === 'input_frame.scored').length > count + 2",
            arg=scored,
        )
        assert len(visitor.events("session.created")) == 1, "the session was resumed"
        visitor.close()
