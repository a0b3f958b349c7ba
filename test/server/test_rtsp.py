"""Cameras, by a real RTSP server: over both transports, with passwords, through breaks; and what a bad camera may not do."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from rtsp_server import rtsp_server
from served import Served, serving

from mmduet.errors import SourceError
from mmduet.server.rtsp_relay import Inspector, RedirectError

SILENT = {"fps": 4, "speak": {"policy": "never"}}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(pull_hosts="127.0.0.1", pull_networks="127.0.0.1/32", pull_webcams="webcam:none") as server:
        yield server


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_camera_is_watched_and_its_password_never_told(
    served: Served, transport: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    with rtsp_server(password="s3cret") as camera, served.talk() as talk:
        talk.next()
        talk.update(SILENT)
        talk.send("input_source.open", url=f"rtsp://cam:s3cret@127.0.0.1:{camera.port}/film", transport=transport)
        opened = talk.next("input_source.opened")
        assert (opened["width"], opened["height"]) == (64, 48)
        assert opened["url"] == f"rtsp://127.0.0.1:{camera.port}/film"
        pts = [talk.next("input_frame.scored")["pts"] for _ in range(6)]
        assert pts == sorted(set(pts))
        assert 1_000_000 <= pts[-1] - pts[0] <= 2_000_000
        talk.send("input_source.close")
        told = [*talk.until("input_source.closed"), *talk.end()]
    assert "s3cret" not in json.dumps([opened, *told]) + caplog.text + "".join(capfd.readouterr())


def test_a_wrong_password_is_told_without_it(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with rtsp_server(password="right") as camera:
        told = pulled(served, f"rtsp://cam:s3cret@127.0.0.1:{camera.port}/film")
    error = next(e for e in told if e["type"] == "error")["error"]
    assert error["code"] == "bad_source"
    assert "401" in error["message"]
    assert "s3cret" not in json.dumps(told) + caplog.text


def test_a_camera_that_breaks_off_is_taken_up_again(served: Served) -> None:
    with rtsp_server() as camera, served.talk() as talk:
        port = camera.port
        talk.next()
        talk.update(SILENT)
        talk.send("input_source.open", url=f"rtsp://127.0.0.1:{port}/film")
        before = [talk.next("input_frame.scored")["pts"] for _ in range(3)]
        camera.kill()
        camera.wait()
        with rtsp_server(port):
            after = [talk.next("input_frame.scored", timeout=30)["pts"] for _ in range(6)]
        talk.send("input_source.close")
        talk.until("input_source.closed", timeout=30)
        talk.end()
    pts = [*before, *after]
    assert pts == sorted(set(pts))
    assert max(b - a for a, b in pairwise(pts)) >= 500_000, "the break is on the timeline"


@pytest.mark.parametrize(
    "url", ["rtsp://example.org/x", "rtsp://127.0.0.2/x", "rtsp://127.0.0.1:1/x", "webcam", "webcam:7", "webcam:none"]
)
def test_what_may_not_or_cannot_be_reached_is_told(served: Served, url: str) -> None:
    told = pulled(served, url)
    assert next(e for e in told if e["type"] == "error")["error"]["code"] == "bad_source"
    assert next(e for e in told if e["type"] == "input_source.closed")["reason"] == "failed"


def pulled(served: Served, url: str) -> list[dict]:
    with served.talk() as talk:
        talk.next()
        talk.update(SILENT)
        talk.send("input_source.open", url=url)
        return [*talk.until("input_source.closed", timeout=30), *talk.end()]


# bad cameras


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A camera that says these things, one for each request; yields its port and what it was sent."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                talk, _ = listener.accept()
            except OSError:
                return
            with talk:
                for answer in answers:
                    if not (request := talk.recv(65536)):
                        break
                    heard.append(request)
                    talk.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1], heard
    finally:
        listener.close()


def moved(to: str) -> bytes:
    return f"RTSP/1.0 302 Found\r\nCSeq: 1\r\nLocation: {to}\r\n\r\n".encode()


def test_a_redirect_is_followed_where_it_may_be(served: Served) -> None:
    with (
        rtsp_server() as camera,
        answering(moved(f"rtsp://127.0.0.1:{camera.port}/film")) as (port, _),
        served.talk() as talk,
    ):
        talk.next()
        talk.update(SILENT)
        talk.send("input_source.open", url=f"rtsp://127.0.0.1:{port}/x")
        talk.next("input_frame.scored")


@pytest.mark.parametrize(
    "to", ["rtsp://127.0.0.9:{inner}/x", "rtsp://localhost:{inner}/x", "http://127.0.0.1:{inner}/"]
)
def test_a_redirect_to_elsewhere_is_not_followed(served: Served, to: str) -> None:
    with answering(b"") as (inner, heard), answering(moved(to.format(inner=inner))) as (port, _):
        told = pulled(served, f"rtsp://127.0.0.1:{port}/x")
        assert not heard
    assert next(e for e in told if e["type"] == "error")["error"]["code"] == "bad_source"


def test_a_camera_that_redirects_in_a_circle_is_left(served: Served) -> None:
    with answering(moved("/again")) as (port, heard):
        told = pulled(served, f"rtsp://127.0.0.1:{port}/x")
        assert len(heard) <= 8
    assert "redirects more than" in next(e for e in told if e["type"] == "error")["error"]["message"]


def test_a_camera_that_talks_nonsense_is_left(served: Served) -> None:
    for nonsense in (
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"x" * 70_000,
        b"SETUP rtsp://a RTSP/1.0\r\n\r\n",
        b"RTSP/1.0 200 OK\r\n\r\n",
    ):
        with answering(nonsense) as (port, _):
            told = pulled(served, f"rtsp://127.0.0.1:{port}/x")
        assert next(e for e in told if e["type"] == "input_source.closed")["reason"] == "failed"


# what passes


ANSWER = b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 6\r\n\r\n$v=0\r\n"
PACKET = b"$\x00\x00\x05RTSP/"
STRANGE = [
    b"RTSP/1.0  302 Found\r\nLocation: rtsp://a/\r\n\r\n",
    b"RTSP/1.0 +302 Found\r\nLocation: rtsp://a/\r\n\r\n",
    b"RTSP/1.0 200 OK\nTransport: RTP/AVP;source=10.0.0.9\r\n\r\n",
    b"RTSP/1.0 200 OK\r\nTrans\rport: RTP/AVP;source=10.0.0.9\r\n\r\n",
    b"RTSP/1.0 200 OK\r\nTransport: RTP/AVP;source=10.0.0.9,RTP/AVP;source=10.0.0.9\r\n\r\n",
    b"RTSP/1.0 200 OK\r\nContent-Length: 10abc\r\n\r\n",
    "RTSP/1.0 200 OK\r\nContent-Length: ²\r\n\r\n".encode("latin-1"),
    b"RTSP/1.0 200 OK\r\nContent-Length : 5\r\n\r\n",
    b"RTSP/1.0 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"RTSP/1.0 200 OK\r\nX: \0\r\n\r\n",
]


@pytest.mark.parametrize("answer", STRANGE)
def test_what_ffmpeg_might_read_otherwise_does_not_pass(answer: bytes) -> None:
    with pytest.raises(SourceError):
        Inspector("192.0.2.7").feed(answer)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_answers_bodies_and_packets_pass_as_they_are(size: int) -> None:
    said = (ANSWER + PACKET) * 3
    inspector = Inspector("10.0.0.1")
    passed = b"".join(inspector.feed(said[i : i + size]) for i in range(0, len(said), size))
    assert passed.replace(b";source=10.0.0.1", b"") == said


def test_packets_go_to_the_checked_address_whatever_the_camera_says() -> None:
    head = b"RTSP/1.0 200 OK\r\nTransport: RTP/AVP;unicast; source=10.9.9.9;client_port=5-6;Destination=1.2.3.4;ssrc=1\r\n\r\n"
    passed = Inspector("192.0.2.7").feed(head).decode()
    assert passed.splitlines()[1] == "Transport: RTP/AVP;unicast;client_port=5-6;ssrc=1;source=192.0.2.7"


def test_a_redirect_says_where_to_and_passes_nothing() -> None:
    with pytest.raises(RedirectError) as told:
        Inspector("192.0.2.7").feed(moved("rtsp://elsewhere/x"))
    assert told.value.location == "rtsp://elsewhere/x"
    with pytest.raises(SourceError, match="not RTSP"):
        Inspector("192.0.2.7").feed(b"REDIRECT rtsp://a RTSP/1.0\r\n\r\n")
