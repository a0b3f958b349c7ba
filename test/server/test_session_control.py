"""Sessions without a socket over HTTP: status, queries, settings, pause, deletion, takeover by a socket, isolation."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from file_server import serve_files
from live_server import RunningServer, run_test_server, wait_for
from PIL import Image
from stream_server import Answer, endless, run_stream_server

from mmduet.client import RemoteStream, SessionsClient
from mmduet.errors import (
    AuthError,
    ConflictError,
    ConnectionLostError,
    NotFoundError,
    OptionError,
    ProtocolError,
    ServerError,
)
from mmduet.events import Query
from mmduet.protocol.session_status import SessionStatus
from mmduet.server.error_response import error_response
from mmduet.video import VideoWriter

SILENT = {"fps": 4, "speak": {"policy": "never"}}
HTTP = httpx2.Client(timeout=60)  # one, because creating a client takes long
KEY = {"Authorization": "Bearer mine"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    for name, seconds in (("short.mp4", 2), ("long.mp4", 900)):
        with VideoWriter(root / name, 16, 16, 8.0) as writer:
            for _ in range(8 * seconds):
                writer.write(np.zeros((16, 16, 3), np.uint8))
    (root / "broken.mp4").write_bytes(bytes(5000))
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    with run_test_server(
        pull_roots=str(folder), pull_hosts="127.0.0.1", pull_networks="127.0.0.0/8", time_to_live=30
    ) as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[SessionsClient]:
    with SessionsClient(server.http) as client:
        yield client
        for status in client.list_sessions():
            client.delete(status.id)


def wait_for_status(client: SessionsClient, session_id: str, condition: Any) -> SessionStatus:
    """Return the first status for which the condition holds."""
    found: list[SessionStatus] = []

    def holds() -> bool:
        found.append(client.show(session_id))
        return bool(condition(found[-1]))

    wait_for(holds, 30)
    return found[-1]


def camera(step_seconds: float = 0.05) -> Answer:
    """Answer as an MJPEG camera."""
    image = io.BytesIO()
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(image, "JPEG")

    def chunks() -> Iterator[bytes]:
        while True:
            yield b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + image.getvalue() + b"\r\n"
            time.sleep(step_seconds)

    return endless(chunks, "multipart/x-mixed-replace; boundary=frame")


def error_of(response: httpx2.Response, status: int) -> dict[str, Any]:
    """Check the status of an error response and return the error."""
    assert response.status_code == status, response.text
    return response.json()["error"]


# Status


def test_status_reports_source_frames_and_ages(client: SessionsClient) -> None:
    created = client.create("long.mp4", duet=SILENT)
    status = wait_for_status(client, created.id, lambda status: status.frames.scored >= 3)
    assert (status.state, status.connected) == ("open", False)
    assert status.source is not None
    assert (status.source.url, status.source.state) == ("long.mp4", "live")
    assert status.frames.received >= status.frames.scored + status.frames.waiting >= 3
    assert status.frames.newest_age_s is not None
    assert 0 <= status.frames.newest_age_s < 30
    assert abs(status.created_at - time.time()) < 60
    assert status.session.duet.fps == 4
    assert status.session.duet.resume_token == created.duet.resume_token
    assert status.last_error is None


def test_sessions_are_listed_newest_first_without_their_tokens(server: RunningServer, client: SessionsClient) -> None:
    first, second = (client.create("long.mp4", duet=SILENT).id for _ in range(2))
    with server.connect() as socket:
        third = socket.receive()["session"]["id"]
        listed = client.list_sessions()
    assert [status.id for status in listed] == [third, second, first]
    assert [(status.connected, status.source is None) for status in listed] == [
        (True, True),
        (False, False),
        (False, False),
    ]
    assert all(status.session.duet.resume_token is None for status in listed)


def test_status_of_an_ended_session_has_the_outcome_of_its_source(client: SessionsClient) -> None:
    ended = wait_for_status(client, client.create("short.mp4", duet=SILENT).id, lambda status: status.state == "ended")
    assert ended.source is not None
    assert (ended.source.state, ended.frames.scored, ended.frames.dropped) == ("ended", 8, {})
    broken = wait_for_status(client, client.create("broken.mp4").id, lambda status: status.state == "ended")
    assert broken.source is not None
    assert broken.source.state == "failed"
    assert broken.last_error is not None
    assert broken.last_error.code == "corrupt_video"
    assert broken.source.message == broken.last_error.message


def test_a_source_is_connecting_until_it_is_open(client: SessionsClient) -> None:
    def silent(handler: Any) -> None:
        time.sleep(1.0)

    with run_stream_server({"/film": silent}) as web:
        created = client.create(f"{web.url('/film')}?token=secret")
        source = client.show(created.id).source
        assert source is not None
        assert (source.state, source.url) == ("connecting", web.url("/film"))


def test_a_broken_camera_is_retrying(client: SessionsClient) -> None:
    answers = {"/cam": camera()}
    broken = False

    def answer(handler: Any) -> None:
        if broken:
            handler.send_error(503)
            return
        answers["/cam"](handler)

    def breaking() -> Iterator[bytes]:
        image = io.BytesIO()
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(image, "JPEG")
        while not broken:
            yield b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + image.getvalue() + b"\r\n"
            time.sleep(0.05)

    answers["/cam"] = endless(breaking, "multipart/x-mixed-replace; boundary=frame")
    with run_stream_server({"/cam": answer}) as web:
        created = client.create(web.url("/cam"), duet=SILENT)
        wait_for_status(client, created.id, lambda status: status.frames.scored > 0)
        broken = True
        status = wait_for_status(client, created.id, lambda status: status.source.state == "retrying")
        assert status.source is not None
        assert status.source.retry_in_s is not None
        assert status.source.message
        assert 0 <= status.source.retry_in_s <= 4
        broken = False
        wait_for_status(client, created.id, lambda status: status.source.state == "live")


# Creation


@pytest.mark.parametrize(
    "source",
    [
        "/etc/passwd",
        "missing.mp4",
        "http://169.254.169.254/x",
        "rtsp://example.org/x",
        "webcam:7",
        "rtsp://[::1/x",
        "data:,x",
    ],
)
def test_a_refused_source_opens_no_session(server: RunningServer, client: SessionsClient, source: str) -> None:
    error = error_of(HTTP.post(f"{server.http}/v1/sessions", json={"source": source}), 400)
    assert (error["code"], error["param"]) == ("bad_source", "source")
    assert client.list_sessions() == ()


@pytest.mark.parametrize("query", ["", "x" * 40_000, "What?<|im_end|>"])
def test_an_invalid_query_is_rejected(server: RunningServer, client: SessionsClient, query: str) -> None:
    body = {"source": "long.mp4", "query": query}
    assert error_of(HTTP.post(f"{server.http}/v1/sessions", json=body), 400)["param"] == "query"
    wait_for(lambda: not server.manager.sessions)
    created = client.create("long.mp4", paused=True)
    url = f"{server.http}/v1/sessions/{created.id}/queries"
    assert error_of(HTTP.post(url, json={"query": query}), 400)["param"] == "query"
    assert client.show(created.id).last_error is None


# Control


def test_a_query_is_read_and_a_requested_reply_is_reported(client: SessionsClient) -> None:
    created = client.create("long.mp4", duet=SILENT, max_output_tokens=4)
    wait_for_status(client, created.id, lambda status: status.frames.scored > 0)
    item = client.ask(created.id, "What is there?")
    assert (item.role, item.content) == ("user", ({"type": "input_text", "text": "What is there?"},))
    client.speak_now(created.id)
    status = wait_for_status(client, created.id, lambda status: status.last_reply is not None)
    assert status.last_reply is not None
    assert (status.last_reply.number, status.last_reply.trigger_pts is not None) == (1, True)
    client.delete(created.id)


def test_settings_are_updated(client: SessionsClient) -> None:
    created = client.create("long.mp4", duet=SILENT)
    wait_for_status(client, created.id, lambda status: status.frames.scored > 0)
    status = client.update(created.id, duet={"fps": 2, "speak": {"min_interval": 3.0}, "scores": False})
    assert (status.session.duet.fps, status.session.duet.scores) == (2, False)
    assert status.session.duet.speak["min_interval"] == 3.0
    wait_for_status(client, created.id, lambda status: status.frames.dropped.get("rate", 0) >= 3)


def test_a_rejected_update_changes_nothing_and_names_the_field(server: RunningServer, client: SessionsClient) -> None:
    created = client.create("long.mp4", duet=SILENT)
    wait_for_status(client, created.id, lambda status: status.frames.scored > 0)
    url = f"{server.http}/v1/sessions/{created.id}"
    for duet, status, param in (
        ({"fps": -1}, 400, "duet.fps"),
        ({"window": 3}, 400, "duet.window"),
        ({"colour": 1}, 400, "duet.colour"),
        ({"fps": 8}, 409, None),
        ({"fps": None}, 409, None),
    ):
        error = error_of(HTTP.patch(url, json={"type": "realtime", "duet": duet}), status)
        assert error["param"] == param
    assert client.show(created.id).session == client.update(created.id, duet={}).session


def test_a_paused_file_is_not_read_and_loses_nothing(client: SessionsClient) -> None:
    created = client.create("short.mp4", duet=SILENT)
    paused = client.pause(created.id)
    assert paused.source is not None
    assert paused.source.state == "paused"
    assert client.pause(created.id).source == paused.source
    before = wait_for_status(client, created.id, lambda status: status.frames.waiting == 0).frames.received
    time.sleep(0.5)
    assert client.show(created.id).frames.received - before <= 1
    resumed = client.resume(created.id)
    assert resumed.source is not None
    assert resumed.source.state != "paused"
    ended = wait_for_status(client, created.id, lambda status: status.state == "ended")
    assert (ended.frames.received, ended.frames.scored, ended.frames.dropped) == (8, 8, {})


def test_a_session_can_be_opened_paused(client: SessionsClient) -> None:
    created = client.create("short.mp4", paused=True, duet=SILENT)
    client.ask(created.id, "What?")
    source = client.show(created.id).source
    assert source is not None
    assert source.state == "paused"
    client.resume(created.id)
    ended = wait_for_status(client, created.id, lambda status: status.state == "ended")
    assert (ended.frames.received, ended.frames.scored) == (8, 8)


def test_frames_of_a_paused_camera_are_dropped_with_a_reason(server: RunningServer, client: SessionsClient) -> None:
    with run_stream_server({"/cam": camera()}) as web:
        created = client.create(web.url("/cam"), duet={**SILENT, "fps": 10})
        wait_for_status(client, created.id, lambda status: status.frames.scored > 0)
        client.pause(created.id)
        wait_for_status(client, created.id, lambda status: status.frames.dropped.get("paused", 0) >= 3)
        scored = wait_for_status(client, created.id, lambda status: status.frames.waiting == 0).frames.scored
        assert client.resume(created.id).frames.scored <= scored + 1
        status = wait_for_status(client, created.id, lambda status: status.frames.scored > scored + 1)
        client.delete(created.id)
    assert set(status.frames.dropped) <= {"paused", "late", "rate"}


def test_pausing_is_reported_in_the_events(server: RunningServer, client: SessionsClient) -> None:
    created = client.create("short.mp4", duet=SILENT)
    client.pause(created.id)
    client.resume(created.id)
    events = HTTP.get(f"{server.http}/v1/sessions/{created.id}/events").text
    assert events.count('"state":"paused"') == 1
    assert events.index('"state":"paused"') < events.rindex('"state":"live"') < events.index("session.closed")


def test_wrong_states_are_conflicts_with_a_reason(server: RunningServer, client: SessionsClient) -> None:
    created = client.create("short.mp4", duet=SILENT)
    wait_for_status(client, created.id, lambda status: status.state == "ended")
    for action, reason in (
        (lambda: client.ask(created.id, "What?"), "has ended"),
        (lambda: client.speak_now(created.id), "has ended"),
        (lambda: client.update(created.id, duet={"fps": 1}), "has ended"),
        (lambda: client.pause(created.id), "has ended"),
        (lambda: client.resume(created.id), "has ended"),
    ):
        with pytest.raises(ConflictError, match=reason):
            action()
    with server.connect() as socket:
        session_id = socket.receive()["session"]["id"]
        with pytest.raises(ConflictError, match="no source"):
            client.pause(session_id)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("too_many_waiting", 429),
        ("conversation_already_has_active_response", 409),
        ("session_ended", 409),
        ("no_capacity", 503),
    ],
)
def test_errors_of_the_conversation_have_their_own_status(code: str, status: int) -> None:
    response = error_response(ProtocolError("not now", code))
    assert response.status_code == status
    assert ("retry-after" in response.headers) is (status in (429, 503))


def test_deletion_is_idempotent(server: RunningServer, client: SessionsClient) -> None:
    created = client.create("long.mp4", duet=SILENT)
    url = f"{server.http}/v1/sessions/{created.id}"
    assert [HTTP.delete(url).status_code for _ in range(2)] == [204, 204]
    wait_for(lambda: created.id not in [session.id for session in server.manager.sessions])
    time.sleep(1.2)  # longer than the interval at which ended sessions are removed
    assert HTTP.delete(url).status_code == 204
    assert error_of(HTTP.get(url), 404)["code"] == "not_found"
    with pytest.raises(NotFoundError, match="does not exist"):
        client.delete("sess_unknown")


# Takeover


def test_a_socket_takes_a_session_over(server: RunningServer, client: SessionsClient) -> None:
    created = client.create("long.mp4", query="What?", duet=SILENT, max_output_tokens=4)
    with server.connect(resume=True) as socket:
        socket.send("session.resume", session_id=created.id, resume_token=created.duet.resume_token)
        events = socket.receive_until("session.resumed")
        assert events[0]["type"] == "session.created"
        assert events[-1]["last_consumed_client_message_index"] == -1  # none of this client's
        assert client.show(created.id).connected
        client.ask(created.id, "And now?")
        client.update(created.id, duet={"scores": False})
        socket.send("session.heartbeat")
        assert socket.receive("session.heartbeat_ack")["last_consumed_client_message_index"] == 0
        socket.send("response.create")
        assert socket.receive("response.done")["response"]["duet"]["forced"] is True
        socket.send("input_source.close")
        assert socket.receive("input_source.closed")["reason"] == "asked"
        assert socket.receive("session.closed")["reason"] == "ended"


# Owners


def test_sessions_of_other_owners_do_not_exist(folder: Path) -> None:
    with run_test_server(keys="mine,yours", pull_roots=str(folder)) as server:
        base = server.http
        secrets_url = f"{base}/v1/realtime/client_secrets"
        visitors = [HTTP.post(secrets_url, headers=KEY).json()["value"] for _ in range(2)]
        owners = ["mine", "yours", *visitors]
        clients = {key: SessionsClient(base, key=key) for key in owners}
        ids = {key: clients[key].create("long.mp4", duet=SILENT).id for key in owners}
        for key in owners:
            assert [status.id for status in clients[key].list_sessions()] == [ids[key]]
            for other in set(owners) - {key}:
                requests = [
                    lambda url, headers: HTTP.get(url, headers=headers),
                    lambda url, headers: HTTP.get(f"{url}/events", headers=headers),
                    lambda url, headers: HTTP.patch(url, headers=headers, json={"type": "realtime"}),
                    lambda url, headers: HTTP.post(f"{url}/queries", headers=headers, json={"query": "What?"}),
                    lambda url, headers: HTTP.post(f"{url}/responses", headers=headers, json={}),
                    lambda url, headers: HTTP.post(f"{url}/pause", headers=headers),
                    lambda url, headers: HTTP.post(f"{url}/resume", headers=headers),
                    lambda url, headers: HTTP.delete(url, headers=headers),
                ]
                headers = {"Authorization": f"Bearer {key}"}
                for request in requests:
                    foreign = error_of(request(f"{base}/v1/sessions/{ids[other]}", headers), 404)
                    unknown = error_of(request(f"{base}/v1/sessions/sess_0", headers), 404)
                    assert foreign["message"] == unknown["message"].replace("sess_0", ids[other])
        clients["mine"].delete(ids["mine"])
        with pytest.raises(NotFoundError):
            clients["yours"].delete(ids["mine"])
        for each in clients.values():
            each.close()


def test_visitors_of_a_server_without_keys_have_their_own_sessions(folder: Path) -> None:
    with run_test_server(pull_roots=str(folder), max_sessions_per_key=3, max_sessions_per_client_secret=1) as server:
        url = f"{server.http}/v1/realtime/client_secrets"
        first, second = (HTTP.post(url).json()["value"] for _ in range(2))
        for key in (first, second, None):
            with SessionsClient(server.http, key=key) as client:
                assert client.list_sessions() == ()
                created = client.create("long.mp4", duet=SILENT)
                assert [status.id for status in client.list_sessions()] == [created.id]
                full = HTTP.post(
                    f"{server.http}/v1/sessions",
                    json={"source": "long.mp4"},
                    headers={"Authorization": f"Bearer {key}"} if key else {},
                )
                error = error_of(full, 429)
                assert error["code"] == "rate_limit_exceeded"
                assert ("of this client secret" if key else "all 3 sessions of this key") in error["message"]


# Client


def test_the_client_reports_what_is_wrong(server: RunningServer, folder: Path) -> None:
    with SessionsClient(server.http) as client:
        with pytest.raises(NotFoundError, match="sess_unknown"):
            client.show("sess_unknown")
        with pytest.raises(ServerError, match=r"missing\.mp4") as caught:
            client.create("missing.mp4")
        assert caught.value.code == "bad_source"
    with SessionsClient("http://127.0.0.1:9") as client, pytest.raises(ServerError, match="cannot be reached"):
        client.list_sessions()
    with pytest.raises(OptionError, match="not a valid address"):
        SessionsClient("ftp://127.0.0.1")
    with (
        serve_files({"/v1/sessions": b"hello"}) as host,
        SessionsClient(host) as client,
        pytest.raises(ServerError, match="is it an mmduet server"),
    ):
        client.list_sessions()
    with run_test_server(keys="mine", pull_roots=str(folder)) as protected:
        with SessionsClient(protected.http, key="wrong") as client, pytest.raises(AuthError, match="no valid key"):
            client.list_sessions()
        with SessionsClient(protected.url(), key="mine") as client:
            assert client.list_sessions() == ()


def test_our_client_takes_a_session_over_and_resumes_it(server: RunningServer, client: SessionsClient) -> None:
    created = client.create("long.mp4", paused=True, duet=SILENT, max_output_tokens=4)
    with server.connect(resume=True) as socket:  # another client, whose messages are counted as well
        socket.send("session.resume", session_id=created.id, resume_token=created.duet.resume_token)
        socket.receive("session.resumed")
        for _ in range(3):
            socket.send("session.heartbeat")
            socket.receive("session.heartbeat_ack")
        socket.ws.socket.close()
    session = client.show(created.id).session
    with RemoteStream(server.url(), session=session) as stream:
        assert stream.session.duet.limits is not None
        events = stream.events()
        for number in range(3):
            stream.push(Query("What?"))
            stream.speak_now()
            reply = next(event for event in events if event.type == "response.done").response
            assert reply.id.endswith(f"_{number}")
            if number < 2:
                abort_connections(server)
    with SessionsClient(server.http) as other, pytest.raises(NotFoundError):  # the client has ended it
        wait_for(lambda: other.show(created.id) is None)
    with pytest.raises(ConnectionLostError, match="has expired"), RemoteStream(server.url(), session=session):
        pass


def abort_connections(server: RunningServer) -> None:
    """Abort every connection of the server, without a closing handshake."""
    for protocol in list(server.uvicorn.server_state.connections):
        server.uvicorn.loop.call_soon_threadsafe(protocol.transport.abort)
