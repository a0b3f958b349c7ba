"""Whatever is sent, however it is (not) read: the session it concerns is told or closed, and everybody else goes on."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress

import httpx2
import numpy as np
import pytest
from served import Served, encoded, endless_model, jpeg, serving, wait_for
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mmduet.protocol.frames import Kind, Picture, pack
from mmduet.server.auth import Keys, origin_allowed, spoken


def closed_with(talk) -> int:
    with suppress(ConnectionClosed):
        while True:
            talk.next()
    assert talk.ws.close_code is not None
    return talk.ws.close_code


def raw(served: Served) -> socket.socket:
    """A socket after the handshake, for bytes that no library would send."""
    sock, answer = upgraded(served, "localhost")
    assert b" 101 " in answer
    return sock


def upgraded(served: Served, host: str) -> tuple[socket.socket, bytes]:
    """A socket, and the answer to its handshake."""
    sock = socket.create_connection(("127.0.0.1", served.port))
    sock.sendall(
        f"GET /v1/realtime HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".encode()
        + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += sock.recv(4096)
    return sock, answer


def close_code(sock: socket.socket) -> int:
    """The code of the close frame that comes, past everything else."""
    sock.settimeout(10)
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
        place = data.rfind(b"\x88")
        if place >= 0 and len(data) >= place + 4:
            return int.from_bytes(data[place + 2 : place + 4], "big")
    raise AssertionError("no close frame came")


def test_an_oversized_message_closes_that_socket(served: Served) -> None:
    with served.talk() as talk:
        talk.next()
        with suppress(ConnectionClosed):
            talk.ws.send("x" * (5 << 20))
        assert closed_with(talk) in (1009, 1006)  # 1006: it is still sending when it is cut off
    with served.talk() as talk:
        assert talk.next()["type"] == "session.created"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x81\x82\x00\x00\x00\x00\xff\xfe", 1007),  # text that is no UTF-8
        (b"\x81\x02hi", 1002),  # a client's frame without a mask
        (b"\xf1\x80\x00\x00\x00\x00", 1002),  # reserved bits
        (b"\x83\x80\x00\x00\x00\x00", 1002),  # an opcode that there is not
    ],
)
def test_bytes_that_are_no_websocket_close_that_socket(served: Served, sent: bytes, code: int) -> None:
    with raw(served) as sock:
        sock.sendall(sent)
        assert close_code(sock) == code


def test_a_truncated_message_is_a_lost_client(served: Served) -> None:
    before = {session.id for session in served.house.sessions}
    sock = raw(served)
    (name,) = {session.id for session in served.house.sessions} - before
    sock.sendall(b"\x82\xfe\x10\x00\x00\x00\x00\x00 a part of it")
    sock.close()
    wait_for(lambda: next(s for s in served.house.sessions if s.id == name).reader is None)


def test_a_flood_is_cut_off_and_can_be_resumed() -> None:
    with serving(messages_per_second=10, message_burst=50) as served:
        with served.talk() as talk:
            created = talk.next()
            with suppress(ConnectionClosed):  # it may be cut before all has been sent
                for _ in range(200):
                    talk.send("session.heartbeat")
            assert closed_with(talk) == 1008
        assert [session.id for session in served.house.sessions] == [created["session"]["id"]]


def test_who_does_not_read_is_closed_and_costs_nobody_else() -> None:
    with serving(send_timeout=0.5, message_burst=100_000, messages_per_second=100_000) as served, served.talk() as good:
        good.next()
        sock = raw(served)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        heartbeat = json.dumps({"type": "session.heartbeat", "event_id": "x"}).encode()
        message = bytes([0x81, 0x80 | len(heartbeat)]) + bytes(4) + heartbeat
        lazy = next(s for s in served.house.sessions if s.conversation.consumed == 0 and s.id != good_id(served, good))
        end = time.monotonic() + 20
        sock.settimeout(0.2)
        while lazy.reader is not None and time.monotonic() < end:
            try:
                sock.sendall(message * 2000)
            except OSError:
                break
            good.frames(1)
            assert good.next("input_frame.scored", timeout=5)["age_ms"] < 2000
        wait_for(lambda: lazy.reader is None)
        assert lazy in served.house.sessions  # to be resumed
        wait_for(lambda: len(served.server.server_state.connections) == 1)  # and cut off
        good.frames(3)
        assert good.end()[-1]["frames"]["scored"] >= 3
        sock.close()


def good_id(served: Served, talk) -> str:
    talk.send("session.update", session={"type": "realtime"})
    return talk.next("session.updated")["session"]["id"]


def test_a_reply_goes_on_when_its_client_is_gone() -> None:
    with serving(endless_model()) as served:
        talk = served.talk()
        created = talk.next()
        talk.update({"window": None}, max_output_tokens=200, instructions="x")
        talk.ask("Tell.")
        talk.send("response.create")
        talk.next("response.output_text.delta")
        talk.ws.socket.close()
        again = served.talk(resume=True)
        session = created["session"]
        again.send("session.resume", session_id=session["id"], resume_token=session["duet"]["resume_token"])
        assert again.next("response.done")["response"]["usage"]["output_tokens"] == 200


def test_pictures_that_are_none_or_too_large_cost_a_frame(served: Served) -> None:
    bomb = encoded(np.zeros((1, 1, 3), np.uint8)).replace(
        b"\x00\x00\x00\x01\x00\x00\x00\x01", b"\x00\x00\xff\xff\x00\x00\xff\xff"
    )
    pictures = [
        (Kind.JPEG, jpeg(0)[:-40], "scored"),  # what decoders conceal is a picture
        (Kind.JPEG, jpeg(0)[:100], "decode_error"),
        (Kind.PNG, encoded(np.zeros((64, 64, 3), np.uint8))[:-30], "decode_error"),
        (Kind.PNG, bomb, "decode_error"),
        (Kind.JPEG, b"GIF89a" + bytes(40), "decode_error"),
        (Kind.PNG, encoded(np.zeros((9, 9, 3), np.uint8), exif=b"Exif\x00\x00II*\x00"), "decode_error"),
        (Kind.WEBP, b"RIFF\x00\x00\x00\x00WEBP", "decode_error"),
        (Kind.PNG, encoded(np.full((9, 9), 7, np.uint8)), "scored"),  # grey
        (Kind.PNG, encoded(np.full((9, 9, 4), 7, np.uint8)), "scored"),  # transparent
        (Kind.WEBP, encoded(np.full((9, 9, 3), 7, np.uint8), "WEBP"), "scored"),
        (Kind.RAW, bytes(27), "scored"),
    ]
    with served.talk() as talk:
        talk.next()
        talk.update({"fps": None, "speak": {"policy": "never"}})
        for seq, (kind, data, _) in enumerate(pictures):
            size = (3, 3) if kind is Kind.RAW else (0, 0)
            talk.ws.send(pack(seq, seq * 1000, Picture(kind, data, *size)))
        told = talk.end()
    found = [e.get("reason", "scored") for e in told if e["type"].startswith("input_frame.")]
    assert found[1:] == [expected for _, _, expected in pictures][1:]


def test_frames_pour_in_faster_than_they_can_be_watched() -> None:
    with serving(max_waiting_frames=4, message_burst=100_000) as served, served.talk() as talk:
        talk.next()
        talk.update({"fps": None, "speak": {"policy": "never"}})
        talk.frames(400, step_us=1000)
        told = talk.end()
    ends = [(e["seq"], e.get("reason", "scored")) for e in told if e["type"].startswith("input_frame.")]
    assert [seq for seq, _ in ends] == list(range(400))
    assert {how for _, how in ends} == {"late", "scored"}
    assert ends[-1][1] == "scored"  # the newest are kept
    assert told[-1]["frames"]["late"] + told[-1]["frames"]["scored"] == 400


def test_one_session_changes_nothing_of_another(served: Served) -> None:
    def watched(noise: bool) -> list[tuple]:
        with served.talk() as talk, served.talk() as other:
            talk.next(), other.next()
            talk.update({"fps": None, "speak": {"policy": "threshold", "value": 0.5}}, max_output_tokens=6)
            for _ in range(12):
                talk.frames(1)
                if noise:
                    other.frames(3, seed=9)
                    other.ask("What?")
                    other.ws.send("garbage")
                    other.send("response.create")
            told = talk.end()
        return [
            (e.get("seq"), e.get("text"), e.get("decision"), round(e.get("informative") or 0, 4))
            for e in told
            if e["type"] in ("input_frame.scored", "response.output_text.done")
        ]

    assert watched(noise=True) == watched(noise=False)


# who may come in


def test_pages_of_other_origins_are_refused() -> None:
    with serving(allowed_origins="https://good.example") as served:
        for origin in ("https://good.example", f"http://127.0.0.1:{served.port}"):
            with served.talk(origin=origin) as talk:
                assert talk.next()["type"] == "session.created"
        with pytest.raises(InvalidStatus) as refused:
            served.talk(origin="https://evil.example")
        assert refused.value.response.status_code == 403
        wait_for(lambda: not served.house.sessions)


def test_other_names_of_this_machine_need_a_key() -> None:
    with serving() as served:
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/sessions")):
            answer = httpx2.request(method, served.http + path, headers={"Host": "evil.example"}, json={})
            assert answer.status_code == 403
        foreign = httpx2.post(f"{served.http}/v1/sessions", headers={"Origin": "https://evil.example"}, json={})
        assert foreign.status_code == 403
        assert b" 403 " in upgraded(served, "evil.example")[1]


def test_a_client_secret_makes_no_client_secrets() -> None:
    with serving(keys="k1") as served:
        url = f"{served.http}/v1/realtime/client_secrets"
        made = httpx2.post(url, headers={"Authorization": "Bearer k1"})
        assert httpx2.post(url, headers={"Authorization": f"Bearer {made.json()['value']}"}).status_code == 401


def test_browsers_bring_their_key_in_a_subprotocol() -> None:
    with serving(keys="k1") as served:
        with served.talk(subprotocols=["realtime", "mmduet.key.k1"]) as talk:
            assert talk.ws.subprotocol == "realtime"
            assert talk.next()["type"] == "session.created"
        for wrong in (["realtime", "mmduet.key.k2"], ["realtime"]):
            with pytest.raises(InvalidStatus) as refused:
                served.talk(subprotocols=wrong)
            assert refused.value.response.status_code == 401


def test_a_session_belongs_to_its_key() -> None:
    with serving(keys="mine,yours") as served, served.talk(additional_headers={"Authorization": "Bearer mine"}) as talk:
        session = talk.next()["session"]
        with served.talk(resume=True, additional_headers={"Authorization": "Bearer yours"}) as thief:
            thief.send("session.resume", session_id=session["id"], resume_token=session["duet"]["resume_token"])
            assert thief.next()["type"] == "session.expired"


def test_a_key_has_so_many_sessions() -> None:
    with serving(keys="mine,yours", max_sessions_per_key=1) as served:
        mine, yours = ({"Authorization": f"Bearer {key}"} for key in ("mine", "yours"))
        with served.talk(additional_headers=mine), served.talk(additional_headers=yours):
            with pytest.raises(InvalidStatus) as refused:
                served.talk(additional_headers=mine)
            assert refused.value.response.status_code == 503


def test_keys_are_compared_whole_and_told_to_nobody() -> None:
    keys = Keys(["secret"], 60)
    owner = keys.owner({"authorization": "bearer secret"})
    assert "secret" not in owner
    secret, _ = keys.client_secret(owner)
    assert keys.owner({}, [f"mmduet.key.{secret}"]) == owner
    assert keys.owner({}, [f"openai-insecure-api-key.{secret}"]) == owner
    for wrong in (
        {},
        {"authorization": "secret"},
        {"authorization": "Basic secret"},
        {"authorization": "Bearer secre"},
    ):
        with pytest.raises(Exception, match="no valid key") as refused:
            keys.owner(wrong)
        assert "secre" not in str(refused.value).replace("no valid key", "")
    short = Keys(["secret"], -1)
    expired, _ = short.client_secret(owner)
    with pytest.raises(Exception, match="no valid key"):
        short.owner({"authorization": f"Bearer {expired}"})


def test_small_rules() -> None:
    assert spoken(["mmduet.key.x"]) is None
    assert origin_allowed({}, ())
    assert origin_allowed({"origin": "http://a:1", "host": "a:1"}, ())
    assert not origin_allowed({"origin": "http://a:2", "host": "a:1"}, ())
    assert origin_allowed({"origin": "null"}, ("*",))
