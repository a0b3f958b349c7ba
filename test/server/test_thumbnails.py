"""Thumbnails of a source's frames: opt-in, in step with the scores, bounded, and never kept."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
from live_server import RunningServer, SocketClient, run_test_server
from PIL import Image

from mmduet.client import RemoteStream
from mmduet.server.thumbnails import MAX_SIDE, MAX_WAITING, Thumbnails, encode_thumbnail
from mmduet.video import VideoWriter

SILENT = {"fps": 4, "speak": {"policy": "never"}, "thumbnails": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    root = tmp_path_factory.mktemp("root")
    with VideoWriter(root / "film.mp4", 64, 32, 8.0) as writer:
        for number in range(40):
            writer.write(np.full((32, 64, 3), (255, 0, 0) if number < 20 else (0, 0, 255), np.uint8))
    with run_test_server(pull_roots=str(root), journal=str(tmp_path_factory.mktemp("journal"))) as server:
        yield server


def decode(event: dict[str, Any]) -> np.ndarray:
    """Return the image of an event."""
    head, _, data = event["image"].partition(",")
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def read_source(client: SocketClient, duet: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    client.receive()
    client.update_session(duet)
    client.send("input_source.open", url="film.mp4", **fields)
    return [*client.receive_until("input_source.closed"), *client.end_stream()]


def test_thumbnails_show_what_the_model_has_scored(server: RunningServer) -> None:
    with server.connect() as client:
        events = read_source(client, SILENT, speed=2)
    thumbnails = [event for event in events if event["type"] == "input_frame.thumbnail"]
    assert thumbnails
    for number, event in enumerate(events):
        if event["type"] != "input_frame.thumbnail":
            continue
        assert "event_id" not in event
        before = [earlier for earlier in events[:number] if earlier["type"] == "input_frame.scored"]
        assert (event["seq"], event["pts"]) in [(earlier["seq"], earlier["pts"]) for earlier in before]
        image = decode(event)
        assert max(image.shape[:2]) <= MAX_SIDE
        middle, colour = image[image.shape[0] // 2, image.shape[1] // 2], 0 if event["pts"] < 2_500_000 else 2
        assert middle[colour] > 200 > 60 > middle[2 - colour]
    assert len({event["seq"] for event in thumbnails}) == len(thumbnails)
    assert events[-1]["type"] == "session.closed"


def test_without_the_setting_there_are_none(server: RunningServer) -> None:
    with server.connect() as client:
        created = client.receive()
        assert created["session"]["duet"]["thumbnails"] is False
        client.update_session({"fps": 4, "speak": {"policy": "never"}})
        client.send("input_source.open", url="film.mp4")
        events = client.receive_until("input_source.closed")
        client.send_frames(1)
        events += client.end_stream()
    assert "input_frame.thumbnail" not in {event["type"] for event in events}


def test_thumbnails_are_not_sent_again_after_a_resume_and_not_journaled(server: RunningServer) -> None:
    with server.connect() as client:
        created = client.receive()["session"]
        client.update_session(SILENT)
        client.send("input_source.open", url="film.mp4")
        received = Counter[str]()
        while received["input_frame.scored"] < 20 or not received["input_frame.thumbnail"]:
            received[client.receive()["type"]] += 1
        client.ws.socket.close()
    journals = [path.read_bytes() for path in server.manager.config.journal.iterdir() if path.is_file()]
    assert any(b"input_frame.scored" in journal for journal in journals)
    assert not any(b"input_frame.thumbnail" in journal or b"data:image" in journal for journal in journals)
    with server.connect(resume=True) as client:
        client.send("session.resume", session_id=created["id"], resume_token=created["duet"]["resume_token"])
        events = client.receive_until("session.resumed")
        assert "input_frame.scored" in {event["type"] for event in events}
        assert "input_frame.thumbnail" not in {event["type"] for event in events}
        assert all(event["event_id"] for event in events)


def test_a_reader_of_server_sent_events_gets_them_without_ids(server: RunningServer) -> None:
    body = {"source": "film.mp4", "speed": 8, "paused": True, "session": {"type": "realtime", "duet": SILENT}}
    created = httpx2.post(f"{server.http}/v1/sessions", json=body)
    url = server.http + created.headers["location"]
    blocks: list[str] = []
    with httpx2.stream("GET", f"{url}/events", timeout=30) as response:
        lines = response.iter_lines()
        next(lines)
        httpx2.post(f"{url}/resume")
        for line in lines:
            blocks.append(line)
    found = [number for number, line in enumerate(blocks) if line == "event: input_frame.thumbnail"]
    assert found
    for number in found:
        assert blocks[number - 1] == ""
        decode(json.loads(blocks[number + 1].removeprefix("data: ")))


def test_the_client_passes_them_on(server: RunningServer) -> None:
    with RemoteStream(server.url()) as stream:
        stream.update(duet=SILENT)
        stream.open_source("film.mp4")
        thumbnail = next(event for event in stream.events() if event.type == "input_frame.thumbnail")
        assert thumbnail.image.startswith("data:image/jpeg;base64,")


def test_their_number_is_bounded() -> None:
    now = 0.0
    thumbnails, image = Thumbnails(lambda: now), np.zeros((8, 8, 3), np.uint8)
    made = 0
    for _ in range(300):
        made += thumbnails.encode(image) is not None
        now += 1 / 30
    assert 38 <= made <= 42
    for pts in range(100):
        thumbnails.add(pts, str(pts))
    assert thumbnails.take(99 - MAX_WAITING) is None
    assert thumbnails.take(95) == "95"
    assert thumbnails.take(94) is None
    assert thumbnails.take(99) == "99"


@pytest.mark.parametrize("size", [(384, 384), (48, 64), (1000, 4), (1, 1), (90, 1600)])
def test_their_size_is_bounded(size: tuple[int, int]) -> None:
    image = decode({"image": encode_thumbnail(np.full((*size, 3), 128, np.uint8))})
    assert max(image.shape[:2]) == min(max(size), MAX_SIDE)
