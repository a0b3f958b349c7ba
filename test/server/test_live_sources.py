"""Live sources: a real RTSP server over both transports, passwords, interruptions and hostile cameras."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby, pairwise
from typing import Any

import pytest
from captured_logs import log_lines, unredacted
from live_server import RunningServer, run_test_server
from rtsp_server import run_rtsp_server

from mmduet.errors import SourceError
from mmduet.server.rtsp_proxy import RedirectError, ResponseFilter

SILENT = {"fps": 4, "speak": {"policy": "never"}}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with run_test_server(pull_hosts="127.0.0.1", pull_networks="127.0.0.1/32", pull_webcams="webcam:none") as server:
        yield server


@pytest.fixture(scope="module")
def camera() -> Iterator[subprocess.Popen[str]]:
    """An RTSP server with user ``cam`` and password ``s3cret``."""
    with run_rtsp_server(password="s3cret") as process:
        yield process


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_camera_is_read_and_its_password_never_appears(
    server: RunningServer,
    camera: Any,
    transport: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("DEBUG", "mmduet")  # the client library logs what it sends
    with server.connect() as client:
        client.receive()
        client.update_session(SILENT)
        client.send("input_source.open", url=f"rtsp://cam:s3cret@127.0.0.1:{camera.port}/film", transport=transport)
        opened = client.receive("input_source.opened")
        assert (opened["width"], opened["height"]) == (64, 48)
        assert opened["url"] == f"rtsp://127.0.0.1:{camera.port}/film"
        pts = [client.receive("input_frame.scored")["pts"] for _ in range(4)]
        assert pts == sorted(set(pts))
        assert 600_000 <= pts[-1] - pts[0] <= 1_600_000
        client.send("input_source.close")
        events = [*client.receive_until("input_source.closed"), *client.end_stream()]
    assert "s3cret" not in json.dumps([opened, *events]) + unredacted(caplog) + "".join(capfd.readouterr())


def test_wrong_password_is_reported_without_the_password(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with run_rtsp_server(password="right") as camera:
        events = read_source(server, f"rtsp://cam:s3cret@127.0.0.1:{camera.port}/film")
    error = next(e for e in events if e["type"] == "error")["error"]
    assert error["code"] == "bad_source"
    assert "401" in error["message"]
    assert "check the user name and password in the address" in error["message"]
    assert "wr0ng" not in json.dumps(events) + unredacted(caplog)


def test_interrupted_camera_is_reconnected(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with run_rtsp_server() as camera, server.connect() as client:
        port = camera.port
        client.receive()
        client.update_session(SILENT)
        client.send("input_source.open", url=f"rtsp://127.0.0.1:{port}/film")
        before = [client.receive("input_frame.scored")["pts"] for _ in range(2)]
        camera.kill()
        camera.wait()
        with run_rtsp_server(port):
            after = [client.receive("input_frame.scored", timeout=30)["pts"] for _ in range(3)]
        client.send("input_source.close")
        client.receive_until("input_source.closed", timeout=30)
        client.end_stream()
    pts = [*before, *after]
    assert pts == sorted(set(pts))
    assert max(b - a for a, b in pairwise(pts)) >= 500_000, "the timeline shows the interruption"
    lines = log_lines(caplog, "source_connecting", "source_live", "source_retrying", "source_ended")
    states = [state for state, _ in groupby(line["event"].removeprefix("source_") for line in lines)]
    assert states[:4] == ["connecting", "live", "retrying", "live"]
    assert states[-1] == "ended"
    assert {line["source"] for line in lines} == {f"rtsp://127.0.0.1:{port}/film"}


@pytest.mark.parametrize(
    "url", ["rtsp://example.org/x", "rtsp://127.0.0.2/x", "rtsp://127.0.0.1:1/x", "webcam", "webcam:7", "webcam:none"]
)
def test_forbidden_or_unreachable_sources_are_reported(server: RunningServer, url: str) -> None:
    events = read_source(server, url)
    assert next(e for e in events if e["type"] == "error")["error"]["code"] == "bad_source"
    assert next(e for e in events if e["type"] == "input_source.closed")["reason"] == "failed"


def read_source(server: RunningServer, url: str) -> list[dict]:
    """Open a source in a new session and return every event to the session's end."""
    with server.connect() as client:
        client.receive()
        client.update_session(SILENT)
        client.send("input_source.open", url=url)
        return [*client.receive_until("input_source.closed", timeout=30), *client.end_stream()]


# Hostile cameras


@contextmanager
def fake_camera(*responses: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Run a camera that sends one response per request; yield its port and the requests that it received."""
    listener = socket.create_server(("127.0.0.1", 0))
    requests: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                for response in responses:
                    if not (request := connection.recv(65536)):
                        break
                    requests.append(request)
                    connection.sendall(response)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1], requests
    finally:
        listener.close()


def redirect(to: str) -> bytes:
    return f"RTSP/1.0 302 Found\r\nCSeq: 1\r\nLocation: {to}\r\n\r\n".encode()


def test_allowed_redirect_is_followed(server: RunningServer, camera: Any) -> None:
    target = f"rtsp://cam:s3cret@127.0.0.1:{camera.port}/film"
    with fake_camera(redirect(target)) as (port, _), server.connect() as client:
        client.receive()
        client.update_session(SILENT)
        client.send("input_source.open", url=f"rtsp://127.0.0.1:{port}/x")
        client.receive("input_frame.scored")


@pytest.mark.parametrize(
    "to", ["rtsp://127.0.0.9:{inner}/x", "rtsp://localhost:{inner}/x", "http://127.0.0.1:{inner}/"]
)
def test_redirect_to_forbidden_address_is_not_followed(server: RunningServer, to: str) -> None:
    with fake_camera(b"") as (inner, requests), fake_camera(redirect(to.format(inner=inner))) as (port, _):
        events = read_source(server, f"rtsp://127.0.0.1:{port}/x")
        assert not requests
    assert next(e for e in events if e["type"] == "error")["error"]["code"] == "bad_source"


def test_redirect_loop_is_abandoned(server: RunningServer) -> None:
    with fake_camera(redirect("/again")) as (port, requests):
        events = read_source(server, f"rtsp://127.0.0.1:{port}/x")
        assert len(requests) <= 8
    assert "redirects more than" in next(e for e in events if e["type"] == "error")["error"]["message"]


def test_invalid_rtsp_responses_close_the_source(server: RunningServer) -> None:
    for response in (
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"x" * 70_000,
        b"SETUP rtsp://a RTSP/1.0\r\n\r\n",
        b"RTSP/1.0 200 OK\r\n\r\n",
    ):
        with fake_camera(response) as (port, _):
            events = read_source(server, f"rtsp://127.0.0.1:{port}/x")
        assert next(e for e in events if e["type"] == "input_source.closed")["reason"] == "failed"


# Response filter


RESPONSE = b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 6\r\n\r\n$v=0\r\n"
PACKET = b"$\x00\x00\x05RTSP/"
AMBIGUOUS_RESPONSES = [
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


@pytest.mark.parametrize("response", AMBIGUOUS_RESPONSES)
def test_ambiguous_responses_are_rejected(response: bytes) -> None:
    with pytest.raises(SourceError):
        ResponseFilter("192.0.2.7").feed(response)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_responses_bodies_and_packets_pass_unchanged(size: int) -> None:
    data = (RESPONSE + PACKET) * 3
    response_filter = ResponseFilter("10.0.0.1")
    forwarded = b"".join(response_filter.feed(data[i : i + size]) for i in range(0, len(data), size))
    assert forwarded.replace(b";source=10.0.0.1", b"") == data


def test_transport_addresses_are_replaced_by_the_checked_address() -> None:
    head = b"RTSP/1.0 200 OK\r\nTransport: RTP/AVP;unicast; source=10.9.9.9;client_port=5-6;Destination=1.2.3.4;ssrc=1\r\n\r\n"
    forwarded = ResponseFilter("192.0.2.7").feed(head).decode()
    assert forwarded.splitlines()[1] == "Transport: RTP/AVP;unicast;client_port=5-6;ssrc=1;source=192.0.2.7"


def test_redirect_raises_with_its_location() -> None:
    with pytest.raises(RedirectError) as raised:
        ResponseFilter("192.0.2.7").feed(redirect("rtsp://elsewhere/x"))
    assert raised.value.location == "rtsp://elsewhere/x"
    with pytest.raises(SourceError, match="not RTSP"):
        ResponseFilter("192.0.2.7").feed(b"REDIRECT rtsp://a RTSP/1.0\r\n\r\n")
