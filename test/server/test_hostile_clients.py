"""Hostile and broken clients: their own session gets an error or is closed, and all other sessions continue."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress

import httpx2
import numpy as np
import pytest
from live_server import RunningServer, encode_image, endless_model, jpeg, run_test_server, wait_for
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mmduet.errors import AuthError
from mmduet.protocol.frames import EncodedImage, ImageFormat, pack_frame
from mmduet.server.auth import KeyStore, accepted_subprotocol, is_origin_allowed
from mmduet.server.client_secrets import account_of


def closed_with(client) -> int:
    with suppress(ConnectionClosed):
        while True:
            client.receive()
    assert client.ws.close_code is not None
    return client.ws.close_code


def open_raw_socket(server: RunningServer) -> socket.socket:
    """Return a TCP socket after the WebSocket handshake, for bytes that no library would send."""
    sock, answer = upgrade(server, "localhost")
    assert b" 101 " in answer
    return sock


def upgrade(server: RunningServer, host: str) -> tuple[socket.socket, bytes]:
    """Return a TCP socket and the response to its WebSocket handshake."""
    sock = socket.create_connection(("127.0.0.1", server.port))
    sock.sendall(
        f"GET /v1/realtime HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".encode()
        + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += sock.recv(4096)
    return sock, answer


def receive_close_code(sock: socket.socket) -> int:
    """Return the code of the next close frame, skipping everything before it."""
    sock.settimeout(10)
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
        start = data.rfind(b"\x88")
        if start >= 0 and len(data) >= start + 4:
            return int.from_bytes(data[start + 2 : start + 4], "big")
    raise AssertionError("no close frame was received")


def test_oversized_message_closes_its_socket(server: RunningServer) -> None:
    with server.connect() as client:
        client.receive()
        with suppress(ConnectionClosed):
            client.ws.send("x" * (5 << 20))
        assert closed_with(client) in (1009, 1006)  # 1006 if the connection is cut while it is sending
    with server.connect() as client:
        assert client.receive()["type"] == "session.created"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x81\x82\x00\x00\x00\x00\xff\xfe", 1007),  # text that is not UTF-8
        (b"\x81\x02hi", 1002),  # a client frame without a mask
        (b"\xf1\x80\x00\x00\x00\x00", 1002),  # reserved bits
        (b"\x83\x80\x00\x00\x00\x00", 1002),  # a reserved opcode
    ],
)
def test_invalid_websocket_bytes_close_their_socket(server: RunningServer, sent: bytes, code: int) -> None:
    with open_raw_socket(server) as sock:
        sock.sendall(sent)
        assert receive_close_code(sock) == code


def test_truncated_message_counts_as_lost_connection(server: RunningServer) -> None:
    before = {session.id for session in server.manager.sessions}
    sock = open_raw_socket(server)
    (session_id,) = {session.id for session in server.manager.sessions} - before
    sock.sendall(b"\x82\xfe\x10\x00\x00\x00\x00\x00 a part of it")
    sock.close()
    wait_for(lambda: next(s for s in server.manager.sessions if s.id == session_id).subscriber is None)


def test_message_flood_closes_the_socket_and_keeps_the_session() -> None:
    with run_test_server(messages_per_second=10, message_burst=50) as server:
        with server.connect() as client:
            created = client.receive()
            with suppress(ConnectionClosed):  # the socket may be closed before all messages have been sent
                for _ in range(200):
                    client.send("session.heartbeat")
            assert closed_with(client) == 1008
        assert [session.id for session in server.manager.sessions] == [created["session"]["id"]]


def test_client_that_does_not_read_is_closed_without_delaying_others() -> None:
    with (
        run_test_server(send_timeout=0.5, message_burst=100_000, messages_per_second=100_000) as server,
        server.connect() as good,
    ):
        good.receive()
        sock = open_raw_socket(server)
        message = text_frame({"type": "session.update", "session": {"type": "realtime", "instructions": "x" * 400}})
        good_id = session_id_of(good)
        slow = next(s for s in server.manager.sessions if s.id != good_id)
        end = time.monotonic() + 20
        sock.settimeout(5)
        while slow.subscriber is not None and time.monotonic() < end:
            try:
                sock.sendall(message * 500)  # each is answered with an event of more than 1 kB
            except OSError:
                break
            good.send_frames(1)
            assert good.receive("input_frame.scored", timeout=5)["age_ms"] < 2000
        wait_for(lambda: slow.subscriber is None)
        assert slow in server.manager.sessions  # it can be resumed
        wait_for(lambda: len(server.uvicorn.server_state.connections) == 1)  # its connection is closed
        good.send_frames(3)
        assert good.end_stream()[-1]["frames"]["scored"] >= 3
        sock.close()


def text_frame(event: dict) -> bytes:
    """Return a masked WebSocket text frame of 126 to 65535 bytes; the mask is zero."""
    data = json.dumps(event).encode()
    return b"\x81\xfe" + len(data).to_bytes(2, "big") + bytes(4) + data


def session_id_of(client) -> str:
    client.update_session()
    return client.receive("session.updated")["session"]["id"]


def test_reply_continues_after_its_client_disconnects() -> None:
    with run_test_server(endless_model()) as server:
        client = server.connect()
        created = client.receive()
        client.update_session({"window": None}, max_output_tokens=200, instructions="x")
        client.send_text("Tell.")
        client.send("response.create")
        client.receive("response.output_text.delta")
        client.ws.socket.close()
        again = server.connect(resume=True)
        session = created["session"]
        again.send("session.resume", session_id=session["id"], resume_token=session["duet"]["resume_token"])
        assert again.receive("response.done")["response"]["usage"]["output_tokens"] == 200


def test_invalid_or_oversized_images_drop_only_their_frame(server: RunningServer) -> None:
    bomb = encode_image(np.zeros((1, 1, 3), np.uint8)).replace(
        b"\x00\x00\x00\x01\x00\x00\x00\x01", b"\x00\x00\xff\xff\x00\x00\xff\xff"
    )
    images = [
        (ImageFormat.JPEG, jpeg(0)[:-40], "scored"),  # slightly truncated: decoders conceal the damage
        (ImageFormat.JPEG, jpeg(0)[:100], "decode_error"),
        (ImageFormat.PNG, encode_image(np.zeros((64, 64, 3), np.uint8))[:-30], "decode_error"),
        (ImageFormat.PNG, bomb, "decode_error"),
        (ImageFormat.JPEG, b"GIF89a" + bytes(40), "decode_error"),
        (ImageFormat.PNG, encode_image(np.zeros((9, 9, 3), np.uint8), exif=b"Exif\x00\x00II*\x00"), "decode_error"),
        (ImageFormat.WEBP, b"RIFF\x00\x00\x00\x00WEBP", "decode_error"),
        (ImageFormat.PNG, encode_image(np.full((9, 9), 7, np.uint8)), "scored"),  # grey
        (ImageFormat.PNG, encode_image(np.full((9, 9, 4), 7, np.uint8)), "scored"),  # transparent
        (ImageFormat.WEBP, encode_image(np.full((9, 9, 3), 7, np.uint8), "WEBP"), "scored"),
        (ImageFormat.RAW, bytes(27), "scored"),
    ]
    with server.connect() as client:
        client.receive()
        client.update_session({"fps": None, "speak": {"policy": "never"}})
        for seq, (kind, data, _) in enumerate(images):
            size = (3, 3) if kind is ImageFormat.RAW else (0, 0)
            client.ws.send(pack_frame(seq, seq * 1000, EncodedImage(kind, data, *size)))
        events = client.end_stream()
    found = [e.get("reason", "scored") for e in events if e["type"].startswith("input_frame.")]
    assert found[1:] == [expected for _, _, expected in images][1:]


def test_overload_drops_the_oldest_frames_as_late() -> None:
    with run_test_server(max_waiting_frames=4, message_burst=100_000) as server, server.connect() as client:
        client.receive()
        client.update_session({"fps": None, "speak": {"policy": "never"}})
        client.send_frames(400, step_us=1000)
        events = client.end_stream()
    ends = [(e["seq"], e.get("reason", "scored")) for e in events if e["type"].startswith("input_frame.")]
    assert [seq for seq, _ in ends] == list(range(400))
    assert {outcome for _, outcome in ends} == {"late", "scored"}
    assert ends[-1][1] == "scored"  # the newest are kept
    assert events[-1]["frames"]["late"] + events[-1]["frames"]["scored"] == 400


def test_hostile_session_does_not_affect_others(server: RunningServer) -> None:
    def outputs(noise: bool) -> list[tuple]:
        with server.connect() as client, server.connect(close_timeout=0.5) as other:  # it does not read all its events
            client.receive(), other.receive()
            client.update_session({"fps": None, "speak": {"policy": "threshold", "value": 0.5}}, max_output_tokens=6)
            for _ in range(8):
                client.send_frames(1)
                if noise:
                    other.send_frames(3, seed=9)
                    other.send_text("What?")
                    other.ws.send("garbage")
                    other.send("response.create")
            events = client.end_stream()
        return [
            (e.get("seq"), e.get("text"), e.get("decision"), round(e.get("informative") or 0, 4))
            for e in events
            if e["type"] in ("input_frame.scored", "response.output_text.done")
        ]

    assert outputs(noise=True) == outputs(noise=False)


# Authentication


def test_pages_of_other_origins_are_rejected() -> None:
    with run_test_server(allowed_origins="https://good.example") as server:
        for origin in ("https://good.example", f"http://127.0.0.1:{server.port}"):
            with server.connect(origin=origin) as client:
                assert client.receive()["type"] == "session.created"
        with pytest.raises(InvalidStatus) as rejected:
            server.connect(origin="https://evil.example")
        assert rejected.value.response.status_code == 403
        wait_for(lambda: not server.manager.sessions)


def test_non_loopback_host_names_need_a_key() -> None:
    with run_test_server() as server:
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/sessions")):
            response = httpx2.request(method, server.http + path, headers={"Host": "evil.example"}, json={})
            assert response.status_code == 403
        assert httpx2.get(f"{server.http}/v1/models", headers={"Host": "[::1"}).status_code == 403
        response = httpx2.post(f"{server.http}/v1/sessions", headers={"Origin": "https://evil.example"}, json={})
        assert response.status_code == 403
        assert b" 403 " in upgrade(server, "evil.example")[1]


def test_client_secret_cannot_create_client_secrets() -> None:
    with run_test_server(keys="k1") as server:
        url = f"{server.http}/v1/realtime/client_secrets"
        secret = httpx2.post(url, headers={"Authorization": "Bearer k1"}).json()["value"]
        assert httpx2.post(url, headers={"Authorization": f"Bearer {secret}"}).status_code == 401


def test_browser_sends_its_key_as_subprotocol() -> None:
    with run_test_server(keys="k1") as server:
        with server.connect(subprotocols=["realtime", "mmduet.key.k1"]) as client:
            assert client.ws.subprotocol == "realtime"
            assert client.receive()["type"] == "session.created"
        for wrong in (["realtime", "mmduet.key.k2"], ["realtime"]):
            with pytest.raises(InvalidStatus) as rejected:
                server.connect(subprotocols=wrong)
            assert rejected.value.response.status_code == 401


def test_session_cannot_be_resumed_with_another_key() -> None:
    with (
        run_test_server(keys="mine,yours") as server,
        server.connect(additional_headers={"Authorization": "Bearer mine"}) as client,
    ):
        session = client.receive()["session"]
        with server.connect(resume=True, additional_headers={"Authorization": "Bearer yours"}) as thief:
            thief.send("session.resume", session_id=session["id"], resume_token=session["duet"]["resume_token"])
            assert thief.receive()["type"] == "session.expired"


def test_keys_must_match_exactly_and_never_appear_in_errors() -> None:
    keys = KeyStore(["secret"], 60)
    owner = keys.owner({"authorization": "bearer secret"})
    assert "secret" not in owner
    secret = keys.create_client_secret(owner).value
    visitor = keys.owner({}, [f"mmduet.key.{secret}"])
    assert account_of(visitor) == owner != visitor
    assert keys.owner({}, [f"openai-insecure-api-key.{secret}"]) == visitor
    for wrong in (
        {},
        {"authorization": "secret"},
        {"authorization": "Basic secret"},
        {"authorization": "Bearer secre"},
    ):
        with pytest.raises(AuthError, match="no valid key") as rejected:
            keys.owner(wrong)
        assert "secre" not in str(rejected.value).replace("no valid key", "")
    expiring = KeyStore(["secret"], -1)
    expired = expiring.create_client_secret(owner).value
    with pytest.raises(AuthError, match="no valid key"):
        expiring.owner({"authorization": f"Bearer {expired}"})


def test_subprotocol_and_origin_rules() -> None:
    assert accepted_subprotocol(["mmduet.key.x"]) is None
    assert is_origin_allowed({}, ())
    assert is_origin_allowed({"origin": "http://a:1", "host": "a:1"}, ())
    assert not is_origin_allowed({"origin": "http://a:2", "host": "a:1"}, ())
    assert is_origin_allowed({"origin": "null"}, ("*",))
