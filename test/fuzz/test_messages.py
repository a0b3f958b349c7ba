"""Messages of clients to a real server: an error event or a close code, and the server stays as it was."""

from __future__ import annotations

import copy
import json
import logging
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from container_files import intact
from fuzzing import apply_edits, apply_json_edits, edits, fuzz, json_edits
from hypothesis import strategies as st
from live_server import RunningServer, SocketClient, run_test_server, wait_for
from websockets.exceptions import ConnectionClosed

ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What?"}]}
EVENTS: tuple[dict[str, Any], ...] = (
    {"type": "session.update", "session": {"type": "realtime", "instructions": "x", "max_output_tokens": 3, "duet": {
        "fps": 2.0, "window": 4, "keep_replies": True, "profile": "fixed", "scores": False, "ack": True,
        "speak": {"policy": "threshold", "value": 0.5, "heads": ["informative"], "min_interval": 0.0},
    }}},
    {"type": "conversation.item.create", "item": ITEM},
    {"type": "conversation.item.create", "item": {**ITEM, "role": "system", "duet": {"keep": True, "pts": 5}}},
    {"type": "conversation.item.create", "item": {**ITEM, "content": [
        {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}]}},
    {"type": "response.create", "response": {"metadata": {"a": "b"}, "output_modalities": ["text"]}},
    {"type": "response.cancel", "response_id": "resp_x"},
    {"type": "input_frame.append", "pts": 500000, "seq": 3, "image": "iVBORw0KGgo="},
    {"type": "input_frame.end"},
    {"type": "input_source.open", "url": "file:///etc/hostname", "transport": "tcp"},
    {"type": "input_source.open", "url": "rtsp://127.0.0.1:9/x", "transport": "udp", "speed": 1.0},
    {"type": "input_source.update", "paused": True, "speed": 0.5},
    {"type": "input_source.close"},
    {"type": "session.resume", "session_id": "x", "resume_token": "y", "last_event_id": "evt_1"},
    {"type": "session.heartbeat", "event_id": "e"},
)  # fmt: skip
CLOSE_CODES = {1000, 1002, 1007, 1008, 1009, 4004}
FRAME = struct.pack("<BBHIQ", 1, 1, 0, 0, 0) + intact("jpg")
RAW_FRAME = struct.pack("<BBHIQHH", 1, 4, 0, 0, 0, 4, 2) + bytes(24)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with run_test_server(message_burst=100_000, messages_per_second=100_000) as server:
        yield server


def messages() -> st.SearchStrategy[str | bytes]:
    changed = st.tuples(st.sampled_from(EVENTS), st.just([]) | json_edits())
    events = changed.map(lambda case: json.dumps(apply_json_edits(copy.deepcopy(case[0]), case[1])))
    broken = st.tuples(events, edits()).map(lambda case: apply_edits(case[0].encode(), case[1]).decode("latin-1"))
    frames = st.tuples(st.sampled_from((FRAME, RAW_FRAME)), st.just([]) | edits())
    return events | broken | frames.map(lambda case: apply_edits(*case)) | st.binary(max_size=64)


def talk(client: SocketClient, sent: list[str | bytes]) -> None:
    """Send the messages and wait until the server has consumed them or closed."""
    try:
        for message in sent:
            client.ws.send(message)
        client.send("session.heartbeat", event_id="last")
        while (event := client.receive())["type"] not in ("session.heartbeat_ack", "session.closed"):
            if event["type"] == "error":
                assert event["error"]["code"] != "internal", event
                assert len(json.dumps(event)) < 4000, "the error repeats its input"
    except ConnectionClosed:
        assert client.ws.close_code in CLOSE_CODES, (client.ws.close_code, client.ws.close_reason)


def test_messages(server: RunningServer, share: float, caplog: pytest.LogCaptureFixture) -> None:
    def check(sent: list[str | bytes]) -> None:
        caplog.clear()
        with server.connect() as client:
            talk(client, sent)
            with suppress(ConnectionClosed):
                client.ws.close()
        failures = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert not failures, failures
        wait_for(lambda: not server.manager.sessions)

    fuzz("messages", share, st.lists(messages(), min_size=1, max_size=6), check, 12)
