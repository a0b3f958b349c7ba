"""A server that is offered more than it can serve: old frames are dropped, and new sessions are refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from duet_rig import lively_model
from live_server import RunningServer, SocketClient, jpeg, run_test_server, wait_for
from video_files import make
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mmduet.client import RemoteSession
from mmduet.model import LoadedModel
from mmduet.protocol import server_events
from mmduet.protocol.frames import EncodedImage, ImageFormat, pack_frame
from mmduet.server.live_session import LiveSession

STEP_SECONDS = 0.1


def slow_model() -> LoadedModel:
    """Return a model whose steps take at least ``STEP_SECONDS``."""
    model = lively_model()
    model.network.heads.register_forward_pre_hook(lambda *_: time.sleep(STEP_SECONDS))
    return model


@pytest.fixture(scope="module")
def slow_server() -> Iterator[RunningServer]:
    with run_test_server(slow_model(), max_frame_age=0.5) as server:
        yield server


async def send_at_once(url: str, frames: int, *, block_when_behind: bool = False) -> tuple[float | None, list[str]]:
    """Send frames without a pause; return the session's ``max_frame_age`` and the outcomes of the frames."""
    outcomes = []
    async with RemoteSession(url, block_when_behind=block_when_behind) as session:
        assert session.created is not None
        limit = session.created.duet.max_frame_age
        for number in range(frames):
            await session.push(jpeg(number), number / 2)
        await session.end()
        async for event in session:
            if isinstance(event, server_events.FrameScored):
                outcomes.append("scored")
            elif isinstance(event, server_events.FrameDropped):
                outcomes.append(event.reason)
    return limit, outcomes


def test_frames_that_have_waited_too_long_are_dropped(slow_server: RunningServer) -> None:
    limit, outcomes = asyncio.run(send_at_once(slow_server.url(), 16))  # would take 1.6 seconds
    assert limit == 0.5
    assert len(outcomes) == 16
    assert set(outcomes) == {"scored", "late"}


def test_a_client_that_waits_for_the_server_loses_no_frame(slow_server: RunningServer) -> None:
    limit, outcomes = asyncio.run(send_at_once(slow_server.url(), 16, block_when_behind=True))
    assert limit is None
    assert outcomes == ["scored"] * 16


def test_the_limit_can_be_set_in_the_url_and_by_an_update(slow_server: RunningServer) -> None:
    with SocketClient(connect(slow_server.url(max_frame_age="3600"), legacy=True)) as client:
        assert client.receive()["session"]["duet"]["max_frame_age"] == 3600
        client.send_frames(10)
        assert client.end_stream()[-1]["frames"] == {"received": 10, "scored": 10}
    with slow_server.connect() as client:
        assert client.receive()["session"]["duet"]["max_frame_age"] == 0.5
        client.update_session({"max_frame_age": None})
        assert client.receive("session.updated")["session"]["duet"]["max_frame_age"] is None


@pytest.mark.parametrize("value", ["-1", "0", "nan", "soon", "1e9", ""])
def test_invalid_limits_in_the_url_are_rejected(slow_server: RunningServer, value: str) -> None:
    with pytest.raises(InvalidStatus) as rejected:
        connect(slow_server.url(max_frame_age=value))
    assert rejected.value.response.status_code == 400
    assert b"max_frame_age must be a number of seconds" in rejected.value.response.body


def test_an_overloaded_server_refuses_sessions_until_its_load_goes(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4")
    with run_test_server(max_utilization=1e-6, pull_roots=str(tmp_path)) as server:
        ready = f"{server.http}/ready"
        assert httpx2.get(ready).json() == {"status": "ready", "free_sessions": 1}
        with server.connect() as client:
            client.receive("session.created")
            response = httpx2.get(ready)
            assert (response.status_code, response.json()) == (503, {"status": "overloaded"})
            assert int(response.headers["retry-after"]) > 0
            with pytest.raises(InvalidStatus) as rejected:
                server.connect()
            assert rejected.value.response.status_code == 503
            assert int(rejected.value.response.headers["retry-after"]) > 0
            assert b"live streams need" in rejected.value.response.body
            body = {"source": str(clip)}
            assert httpx2.post(f"{server.http}/v1/sessions", json=body).status_code == 503
            client.send_frames(3)
            assert client.receive("input_frame.scored")["seq"] == 0  # the admitted session is served
        wait_for(lambda: not server.manager.sessions)
        assert httpx2.get(ready).status_code == 200
        assert "mmduet:utilization 0.0" in httpx2.get(f"{server.http}/metrics").text
        with server.connect() as client:
            client.receive("session.created")


def test_what_a_client_sets_does_not_close_admission_for_others() -> None:
    with run_test_server(max_utilization=100.0, max_frame_age=3600.0) as server, server.connect() as client:
        client.update_session({"fps": 240, "max_frame_age": 0.001})
        client.receive("session.updated")
        assert server.manager.admission.free_sessions > 0
        assert httpx2.get(f"{server.http}/ready").status_code == 200


def test_a_session_can_be_resumed_on_an_overloaded_server() -> None:
    with run_test_server(max_utilization=1e-6) as server:
        with server.connect() as client:
            session = client.receive("session.created")["session"]
            client.send_frames(1)
            client.receive("input_frame.scored")
            client.ws.socket.close()  # lost, not closed
        with server.connect(resume=True) as client:
            client.send("session.resume", session_id=session["id"], resume_token=session["duet"]["resume_token"])
            client.receive("session.resumed")


def test_restored_sessions_are_admitted_whatever_the_load_and_the_limit_of_their_key(tmp_path: Path) -> None:
    headers = {"Authorization": "Bearer mine"}
    with run_test_server(keys="mine", journal=tmp_path) as server:
        for _ in range(2):
            with server.connect(additional_headers=headers) as client:
                client.receive("session.created")
                client.ws.socket.close()  # lost, not closed
    with run_test_server(keys="mine", journal=tmp_path, max_utilization=1e-6, max_sessions_per_key=1) as server:
        assert server.manager.active_count == 2
        with pytest.raises(InvalidStatus) as rejected:
            server.connect(additional_headers=headers)
        assert rejected.value.response.status_code == 503
    with run_test_server(keys="mine", journal=tmp_path, max_sessions_per_key=1) as server:
        with pytest.raises(InvalidStatus) as rejected:
            server.connect(additional_headers=headers)
        assert rejected.value.response.status_code == 429


def test_a_closed_session_has_freed_its_place() -> None:
    with run_test_server(max_sessions=1) as server:
        for _ in range(20):
            with server.connect() as client:
                client.receive("session.created")
                client.send_frames(1)
                client.end_stream()
                assert server.manager.active_count == 0


def test_frames_that_wait_for_the_next_server_are_not_dropped() -> None:
    async def receive_frames(session: LiveSession) -> int:
        session.input_stopped = True
        for number in range(3):
            session.receive(pack_frame(number, number * 500_000, EncodedImage(ImageFormat.JPEG, jpeg(number))))
        await asyncio.sleep(0.05)
        session.wake()
        return session.conversation.waiting_frames

    with run_test_server(max_frame_age=0.01) as server, server.connect() as client:
        client.receive("session.created")
        receiving = receive_frames(server.manager.sessions[0])
        assert asyncio.run_coroutine_threadsafe(receiving, server.uvicorn.loop).result(30) == 3


def test_a_key_has_half_of_all_sessions_by_default() -> None:
    with run_test_server(keys="mine,yours", max_sessions=5) as server:
        mine, yours = ({"Authorization": f"Bearer {key}"} for key in ("mine", "yours"))
        with server.connect(additional_headers=mine), server.connect(additional_headers=mine):
            with pytest.raises(InvalidStatus) as rejected:
                server.connect(additional_headers=mine)
            assert rejected.value.response.status_code == 429
            assert b"all 2 sessions of this key are in use" in rejected.value.response.body
            with server.connect(additional_headers=yours):
                pass
    with run_test_server(max_sessions=2) as server, server.connect(), server.connect():
        assert server.manager.active_count == 2


def test_frames_keep_their_order_when_some_are_dropped(slow_server: RunningServer) -> None:
    with slow_server.connect() as client:
        client.send_frames(12)
        events = client.end_stream()
    seqs = [event["seq"] for event in events if event["type"] in ("input_frame.scored", "input_frame.dropped")]
    assert seqs == sorted(seqs) == list(range(12))


def test_files_that_the_server_reads_lose_no_frame(tmp_path: Path) -> None:
    make(tmp_path / "clip.mp4", 12, fps=4)
    with run_test_server(slow_model(), max_frame_age=0.01, pull_roots=str(tmp_path)) as server:
        body = {"source": str(tmp_path / "clip.mp4"), "session": {"type": "realtime", "duet": {"fps": 4}}}
        session = httpx2.post(f"{server.http}/v1/sessions", json=body).json()
        with httpx2.stream("GET", f"{server.http}/v1/sessions/{session['id']}/events", timeout=30) as response:
            kinds = [line.removeprefix("event: ") for line in response.iter_lines() if line.startswith("event: ")]
    assert kinds.count("input_frame.scored") == 12
    assert "input_frame.dropped" not in kinds
