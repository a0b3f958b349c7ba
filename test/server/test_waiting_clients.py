"""Clients that wait for a session at a real server: order, expiry, limits of keys, messages, and what ends the wait."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from captured_logs import log_lines
from live_server import RunningServer, SocketClient, lively_model, run_test_server, wait_for
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mmduet.errors import CapacityError
from mmduet.protocol.frames import EncodedImage, ImageFormat, pack_frame

SILENT = {"fps": None, "window": 8, "speak": {"policy": "never"}}
MINE, YOURS = ({"Authorization": f"Bearer {key}"} for key in ("mine", "yours"))


def queue_up(server: RunningServer, seconds: float = 60, **options: Any) -> SocketClient:
    """Connect a client that waits for a session."""
    before = server.manager.queued_count
    client = server.connect(query={"wait": str(seconds)}, **options)
    assert server.manager.queued_count == before + 1
    return client


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """Run a server with a single session."""
    with run_test_server(max_sessions=1) as server:
        yield server


@contextmanager
def holding(server: RunningServer) -> Iterator[SocketClient]:
    """Open the only session of a server; yield its client."""
    wait_for(lambda: server.manager.active_count == 0)
    with server.connect() as holder:
        holder.receive("session.created")
        yield holder


@contextmanager
def full_server(**settings: Any) -> Iterator[tuple[RunningServer, SocketClient]]:
    """Run a server of its own whose only session is in use; yield it with the session's client."""
    with run_test_server(max_sessions=1, **settings) as server, holding(server) as holder:
        yield server, holder


def close_code(client: SocketClient) -> tuple[int, str]:
    """Return code and reason with which the server closes a socket."""
    with pytest.raises(ConnectionClosed) as closed:
        client.receive_until("no event has this type")
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def call_in_loop(server: RunningServer, coroutine: Coroutine[Any, Any, Any]) -> None:
    asyncio.run_coroutine_threadsafe(coroutine, server.uvicorn.loop).result(30)


def scored(events: list[dict[str, Any]]) -> list[int]:
    return [event["seq"] for event in events if event["type"] == "input_frame.scored"]


def test_a_client_receives_its_position_until_its_session() -> None:
    with full_server() as (server, holder), queue_up(server) as client, queue_up(server) as other:
        for waiting, position in ((client, 1), (other, 2)):
            event = waiting.receive()
            assert event == {
                "type": "session.queued",
                "event_id": "event_000000000000",
                "position": position,
                "estimated_wait_s": None,
            }
        assert "vllm:num_requests_waiting 2.0" in httpx2.get(f"{server.http}/metrics").text
        holder.end_stream()
        created = client.receive()
        assert (created["type"], created["event_id"]) == ("session.created", "event_000000000001")
        assert other.receive()["position"] == 1
        with queue_up(server) as third:
            assert third.receive()["position"] == 2
            client.end_stream()
            event = third.receive()
            assert event["position"] == 1
            assert event["estimated_wait_s"] > 0, "two sessions have ended"
        assert other.receive_until("session.created")[-1]["event_id"] == "event_000000000001"
        wait_for(lambda: server.manager.active_count == 1)
        assert "vllm:num_requests_waiting 0.0" in httpx2.get(f"{server.http}/metrics").text


def test_fifty_clients_are_served_in_order(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="mmduet.server")
    ids: dict[str, int] = {}

    async def take_turn(ws: ClientConnection, number: int) -> list[int]:
        """Wait for the session, end it, and return the positions."""
        positions = []
        async for text in ws:
            event = json.loads(text)
            if event["type"] == "session.queued":
                positions.append(event["position"])
            else:
                assert event["type"] == "session.created"
                ids[event["session"]["id"]] = number
                await ws.close()
        return positions

    async def run(server: RunningServer) -> None:
        holders = [await connect(server.url()) for _ in range(2)]
        waiting = [await connect(server.url(wait="120")) for _ in range(50)]
        assert server.manager.queued_count == 50
        turns = [asyncio.create_task(take_turn(ws, number)) for number, ws in enumerate(waiting)]
        for holder in holders:
            await holder.close()
        for number, positions in enumerate(await asyncio.wait_for(asyncio.gather(*turns), 120)):
            assert positions[0] == number + 1
            assert positions == sorted(positions, reverse=True)

    with run_test_server(max_sessions=2) as server:
        asyncio.run(run(server))
        opened = [line["session"] for line in log_lines(caplog, "session_opened")][2:]
        wait_for(lambda: server.manager.active_count == 0)
    assert [ids[session] for session in opened] == list(range(50))
    left = log_lines(caplog, "client_left_queue")
    assert {line["reason"] for line in left} == {"admitted"}
    assert Counter(line["session"] for line in left) == Counter(opened)


def test_a_client_that_has_waited_long_enough_is_sent_away(server: RunningServer) -> None:
    with holding(server) as holder, queue_up(server, 0.3) as client:
        *queued, error = client.receive_until("error")
        assert {event["type"] for event in queued} == {"session.queued"}
        assert error["error"]["code"] == "capacity"
        assert error["error"]["type"] == "server_error"
        assert error["error"]["message"] == "no session has become free within 0.3 s; try again later"
        assert close_code(client) == (1013, error["error"]["message"])
        assert server.manager.queued_count == 0
        holder.send_frames(1)
        assert scored(holder.end_stream()) == [0], "the other session continues"


@pytest.mark.parametrize("value", ["", "soon", "-1", "nan", "inf", "3601"])
def test_an_invalid_wait_is_rejected(value: str, server: RunningServer) -> None:
    with pytest.raises(InvalidStatus) as rejected:
        server.connect(query={"wait": value})
    assert rejected.value.response.status_code == 400
    error = json.loads(rejected.value.response.body)["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "wait")
    assert error["message"] == f"wait must be a number of seconds from 0 to 3600, got {value!r}"


def test_a_session_that_is_free_is_opened_at_once(server: RunningServer) -> None:
    wait_for(lambda: server.manager.active_count == 0)
    with server.connect(query={"wait": "5"}) as client:
        assert client.receive()["type"] == "session.created"


def test_a_full_queue_rejects_like_a_full_server() -> None:
    with full_server(max_queued=1) as (server, _), queue_up(server):
        for query in ({"wait": "60"}, {"wait": "0"}, {}):
            with pytest.raises(InvalidStatus) as rejected:
                server.connect(query=query)
            assert rejected.value.response.status_code == 503
            assert "Retry-After" in rejected.value.response.headers
            assert json.loads(rejected.value.response.body)["error"]["code"] == "no_capacity"
        assert server.manager.queued_count == 1


def test_only_authenticated_clients_of_allowed_origins_wait() -> None:
    with run_test_server(keys="mine", max_sessions=1) as server, server.connect(additional_headers=MINE):
        requests = {
            401: {"additional_headers": YOURS},
            403: {"additional_headers": MINE, "origin": "https://elsewhere.example"},
        }
        for status, options in requests.items():
            with pytest.raises(InvalidStatus) as rejected:
                server.connect(query={"wait": "60"}, **options)
            assert rejected.value.response.status_code == status
        assert server.manager.queued_count == 0


def test_a_key_at_its_limit_waits_without_delaying_others() -> None:
    settings = {"keys": "mine,yours", "max_sessions": 3, "max_sessions_per_key": 1}
    with run_test_server(**settings) as server, server.connect(additional_headers=MINE) as holder:
        with queue_up(server, additional_headers=MINE) as client:
            assert client.receive()["estimated_wait_s"] is None
            with server.connect(query={"wait": "60"}, additional_headers=YOURS) as other:
                assert other.receive()["type"] == "session.created"
                with queue_up(server, additional_headers=YOURS) as third:
                    assert third.receive()["position"] == 1, "the session of another key does not help its key"
                    holder.end_stream()
                    assert client.receive_until("session.created")
                    assert server.manager.queued_count == 1
        assert 'mmduet:key_limit_reached_total{limit="sessions"} 2.0' in httpx2.get(f"{server.http}/metrics").text


def test_messages_of_a_waiting_client_are_processed_by_its_session(server: RunningServer) -> None:
    with holding(server) as holder, queue_up(server) as client:
        client.update_session(SILENT)
        client.send_frames(12)
        client.send("input_frame.end")
        client.receive("session.queued")
        holder.end_stream()
        client.receive("session.created")
        events = client.receive_until("session.closed")
    assert events[0]["type"] == "session.updated"
    assert scored(events) == list(range(12))


def test_a_client_that_sends_too_much_while_it_waits_is_slowed(server: RunningServer) -> None:
    frame = pack_frame(0, 0, EncodedImage(ImageFormat.RAW, bytes(3 * 512 * 512), 512, 512))
    sent = 0

    async def send_until_blocked(ws: ClientConnection) -> None:
        nonlocal sent
        while sent < 200:
            sent += 1  # also a message that is sent later than the timeout
            async with asyncio.timeout(0.5):
                await ws.send(frame)

    async def run(holder: SocketClient) -> None:
        async with connect(server.url(wait="120", max_frame_age="null"), compression=None) as ws:
            with pytest.raises(TimeoutError):
                await send_until_blocked(ws)
            assert server.manager.queued_count == 1
            await asyncio.to_thread(holder.end_stream)
            await ws.send(json.dumps({"type": "input_frame.end"}))
            kinds = Counter[str]()
            async for text in ws:
                kinds[json.loads(text)["type"]] += 1
        assert kinds["input_frame.scored"] == 1
        assert kinds["input_frame.dropped"] == sent - 1, "duplicates, each of which has arrived"

    with holding(server) as holder:
        asyncio.run(asyncio.wait_for(run(holder), 120))
    assert sent < 100, f"{sent * len(frame) >> 20} MiB were read ahead"


def test_a_client_that_sends_too_much_for_long_leaves_the_queue(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmduet.server.queued_socket.MAX_FULL_SECONDS", 0.2)
    with holding(server), queue_up(server) as client:
        client.update_session(SILENT)
        for _ in range(300):
            client.send("session.heartbeat")
        assert close_code(client) == (1008, "too much was sent before session.created; wait for it before sending")
        assert server.manager.queued_count == 0


def test_a_client_that_disconnects_leaves_the_queue(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="mmduet.server")
    with holding(server) as holder:
        first, second, third = (queue_up(server) for _ in range(3))
        second.send_frames(1)
        first.ws.close()
        second.ws.socket.close()  # without a closing handshake
        wait_for(lambda: server.manager.queued_count == 1)
        while third.receive("session.queued")["position"] != 1:
            pass
        holder.end_stream()
        third.receive("session.created")
        third.end_stream()
    lines = log_lines(caplog, "client_queued", "client_left_queue")
    assert [line["position"] for line in lines if "position" in line] == [1, 2, 3]
    assert [line["reason"] for line in lines if "reason" in line] == ["disconnected", "disconnected", "admitted"]
    assert all(line["client"] == "127.0.0.1" and line["key"] == "anybody" for line in lines)


def test_load_that_decreases_admits_the_next_client(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    overloaded = True

    def check_load(settings: object) -> None:
        if overloaded:
            raise CapacityError("the engine is busy")

    wait_for(lambda: server.manager.active_count == 0)
    monkeypatch.setattr(server.manager.admission, "check_load", check_load)
    with queue_up(server) as client:
        assert client.receive()["type"] == "session.queued"
        overloaded = False
        client.receive("session.created")  # although no session has ended


def test_resuming_needs_no_place_in_the_queue(server: RunningServer) -> None:
    with holding(server) as holder, queue_up(server):
        session = server.manager.sessions[0]
        holder.ws.socket.close()
        with server.connect(resume=True, query={"wait": "soon"}) as again:
            again.send("session.resume", session_id=session.id, resume_token=session.token)
            assert again.receive("session.resumed")["session_id"] == session.id
            assert server.manager.queued_count == 1


def test_a_server_that_stops_closes_the_sockets_of_waiting_clients() -> None:
    with full_server(drain_seconds=30) as (server, holder), queue_up(server) as client:
        server.uvicorn.loop.call_soon_threadsafe(server.uvicorn.begin_drain)
        assert close_code(client) == (1012, "shutdown")
        assert close_code(holder) == (1012, "shutdown")
        assert server.manager.queued_count == 0


def test_a_hand_over_closes_the_sockets_of_waiting_clients(tmp_path: Path) -> None:
    with full_server(journal=tmp_path) as (server, holder):
        with queue_up(server) as client:
            call_in_loop(server, server.manager.hand_over(1.0))
            assert close_code(client) == (1012, "upgrade")
            assert close_code(holder) == (1012, "upgrade")
        with pytest.raises(InvalidStatus) as rejected:
            server.connect(query={"wait": "60"})
        assert rejected.value.response.status_code == 503
        call_in_loop(server, server.manager.take_back())
        with queue_up(server) as client:
            assert client.receive()["type"] == "session.queued", "the only session has been restored"


@pytest.mark.slow
def test_an_engine_that_has_stopped_closes_the_sockets_of_waiting_clients() -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("device lost")

    model = lively_model()
    with run_test_server(model, max_sessions=1) as server, server.connect() as holder, queue_up(server) as client:
        holder.send_frames(1)
        holder.receive_until("input_frame.scored")
        model.network.lm.embed_tokens.register_forward_pre_hook(fail)
        holder.send_frames(1)
        assert close_code(client) == (1011, "the engine has stopped; restart the server")


@pytest.mark.slow
def test_a_session_after_a_wait_survives_a_restart(tmp_path: Path) -> None:
    with full_server(journal=tmp_path) as (server, holder), queue_up(server) as client:
        client.update_session(SILENT)
        client.send_frames(2)
        holder.end_stream()
        created = client.receive("session.created")["session"]
        while client.receive("input_frame.scored")["seq"] != 1:
            pass
        client.ws.socket.close()  # without a closing handshake, which would end the session
    with run_test_server(journal=tmp_path, max_sessions=1) as server, server.connect(resume=True) as again:
        again.send("session.resume", session_id=created["id"], resume_token=created["duet"]["resume_token"])
        assert again.receive("session.resumed")["last_consumed_client_message_index"] == 2
        again.seq = 2
        again.send_frames(1)
        assert scored(again.end_stream()) == [2]
