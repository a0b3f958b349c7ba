"""Speed, pause and state of a source that the server reads, over a socket and with the client."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_server import RunningServer, SocketClient, run_test_server
from PIL import Image
from stream_server import endless, run_stream_server

from mmduet.client import RemoteStream, SessionsClient
from mmduet.video import VideoWriter

SILENT = {"fps": 4, "speak": {"policy": "never"}}
PTS = [number * 250_000 for number in range(8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    noise = np.random.default_rng(0)
    with VideoWriter(root / "film.mp4", 64, 48, 8.0) as writer:
        for _ in range(16):
            writer.write(noise.integers(0, 255, (48, 64, 3), np.uint8))
    with VideoWriter(root / "long.mp4", 16, 16, 8.0) as writer:
        for _ in range(8 * 300):
            writer.write(np.zeros((16, 16, 3), np.uint8))
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    with run_test_server(pull_roots=str(folder), pull_hosts="127.0.0.1", pull_networks="127.0.0.0/8") as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[SocketClient]:
    """A client with a session that never speaks on its own."""
    with server.connect() as client:
        client.receive()
        client.update_session(SILENT, max_output_tokens=4)
        client.receive("session.updated")
        yield client


def scored_pts(events: list[dict[str, Any]]) -> list[int]:
    """Return the pts of the scored frames; fail if any frame was dropped."""
    assert not [event for event in events if event["type"] == "input_frame.dropped"]
    return [event["pts"] for event in events if event["type"] == "input_frame.scored"]


def read_to_end(client: SocketClient) -> list[dict[str, Any]]:
    """Return every event to the session's end, which follows that of the source."""
    return [*client.receive_until("input_source.closed"), *client.end_stream()]


def states(events: list[dict[str, Any]]) -> list[str]:
    """Return the states of the source in order."""
    return [event["state"] for event in events if event["type"] == "input_source.updated"]


# Speed


def test_a_file_is_read_at_its_speed_and_loses_nothing(client: SocketClient) -> None:
    start = time.monotonic()
    client.send("input_source.open", url="film.mp4", speed=4)
    events = client.receive_until("input_source.closed")
    assert time.monotonic() - start >= 1.75 / 4 - 0.01
    assert events[-1]["reason"] == "ended"
    assert scored_pts([*events, *client.end_stream()]) == PTS


def test_a_change_of_speed_takes_effect_while_the_next_frame_is_awaited(client: SocketClient) -> None:
    client.send("input_source.open", url="film.mp4", speed=0.001)
    assert client.receive("input_frame.scored")["pts"] == 0  # the next one is due in 250 s
    client.send("input_source.update", speed=None)
    assert client.receive("input_source.updated") | {"event_id": ""} == {
        "type": "input_source.updated", "event_id": "", "url": "film.mp4", "state": "live", "retry_in_s": None,
        "message": None, "speed": None,
    }  # fmt: skip
    assert scored_pts(read_to_end(client)) == PTS[1:]


def test_the_next_source_has_its_own_speed_and_is_not_paused(client: SocketClient) -> None:
    client.send("input_source.open", url="film.mp4", speed=0.001)
    client.receive("input_frame.scored")
    client.send("input_source.update", paused=True)
    assert client.receive("input_source.updated")["state"] == "paused"
    client.send("input_source.close")
    assert client.receive("input_source.closed")["reason"] == "asked"
    client.send("input_source.open", url="film.mp4")
    assert len(scored_pts(read_to_end(client))) == 8


def camera() -> Any:
    """Answer as an MJPEG camera."""
    image = io.BytesIO()
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(image, "JPEG")

    def chunks() -> Iterator[bytes]:
        while True:
            yield b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + image.getvalue() + b"\r\n"
            time.sleep(0.05)

    return endless(chunks, "multipart/x-mixed-replace; boundary=frame")


def test_a_live_source_keeps_its_own_pace(client: SocketClient) -> None:
    with run_stream_server({"/cam": camera()}) as web:
        client.send("input_source.open", url=web.url("/cam"), speed=2, event_id="open")
        error = client.receive("error")["error"]
        assert (error["code"], error["param"], error["event_id"]) == ("invalid_value", "speed", "open")
        updated = client.receive("input_source.updated")
        assert (updated["state"], updated["speed"]) == ("live", None)
        client.receive("input_frame.scored")
        client.send("input_source.update", speed=2, paused=True, event_id="update")
        error = client.receive("error")["error"]
        assert (error["code"], error["param"], error["event_id"]) == ("invalid_value", "speed", "update")
        client.send("input_source.update", paused=True, speed=None)
        assert client.receive("input_source.updated")["state"] == "paused"
        assert client.receive("input_frame.dropped")["reason"] == "paused"
        client.send("input_source.update", paused=False)
        assert client.receive("input_source.updated")["state"] == "live"
        client.receive("input_frame.scored")
        client.send("input_source.close")
        client.receive("input_source.closed")


# Pause


def test_while_paused_a_query_is_read_and_a_reply_can_be_requested(client: SocketClient) -> None:
    client.send("input_source.open", url="film.mp4", speed=0.001)
    client.receive("input_frame.scored")
    client.send("input_source.update", paused=True)
    client.receive("input_source.updated")
    client.send_text("What is there?", event_id="q")
    client.send("response.create")
    events = client.receive_until("response.done")
    assert "conversation.item.done" in [event["type"] for event in events]
    assert events[-1]["response"]["duet"]["forced"] is True
    assert scored_pts(events) == []
    client.send("input_source.update", paused=False, speed=None)
    assert scored_pts(read_to_end(client)) == PTS[1:]


def test_a_source_can_be_paused_before_its_first_frame(client: SocketClient) -> None:
    client.send("input_source.open", url="film.mp4")
    client.send("input_source.update", paused=True)
    events = client.receive_until("input_source.opened")
    client.send("session.heartbeat")
    events += client.receive_until("session.heartbeat_ack")
    assert states(events)[-1] == "paused"
    assert scored_pts(events) == []
    client.send("input_source.update", paused=False)
    events = read_to_end(client)
    assert scored_pts(events) == PTS
    assert states(events)[-1] == "live"


def test_invalid_updates_change_nothing_and_are_reported(client: SocketClient) -> None:
    client.send("input_source.update", paused=True, event_id="u1")
    error = client.receive("error")["error"]
    assert (error["code"], error["event_id"]) == ("no_source", "u1")
    for speed in (0, -1, 1000, "fast", True):
        client.send("input_source.update", speed=speed, event_id="u2")
        error = client.receive("error")["error"]
        assert (error["code"], error["param"], error["event_id"]) == ("invalid_value", "speed", "u2")
    client.send("input_source.open", url="film.mp4", speed=-1)
    assert client.receive("error")["error"]["param"] == "speed"
    client.send("input_source.open", url="film.mp4")
    assert len(scored_pts(read_to_end(client))) == 8


def test_a_resumed_session_keeps_the_pause_and_the_speed(server: RunningServer) -> None:
    with server.connect() as client:
        session = client.receive()["session"]
        client.update_session(SILENT)
        client.send("input_source.open", url="film.mp4", speed=0.001)
        client.receive("input_frame.scored")
        client.send("input_source.update", paused=True)
        last = client.receive("input_source.updated")["event_id"]
        client.ws.socket.close()
    with server.connect(resume=True) as client:
        token = session["duet"]["resume_token"]
        client.send("session.resume", session_id=session["id"], resume_token=token, last_event_id=last)
        assert [event["type"] for event in client.receive_until("session.resumed")] == ["session.resumed"]
        client.send("input_source.update")
        updated = client.receive("input_source.updated")
        assert (updated["state"], updated["speed"]) == ("paused", 0.001)
        client.send("input_source.update", paused=False, speed=None)
        assert scored_pts(read_to_end(client)) == PTS[1:]


@pytest.mark.parametrize(("speed", "counts"), [(0.001, True), (90, False), (None, False)])
def test_a_file_in_real_time_counts_as_live_for_admission(
    server: RunningServer, client: SocketClient, speed: float | None, counts: bool
) -> None:
    client.send("input_source.open", url="long.mp4", speed=speed)
    client.receive("input_frame.scored")
    client.send("input_source.update", paused=True)  # the source remains open
    client.receive("input_source.updated")
    assert (server.manager.utilization > 0) is counts


# States


def test_every_state_of_a_camera_is_reported(client: SocketClient) -> None:
    image = io.BytesIO()
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(image, "JPEG")
    is_broken = False
    is_back = False

    def chunks() -> Iterator[bytes]:
        while is_back or not is_broken:
            yield b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + image.getvalue() + b"\r\n"
            time.sleep(0.05)

    def answer(handler: Any) -> None:
        if is_broken and not is_back:
            handler.send_error(503)
        else:
            endless(chunks, "multipart/x-mixed-replace; boundary=frame")(handler)

    with run_stream_server({"/cam": answer}) as web:
        client.send("input_source.open", url=web.url("/cam"))
        events = client.receive_until("input_frame.scored")
        is_broken = True
        events += [client.receive("input_source.updated") for _ in range(2)]
        is_back = True
        while events[-1]["type"] != "input_source.updated" or events[-1]["state"] != "live":
            events.append(client.receive())
        client.send("input_source.close")
        client.receive("input_source.closed")
    assert [state for state, _ in groupby(states(events))] == ["connecting", "live", "retrying", "live"]
    retrying = [event for event in events if event.get("state") == "retrying"]
    assert all(0 <= event["retry_in_s"] <= 4 and event["message"] for event in retrying)
    assert all(event["url"] == web.url("/cam") for event in events if event["type"] == "input_source.updated")


def test_a_file_is_connecting_and_then_live(client: SocketClient) -> None:
    client.send("input_source.open", url="film.mp4", speed=50)
    events = client.receive_until("input_source.closed")
    assert states(events) == ["connecting", "live"]
    assert {event["speed"] for event in events if event["type"] == "input_source.updated"} == {50}


# Clients


def test_the_client_opens_updates_and_closes_a_source(server: RunningServer) -> None:
    with RemoteStream(server.url()) as stream:
        stream.update(duet=SILENT)
        stream.open_source("film.mp4", speed=0.001)
        events = stream.events()
        first = next(event for event in events if event.type == "input_frame.scored")
        stream.update_source(paused=True)
        assert next(event for event in events if event.type == "input_source.updated").state == "paused"
        stream.update_source(speed=20)
        updated = next(event for event in events if event.type == "input_source.updated")
        assert (updated.state, updated.speed) == ("paused", 20)
        stream.update_source(paused=False)
        second = next(event for event in events if event.type == "input_frame.scored")
        assert (first.pts, second.pts) == (0, 250_000)
        stream.close_source()
        assert next(event for event in events if event.type == "input_source.closed").reason == "asked"


def test_a_session_without_socket_reads_at_a_speed(server: RunningServer) -> None:
    with SessionsClient(server.http) as sessions:
        created = sessions.create("film.mp4", speed=0.001, duet=SILENT)
        source = sessions.pause(created.id).source
        assert source is not None
        assert (source.state, source.speed) == ("paused", 0.001)
        sessions.delete(created.id)
