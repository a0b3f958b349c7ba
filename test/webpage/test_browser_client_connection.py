"""The browser client in a real browser: credentials, rejections, the queue, lost connections and slow servers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from client_page import (
    ScriptedSocket,
    TcpProxy,
    open_client_page,
    run_client_server,
    run_proxy,
    run_scripted_server,
    serve_site,
)
from live_server import RunningServer, wait_for
from playwright.sync_api import Browser, Page

KEY = "s3cret"


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with serve_site() as base:
        yield base


@pytest.fixture(scope="module")
def page(browser: Browser, site: str) -> Iterator[Page]:
    """A page of another origin than the servers to which it connects."""
    with open_client_page(browser, site) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(site: str) -> Iterator[RunningServer]:
    """A server with a key, which allows the page."""
    with run_client_server(keys=KEY, allowed_origins=site, client_secret_seconds=2) as running:
        yield running


def connection_error(page: Page, url: str, **options: Any) -> dict[str, Any]:
    """Return the error with which ``connect`` rejects."""
    error: dict[str, Any] = page.evaluate("([url, options]) => failure(connect(url, options))", [url, options])
    assert error["name"] == "MmduetError"
    return error


# credentials and rejections


def test_the_reason_of_a_rejection_is_found(page: Page, server: RunningServer) -> None:
    missing = connection_error(page, server.http)
    wrong = connection_error(page, server.http, key="wrong")
    expired = connection_error(page, server.http, clientSecret="ek_a.b.1.2.c")
    assert [missing["code"], wrong["code"], expired["code"]] == ["unauthorized"] * 3
    assert "requires a key" in missing["message"]
    assert "does not accept the key" in wrong["message"]
    assert connection_error(page, server.http, key=KEY, model="other")["code"] == "model_not_found"
    with run_client_server(allowed_origins="https://example.org", keys=KEY) as other:
        forbidden = connection_error(page, other.http, key=KEY)
        assert (forbidden["code"], "allowed_origins" in forbidden["message"]) == ("forbidden_origin", True)
    unreachable = connection_error(page, other.http)
    assert (unreachable["code"], "cannot be reached" in unreachable["message"]) == ("server", True)


def test_a_full_server_is_reported(page: Page, server: RunningServer) -> None:
    limits: dict[str, Any] = {"allowed_origins": [], "max_sessions": 1}
    with run_client_server(**limits) as full, open_same_origin(page, full) as own:
        own.evaluate("async () => { globalThis.session = await connect(location.origin); }")
        error = own.evaluate("() => failure(connect(location.origin))")
    assert (error["code"], "full" in error["message"]) == ("no_capacity", True)
    with run_client_server(keys=KEY, max_sessions_per_key=1) as limited, open_same_origin(page, limited) as own:
        own.evaluate(f"async () => {{ globalThis.session = await connect(location.origin, {{ key: '{KEY}' }}); }}")
        error = own.evaluate(f"() => failure(connect(location.origin, {{ key: '{KEY}' }}))")
    assert error["code"] == "rate_limit_exceeded"


@contextmanager
def open_same_origin(page: Page, server: RunningServer) -> Iterator[Page]:
    """Open a page of the server itself in the same browser."""
    browser = page.context.browser
    assert browser is not None
    with open_client_page(browser, server.http) as opened:
        yield opened


@pytest.mark.slow
def test_a_client_secret_renews_itself(page: Page, server: RunningServer) -> None:
    result = page.evaluate(
        """async ([url, key]) => {
          const secret = await ClientSecret.create(url, { key }), first = secret.latest;
          const session = await connect(url, { clientSecret: secret });
          await until(() => secret.latest !== first && Date.now() > secret.expiresAt - 1900);
          const renewed = secret.latest;
          await until(() => secret.latest !== renewed);
          const restored = await ClientSecret.from(url, JSON.parse(JSON.stringify(secret))).renewed();
          const other = await connect(url, { clientSecret: await restored.value() });
          secret.stop();
          restored.stop();
          const stopped = secret.latest;
          await until(() => Date.now() > secret.expiresAt);
          const expired = await failure(secret.value());
          const visitors = new Set([first, renewed, restored.latest].map((value) => value.split(".")[1])).size;
          session.close();
          other.close();
          const wrong = await failure(ClientSecret.create(url, { key: "x" }));
          return { visitors, isStopped: secret.latest === stopped, expired, wrong };
        }""",
        [server.http, KEY],
    )
    assert result["visitors"] == 1, "a renewed secret is the same visitor"
    assert result["isStopped"]
    assert result["expired"]["code"] == "unauthorized"
    assert result["wrong"]["code"] == "unauthorized"


@pytest.mark.slow
def test_a_secret_without_a_key_is_replaced_if_it_cannot_be_renewed(page: Page, site: str) -> None:
    with run_client_server(allowed_origins=site, client_secret_seconds=1) as server:
        value = page.evaluate(
            """async (url) => {
              const secret = await ClientSecret.create(url), first = secret.latest;
              secret.stop();
              await until(() => Date.now() > secret.expiresAt); // as on a computer that was asleep
              const value = await secret.value();
              const session = await connect(url, { clientSecret: secret });
              session.close();
              return value !== first;
            }""",
            server.http,
        )
    assert value


# the queue


def test_the_place_in_the_queue_is_reported_also_after_a_lost_connection(page: Page) -> None:
    attempts: list[str] = []

    def script(client: ScriptedSocket) -> None:
        attempts.append(client.ws.request.path if client.ws.request else "")
        client.ws.send(
            '{"type": "session.queued", "event_id": "event_000000000000", "position": 2, "estimated_wait_s": null}'
        )
        if len(attempts) == 1:
            client.ws.close(1012, "the server restarts")
            return
        client.ws.send(
            '{"type": "session.queued", "event_id": "event_000000000000", "position": 1, "estimated_wait_s": 3.5}'
        )
        client.send_created()
        client.receive()

    with run_scripted_server(script) as url:
        result = page.evaluate(
            """async (url) => {
              const queue = [], changes = [];
              const session = await connect(url, { waitSeconds: 30, onQueued: (place) => queue.push(place),
                onConnectionChange: ({ state }) => changes.push(state) });
              session.ask("What?");
              session.close();
              return { queue, changes };
            }""",
            url,
        )
    first, again = {"position": 2, "estimatedWait": None}, {"position": 1, "estimatedWait": 3.5}
    assert result == {"queue": [first, first, again], "changes": ["retrying", "connected"]}
    assert ["wait=" in path for path in attempts] == [True, True]


def test_waiting_in_vain_is_a_capacity_error(page: Page) -> None:
    def script(client: ScriptedSocket) -> None:
        client.send("error", error={"type": "server_error", "code": "capacity", "message": "no session within 1 s"})
        client.ws.close(1013, "try again later")

    with run_scripted_server(script) as url:
        error = connection_error(page, url, waitSeconds=1)
    assert (error["code"], error["message"]) == ("capacity", "no session within 1 s")


# lost connections

PUSH = """async ([count, options]) => {
  const changes = [], seqs = [];
  globalThis.allowed = 8;
  globalThis.session = await connect(location.origin, { ...options, onConnectionChange: (change) => changes.push(change) });
  globalThis.events = eventsOf(session);
  await session.update({ duet: { fps: null, speak: { policy: "threshold", value: 0 } }, max_output_tokens: 3 });
  session.ask("What?");
  globalThis.run = (async () => {
    for (let step = 0; step < count; step++) {
      await until(() => step < globalThis.allowed);
      await session.writable();
      seqs.push(session.push(await picture(step), step));
    }
    session.end();
    await until(() => session.isEnded);
    return { events, seqs, changes, counts: session.frames, error: session.error?.code ?? null };
  })();
}"""


def check_complete(result: dict[str, Any], count: int) -> None:
    """Check that no event is missing or repeated, and that every frame was scored once."""
    numbers = [int(event["event_id"].removeprefix("event_")) for event in result["events"]]
    scored = [event["seq"] for event in result["events"] if event["type"] == "input_frame.scored"]
    assert result["seqs"] == scored == list(range(count))
    assert numbers == sorted(set(numbers))
    assert result["events"][-1]["type"] == "session.closed"
    kinds = Counter(event["type"] for event in result["events"])
    assert kinds["response.created"] == kinds["response.done"] == kinds["response.output_text.done"]
    assert kinds["error"] == 0
    counts = {name: result["counts"][name] for name in ("sent", "scored", "pending", "queued", "dropped", "unreported")}
    assert counts == {"sent": count, "scored": count, "pending": 0, "queued": 0, "dropped": 0, "unreported": 0}


def cut_when(page: Page, proxy: TcpProxy, scored: int) -> None:
    """Cut the connections once a number of frames has been scored, wait for the resumption, and allow 8 more frames."""
    count = "globalThis.events.filter((event) => event.type === '%s').length"
    page.wait_for_function(f"{count % 'input_frame.scored'} >= {scored}")
    resumed = page.evaluate(f"() => {count % 'session.resumed'}")
    proxy.cut()
    page.wait_for_function(f"{count % 'session.resumed'} > {resumed}")
    page.evaluate("() => { allowed += 8; }")


def test_a_session_resumes_without_losing_or_repeating_anything(browser: Browser) -> None:
    with (
        run_client_server() as server,
        run_proxy(server.port) as proxy,
        open_client_page(browser, proxy.base) as page,
    ):
        page.evaluate(PUSH, [32, {}])
        for scored in (3, 11, 19):
            cut_when(page, proxy, scored)
        result = page.evaluate("() => run")
    check_complete(result, 32)
    states = [change["state"] for change in result["changes"]]
    assert (states[0], states[1], states[-1]) == ("connected", "retrying", "resumed")
    assert states.count("resumed") >= 3
    retries = [change for change in result["changes"] if change["state"] == "retrying"]
    assert all(change["retrySeconds"] >= 0.1 and change["reason"] for change in retries)


@pytest.mark.slow
def test_a_session_survives_a_restart_of_the_server(browser: Browser, tmp_path: Path) -> None:
    with run_proxy(0) as proxy, ExitStack() as pages:
        with run_client_server(journal=tmp_path) as server:
            proxy.upstream = server.port
            page = pages.enter_context(open_client_page(browser, proxy.base))
            page.evaluate(PUSH, [16, {}])
            page.wait_for_function("events.filter((event) => event.type === 'input_frame.scored').length >= 4")
            proxy.upstream = 0
        with run_client_server(journal=tmp_path) as server:
            proxy.upstream = server.port
            page.evaluate("() => { allowed = 16; }")
            result = page.evaluate("() => run")
    check_complete(result, 16)
    assert "resumed" in [change["state"] for change in result["changes"]]


def test_an_expired_session_ends_with_an_error(page: Page) -> None:
    def script(client: ScriptedSocket) -> None:
        if "resume" in (client.ws.request.path if client.ws.request else ""):
            client.ws.send('{"type": "session.expired", "event_id": "event_000000000000", "session_id": "sess_1"}')
            client.ws.close(4004, "expired")
            return
        client.send_created()
        client.ws.close(1011, "gone")

    with run_scripted_server(script) as url:
        result = page.evaluate(
            """async (url) => {
              const changes = [];
              const session = await connect(url, { onConnectionChange: (change) => changes.push(change) });
              const update = failure(session.update({ duet: { fps: 1 } }));
              const iteration = failure((async () => { for await (const _ of session); })());
              await until(() => session.isEnded);
              const errors = [await update, await iteration, await failure(session.writable()), session.error, changes.at(-1)];
              return [...errors.map(({ code }) => code), ...changes.map(({ state }) => state)];
            }""",
            url,
        )
    assert result == ["connection_lost"] * 5 + ["connected", "retrying", "gave_up"]


def test_a_client_gives_up_after_max_reconnect_seconds(page: Page) -> None:
    def script(client: ScriptedSocket) -> None:
        if "resume" not in (client.ws.request.path if client.ws.request else ""):
            client.send_created()

    with run_scripted_server(script) as url:
        change = page.evaluate(
            """async (url) => {
              const changes = [];
              const onConnectionChange = (change) => changes.push(change);
              const session = await connect(url, { maxReconnectSeconds: 0.4, onConnectionChange });
              await until(() => session.isEnded);
              return changes.at(-1);
            }""",
            url,
        )
    assert (change["state"], change["code"]) == ("gave_up", "connection_lost")
    assert "gave up after" in change["reason"]


# slow servers


def test_the_oldest_frames_are_dropped_and_counted_while_the_server_is_behind(page: Page) -> None:
    frames: list[int] = []
    proceed = threading.Event()

    def script(client: ScriptedSocket) -> None:
        client.send_created()
        for _ in range(3):
            frames.append(client.receive())
        assert proceed.wait(10)
        for _ in range(2):
            for seq in frames[-3:]:
                client.send("input_frame.scored", seq=seq, pts=0, decision="listen", age_ms=0)
            frames.extend(client.receive() for _ in range(3))
        client.ended.wait(10)

    with run_scripted_server(script) as url:
        waiting = page.evaluate(
            """async (url) => {
              globalThis.session = await connect(url, { maxUnscored: 3, maxQueue: 4 });
              const image = await picture(1);
              for (let step = 0; step < 20; step++) session.push(image, step);
              return session.frames;
            }""",
            url,
        )
        wait_for(lambda: len(frames) == 3)
        proceed.set()
        page.wait_for_function("session.frames.scored === 6")
        counts = page.evaluate("() => session.frames")
        pump = page.evaluate("""async () => {
          const pushed = [], pump = streamFrom(session, document.getElementById("canvas"), { fps: 20, maxQueue: 2 });
          pump.addEventListener("frame", ({ detail }) => pushed.push(detail.seq));
          await until(() => pump.dropped >= 3);
          pump.stop();
          const result = { pushed, dropped: pump.dropped, counts: session.frames, isWritable: session.isWritable };
          session.close();
          return result;
        }""")
    assert (waiting["sent"], waiting["queued"], waiting["dropped"], waiting["pending"]) == (3, 4, 13, 3)
    assert frames[:6] == [0, 1, 2, 16, 17, 18], "the newest of the waiting frames are kept"
    assert (counts["sent"], counts["queued"], counts["dropped"], counts["pending"]) == (7, 0, 13, 1)
    assert pump["pushed"] == [20, 21], "the pump pushes only what can be sent at once"
    assert pump["counts"]["dropped"] == 13
    assert pump["dropped"] >= 3 + 2, "frames that wait when the pump stops count as well"
    assert not pump["isWritable"]


def test_old_frames_are_not_sent_again_after_a_resumption(page: Page) -> None:
    received: list[Any] = []
    too_old = threading.Event()

    def script(client: ScriptedSocket) -> None:
        path = client.ws.request.path if client.ws.request else ""
        if "resume" not in path:
            assert "max_frame_age=0.15" in path
            client.send_created(max_frame_age=0.15)
            received.extend(client.receive() for _ in range(2))
            client.ws.close(1011, "interrupted")
            return
        resume = client.receive()
        client.last_event = 10
        assert too_old.wait(30)
        client.send("session.resumed", session_id="sess_1", last_consumed_client_message_index=0)
        received.extend([resume["type"], client.receive()["type"], client.receive()])

    with run_scripted_server(script) as url:
        page.evaluate(
            """async (url) => {
              globalThis.session = await connect(url, { maxFrameAge: 0.15 });
              const image = await picture(1);
              for (const time of [0, 1]) session.push(image, time); // the second is lost
              session.ask("What?");
              globalThis.pushed = performance.now();
              globalThis.resumed = new Promise((resolve) => session.addEventListener("session.resumed", resolve));
            }""",
            url,
        )
        page.wait_for_function("performance.now() > pushed + 150")
        too_old.set()
        page.evaluate("async () => { await resumed; session.push(await picture(1), 2); }")
        wait_for(lambda: len(received) == 5)
        counts = page.evaluate("() => { session.close(); return session.frames; }")
    assert received == [0, 1, "session.resume", "conversation.item.create", 2]
    assert (counts["sent"], counts["dropped"], counts["pending"]) == (2, 1, 2)
