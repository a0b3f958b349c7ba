"""Limits per key over real connections: sessions, frames, bytes, tokens and sources, and how they are reported.

The rates are so low that nothing recovers during a test, and the burst is what a key may use; or they are reached at once.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import openai
import pytest
from live_server import RunningServer, SocketClient, endless_model, jpeg, run_test_server, wait_for
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mmduet.client import SessionsClient
from mmduet.client.blocking import RemoteStream
from mmduet.errors import RateLimitError
from mmduet.protocol.frames import EncodedImage, ImageFormat, pack_frame
from mmduet.video import VideoWriter

SILENT = {"fps": None, "window": 8, "speak": {"policy": "never"}}
MINE, YOURS = ({"Authorization": f"Bearer {key}"} for key in ("mine", "yours"))


def at_most(**limits: int) -> dict[str, float]:
    """Return settings with which a key may use these amounts once: they would recover after weeks."""
    return {"key_burst_seconds": 1e7, **{f"{name}_per_second_per_key": count / 1e7 for name, count in limits.items()}}


def raw_frame(seq: int, size: int = 100) -> bytes:
    return pack_frame(seq, seq * 100_000, EncodedImage(ImageFormat.RAW, bytes(size * size * 3), size, size))


def outcomes(events: list[dict]) -> list[str]:
    return [e.get("reason", "scored") for e in events if e["type"].startswith("input_frame.")]


def openai_client(server: RunningServer, key: str) -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=f"{server.http}/v1", max_retries=0)


def complete(server: RunningServer, key: str, images: int = 0, **options: object):
    """Request a chat completion about some images; return the response with its headers."""
    url = "data:image/jpeg;base64," + base64.b64encode(jpeg(1)).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}] * images + [{"type": "text", "text": "What?"}]
    messages = [{"role": "user", "content": content}]
    chat = openai_client(server, key).chat.completions.with_raw_response
    return chat.create(model="random:tiny", messages=messages, max_tokens=20, **options)


def metric(server: RunningServer, limit: str) -> float:
    page = httpx2.get(f"{server.http}/metrics").text
    (line,) = [
        line for line in page.splitlines() if line.startswith(f'mmduet:key_limit_reached_total{{limit="{limit}"')
    ]
    return float(line.split()[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("videos")
    noise = np.random.default_rng(0)
    with VideoWriter(folder / "film.mp4", 64, 48, 10.0) as writer:
        for _ in range(20):
            writer.write(noise.integers(0, 255, (48, 64, 3), np.uint8))
    return folder


def test_without_limits_nothing_is_sent(server: RunningServer) -> None:
    with server.connect() as client:
        assert client.receive()["session"]["duet"]["limits"]["per_key"] == {
            "max_sessions": None,
            "max_sources": None,
            "frames_per_second": None,
            "bytes_per_second": None,
            "tokens_per_second": None,
            "burst_s": 10.0,
        }
        assert not [name for name in client.ws.response.headers if name.startswith("x-ratelimit")]
        client.update_session(max_output_tokens=2)
        client.send_frames(1)
        client.send_text("What?")
        client.send("response.create")
        assert "rate_limits.updated" not in [event["type"] for event in client.end_stream()]
    assert not [name for name in complete(server, "any").headers if name.startswith("x-ratelimit")]


def test_sessions_of_a_key_are_rejected_with_429() -> None:
    with run_test_server(keys="mine,yours", max_sessions_per_key=1) as server:
        with server.connect(additional_headers=MINE) as client, server.connect(additional_headers=YOURS):
            assert client.receive()["session"]["duet"]["limits"]["per_key"]["max_sessions"] == 1
            assert client.ws.response.headers["x-ratelimit-remaining-sessions"] == "0"
            with pytest.raises(InvalidStatus) as rejected:
                server.connect(additional_headers=MINE)
            response = rejected.value.response
            assert (response.status_code, response.headers["x-ratelimit-limit-sessions"]) == (429, "1")
            assert int(response.headers["retry-after"]) > 0
            with pytest.raises(openai.RateLimitError, match="all 1 sessions of this key") as limited:
                complete(server, "mine")
            assert limited.value.code == "rate_limit_exceeded"
            with (
                pytest.raises(RateLimitError, match="all 1 sessions of this key"),
                RemoteStream(server.http, key="mine"),
            ):
                pass
        wait_for(lambda: server.manager.active_count == 0)
        assert complete(server, "mine").headers["x-ratelimit-limit-sessions"] == "1"
        assert metric(server, "sessions") == 3


def test_client_secrets_use_the_limits_of_their_key() -> None:
    with run_test_server(keys="mine,yours", max_sessions_per_key=2, **at_most(frames=5)) as server:
        secrets = [
            httpx2.post(f"{server.http}/v1/realtime/client_secrets", headers=headers).json()["value"]
            for headers in (MINE, MINE, YOURS)
        ]
        one, two, other = ({"Authorization": f"Bearer {secret}"} for secret in secrets)
        with server.connect(additional_headers=one) as first, server.connect(additional_headers=two) as second:
            for headers in (one, MINE):
                with pytest.raises(InvalidStatus) as rejected:
                    server.connect(additional_headers=headers)
                assert rejected.value.response.status_code == 429
            for client, count, scored in ((first, 3, 3), (second, 4, 2)):
                client.update_session(SILENT)
                client.send_frames(count)
                assert outcomes(client.end_stream()) == ["scored"] * scored + ["rate"] * (count - scored)
        with server.connect(additional_headers=other) as client:
            assert client.ws.response.headers["x-ratelimit-remaining-frames"] == "5"


def test_requests_about_a_session_count_and_report_the_limits(folder: Path) -> None:
    settings = {"keys": "mine", "pull_roots": str(folder), **at_most(bytes=100_000, tokens=2)}
    with run_test_server(**settings) as server, SessionsClient(server.http, key="mine") as client:
        session = client.create("film.mp4", paused=True, duet={"speak": {"policy": "never"}}).id
        url = f"{server.http}/v1/sessions/{session}"

        def remaining(response: httpx2.Response) -> int:
            assert response.is_success
            return int(response.headers["x-ratelimit-remaining-bytes"])

        before = remaining(httpx2.get(url, headers=MINE))
        query = "x" * 100
        assert remaining(httpx2.post(f"{url}/queries", json={"query": query}, headers=MINE)) <= before - 100
        assert remaining(httpx2.patch(url, json={"type": "realtime"}, headers=MINE)) < before - 100
        client.speak_now(session)
        complete(server, "mine")
        with pytest.raises(RateLimitError, match="tokens per second") as limited:
            client.speak_now(session)
        assert limited.value.retry_after_seconds > 1000
        listed = httpx2.get(f"{server.http}/v1/sessions", headers=MINE)
        assert listed.headers["x-ratelimit-remaining-tokens"] == "0"


def test_pause_while_a_file_waits_for_the_rate(folder: Path) -> None:
    limits = {"frames_per_second_per_key": 20, "key_burst_seconds": 0.01}
    with run_test_server(pull_roots=str(folder), **limits) as server, SessionsClient(server.http) as client:
        session = client.create("film.mp4", duet=SILENT).id
        wait_for(lambda: client.show(session).frames.scored > 2)
        client.pause(session)
        time.sleep(0.2)  # longer than a frame waits for the rate
        client.resume(session)
        wait_for(lambda: client.show(session).state == "ended")
        frames = client.show(session).frames
        assert (frames.scored, frames.dropped) == (20, {})


def test_frames_beyond_the_rate_of_a_key_are_dropped() -> None:
    with run_test_server(keys="mine,yours", **at_most(frames=5)) as server:
        with server.connect(additional_headers=MINE) as one, server.connect(additional_headers=MINE) as two:
            for client, count, scored in ((one, 3, 3), (two, 4, 2)):
                client.update_session(SILENT)
                client.send_frames(count)
                events = client.end_stream()
                assert outcomes(events) == ["scored"] * scored + ["rate"] * (count - scored)
                assert events[-1]["frames"]["received"] == count
        update = next(event for event in events if event["type"] == "rate_limits.updated")
        state = {limit["name"]: (limit["limit"], limit["remaining"]) for limit in update["rate_limits"]}
        assert state["frames"] == (5, 0)
        with server.connect(additional_headers=MINE) as again:
            assert again.ws.response.headers["x-ratelimit-remaining-frames"] == "0"
            again.send_frames(1)
            assert outcomes(again.end_stream()) == ["rate"]  # reconnecting does not reset the rate
        with server.connect(additional_headers=YOURS) as other:
            other.send_frames(1)
            assert outcomes(other.end_stream()) == ["scored"]
        assert metric(server, "frames") == 3


def test_frames_dropped_by_fps_do_not_count() -> None:
    with run_test_server(**at_most(frames=4)) as server, server.connect() as client:
        client.update_session({**SILENT, "fps": 1})
        client.send_frames(8, step_us=500_000)
        assert outcomes(client.end_stream()) == ["scored", "rate"] * 4
        assert metric(server, "frames") == 0


def test_bytes_beyond_the_rate_are_read_slowly_without_loss() -> None:
    with run_test_server(bytes_per_second_per_key=150_000, key_burst_seconds=0.1) as server:
        with server.connect() as one, server.connect() as two:
            started = time.monotonic()
            for client in (one, two):
                client.update_session(SILENT)
                for seq in range(3):
                    client.ws.send(raw_frame(seq))
            for client in (one, two):
                events = client.end_stream()
                assert outcomes(events) == ["scored"] * 3
                assert "rate_limits.updated" in [event["type"] for event in events]
            # The last message of each session is read before its bytes are waited for, the burst at once.
            assert time.monotonic() - started > (4 * 30_000 - 15_000) / 150_000
        assert metric(server, "bytes") > 0


def test_request_bodies_are_read_slowly() -> None:
    with run_test_server(bytes_per_second_per_key=40_000, key_burst_seconds=0.1) as server:
        started = time.monotonic()
        response = complete(server, "any", images=10)
        assert time.monotonic() - started > 10 * len(jpeg(1)) / 40_000 - 0.1
        assert response.headers["x-ratelimit-limit-bytes"] == "4000"


def test_a_client_that_is_read_slowly_is_not_taken_for_dead() -> None:
    limits = {"bytes_per_second_per_key": 12_000, "key_burst_seconds": 0.1}
    with run_test_server(ping_interval=0.75, **limits) as server, server.connect(ping_interval=None) as client:
        client.update_session(SILENT)
        client.ws.send(raw_frame(0))  # 2.4 s, longer than the time until the first ping and for its pong
        assert outcomes(client.end_stream()) == ["scored"]


def test_a_session_that_is_read_slowly_can_be_resumed_elsewhere() -> None:
    with run_test_server(bytes_per_second_per_key=100, key_burst_seconds=1) as server, server.connect() as client:
        created = client.receive()["session"]
        client.ws.send(raw_frame(0))  # 5 minutes
        client.receive("rate_limits.updated")
        with server.connect(resume=True) as again:
            again.send("session.resume", session_id=created["id"], resume_token=created["duet"]["resume_token"])
            again.receive("session.resumed")
            with pytest.raises(ConnectionClosed) as closed:
                client.receive("session.closed")
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4001


def test_tokens_end_replies_with_length() -> None:
    with run_test_server(endless_model(), **at_most(tokens=5)) as server, server.connect() as client:
        client.update_session(SILENT, max_output_tokens=20)
        client.send_frames(1)
        replies = []
        for _ in range(2):
            client.send_text("What?")
            client.send("response.create")
            replies.append(client.receive_until("response.done"))
            assert client.receive()["type"] == "rate_limits.updated"
        used = [events[-1]["response"]["usage"]["output_tokens"] for events in replies]
        assert used == [5, 0]
        assert [events[-1]["response"]["status"] for events in replies] == ["incomplete", "incomplete"]
        kinds = [event["type"] for event in replies[0]]
        assert kinds.index("response.created") < kinds.index("rate_limits.updated") < kinds.index("response.done")
        client.send_frames(1)
        assert outcomes(client.end_stream()) == ["scored"]  # the session goes on
        assert metric(server, "tokens") == 2


def test_tokens_of_chat_completions_are_limited() -> None:
    with run_test_server(endless_model(), keys="mine,yours", **at_most(tokens=25)) as server:
        whole = complete(server, "mine").parse()
        assert (whole.choices[0].finish_reason, whole.usage.completion_tokens) == ("length", 20)
        streamed = complete(server, "mine", stream=True)
        assert streamed.headers["x-ratelimit-remaining-tokens"] == "5"
        chunks = list(streamed.parse())
        assert chunks[-1].choices[0].finish_reason == "length"
        with pytest.raises(openai.RateLimitError, match="tokens per second") as limited:
            complete(server, "mine")
        assert int(limited.value.response.headers["retry-after"]) > 1000
        assert limited.value.response.headers["x-ratelimit-remaining-tokens"] == "0"
        assert complete(server, "yours").parse().usage.completion_tokens == 20


def test_frames_of_videos_and_chats_wait_for_the_rate(folder: Path) -> None:
    limits = {"frames_per_second_per_key": 20, "key_burst_seconds": 0.1}
    with run_test_server(pull_roots=str(folder), **limits) as server:
        with server.connect() as client:
            client.update_session(SILENT)
            started = time.monotonic()
            client.send("input_source.open", url=str(folder / "film.mp4"))
            client.receive("input_source.closed")
            events = client.end_stream()
            assert events[-1]["frames"] == {"received": 20, "scored": 20}
        started_chat = time.monotonic()
        assert started_chat - started > (20 - 2) / 20
        complete(server, "any", images=8)
        assert time.monotonic() - started_chat > (8 - 2) / 20


def test_sources_of_a_key_are_limited(folder: Path) -> None:
    film = str(folder / "film.mp4")
    settings = {"keys": "mine,yours", "pull_roots": str(folder), "max_sources_per_key": 1, **at_most(frames=2)}

    def open_source(client: SocketClient) -> dict:
        client.send("input_source.open", url=film)
        return next(e for e in iter(client.receive, None) if e["type"] in ("input_source.opened", "error"))

    with run_test_server(**settings) as server, server.connect(additional_headers=MINE) as one:
        assert open_source(one)["type"] == "input_source.opened"  # it stays open, because its frames wait
        with server.connect(additional_headers=MINE) as two, server.connect(additional_headers=YOURS) as other:
            assert two.ws.response.headers["x-ratelimit-remaining-sources"] == "0"
            assert open_source(two)["error"]["code"] == "rate_limit_exceeded"
            assert open_source(other)["type"] == "input_source.opened"
            body = {"source": film}
            rejected = httpx2.post(f"{server.http}/v1/sessions", json=body, headers=MINE)
            assert (rejected.status_code, rejected.json()["error"]["code"]) == (429, "rate_limit_exceeded")
            one.send("input_source.close")
            one.receive("input_source.closed")
            created = httpx2.post(f"{server.http}/v1/sessions", json=body, headers=MINE)
            assert (created.status_code, created.headers["x-ratelimit-remaining-sources"]) == (201, "0")
            httpx2.delete(f"{server.http}{created.headers['location']}", headers=MINE)
            wait_for(lambda: open_source(two)["type"] == "input_source.opened")
        assert metric(server, "sources") >= 2
