"""Events are numbered, kept for a while, and read on from anywhere; messages and frames survive the way there and back."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mmduet.errors import ProtocolError
from mmduet.protocol import server_events
from mmduet.protocol.client_events import MAX_PTS, MAX_SEQ, parse_client_event
from mmduet.protocol.event_ids import format_event_id, parse_event_id
from mmduet.protocol.frames import EncodedImage, ImageFormat, image_from_base64, pack_frame, to_data_url, unpack_frame
from mmduet.protocol.session.event_log import EventLog


def ack(number: int) -> server_events.HeartbeatAck:
    return server_events.HeartbeatAck(last_consumed_client_message_index=number)


def read(log: EventLog, after: int, reader: int = 0) -> list[int]:
    numbers = []
    while (entry := log.next_after(after, reader)) is not None:
        numbers.append(entry.number)
        after = entry.number
    return numbers


def test_subscriber_reads_every_event_once() -> None:
    log = EventLog()
    for number in range(5):
        log.append(ack(number))
    assert read(log, 0) == [1, 2, 3, 4, 5]
    assert read(log, 3) == [4, 5]
    assert read(log, 5) == []


def test_oldest_events_are_removed_and_the_gap_is_detected() -> None:
    log = EventLog(max_events=3)
    for number in range(5):
        log.append(ack(number))
    assert (log.first_number, log.last_number) == (3, 5)
    assert log.has_all_after(2)
    assert not log.has_all_after(1)
    assert not log.has_all_after(6)  # of another life
    assert read(log, 2) == [3, 4, 5]


def test_log_size_is_bounded_but_newest_event_stays() -> None:
    log = EventLog(max_bytes=300)
    for number in range(9):
        log.append(ack(number))
    assert 0 < log.last_number - log.first_number < 3
    log.append(server_events.ErrorEvent(error=server_events.Error(code="x", message="m" * 1000)))
    assert log.first_number == log.last_number


def test_private_events_reach_only_their_subscriber() -> None:
    log = EventLog()
    log.append(ack(0))
    log.append(ack(1), subscriber=7)
    log.append(ack(2))
    assert read(log, 0, reader=7) == [1, 2, 3]
    assert read(log, 0, reader=8) == [1, 3]


@given(st.integers(0, 10**12 - 1))
def test_event_ids_order_like_their_numbers(number: int) -> None:
    assert parse_event_id(format_event_id(number)) == number
    assert format_event_id(number) <= format_event_id(max(number, 5)) or number > 5


@pytest.mark.parametrize(
    "name", ["", "event_1", "event_00000000000x", "event_" + "\N{ARABIC-INDIC DIGIT ONE}" * 12, "evt_000000000001"]
)
def test_invalid_event_ids_return_none(name: str) -> None:
    assert parse_event_id(name) is None


ENCODED = st.builds(
    EncodedImage,
    st.sampled_from([ImageFormat.JPEG, ImageFormat.PNG, ImageFormat.WEBP]),
    st.binary(min_size=1, max_size=99),
)
RAW = st.tuples(st.integers(1, 9), st.integers(1, 9)).map(
    lambda s: EncodedImage(ImageFormat.RAW, bytes(s[0] * s[1] * 3), *s)
)


@given(st.integers(0, MAX_SEQ), st.integers(0, MAX_PTS), ENCODED | RAW)
def test_frames_roundtrip(seq: int, pts: int, picture: EncodedImage) -> None:
    found = unpack_frame(pack_frame(seq, pts, picture))
    assert (found.seq, found.pts, found.image) == (seq, pts, picture)


@given(st.binary(max_size=64))
def test_arbitrary_bytes_are_a_frame_or_an_error(message: bytes) -> None:
    with suppress(ProtocolError):
        assert len(unpack_frame(message).image.data) > 0


@given(ENCODED)
def test_data_urls_roundtrip(picture: EncodedImage) -> None:
    assert image_from_base64(to_data_url(picture), "image") == picture


@given(st.text(max_size=80) | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_invalid_text_raises_protocol_error(text: str) -> None:
    with pytest.raises(ProtocolError):
        parse_client_event(text)


def test_server_events_roundtrip_and_unknown_ones_are_tolerated() -> None:
    for event in (
        ack(3),
        server_events.SessionExpired(session_id="s"),
        server_events.TextDelta(response_id="r", item_id="i", delta="é\n"),
    ):
        assert server_events.parse_server_event(event.model_dump_json()) == event
    newer = server_events.parse_server_event('{"type": "session.party", "event_id": "e", "hats": 3}')
    assert (newer.type, newer.event_id) == ("session.party", "e")
    with pytest.raises(ValidationError):
        server_events.parse_server_event("{}")
