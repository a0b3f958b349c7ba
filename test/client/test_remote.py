"""The clients with a real server: outputs equal those of an engine, and a lost connection loses no event."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from duet_rig import Rig, frames, lively_model, picture
from live_server import RunningServer, run_test_server

from mmduet.client import RemoteSession, RemoteStream
from mmduet.client.address import websocket_url
from mmduet.client.outbox import Outbox
from mmduet.engine import recommended_options
from mmduet.errors import AuthError, CapacityError, ConnectionLostError, OptionError, ServerError, SessionClosedError
from mmduet.events import Context, Frame, Output, Query, Reply, Scores, StreamEnded
from mmduet.options import DecodeOptions, SpeakOptions
from mmduet.protocol import server_events

DUET = {"fps": None, "window": 8, "speak": {"policy": "threshold", "value": 0.5, "unasked": True, "min_interval": 0.0}}


@pytest.fixture(scope="module")
def served() -> Iterator[RunningServer]:
    with run_test_server() as server:
        yield server


def address(served: RunningServer) -> str:
    return f"127.0.0.1:{served.port}"


def comparable(received: list[Output]) -> list[tuple]:
    """Return scores and replies as tuples without ids."""
    found: list[tuple] = []
    for output in received:
        if isinstance(output, Scores):
            found.append(("scores", output.frame, round(output.time, 6), output.speak))
        elif isinstance(output, Reply):
            found.append(("reply", output.frame, round(output.time, 6), output.text, output.finish, output.tokens))
    return found


def test_remote_outputs_equal_local_outputs(served: RunningServer) -> None:
    items: list[Frame | Query | Context] = [*frames(12)]
    items.insert(8, Context("A door opens.", items[7].time))
    items.insert(4, Query("What?", items[3].time))
    rig = Rig(lively_model())
    recommended = recommended_options(rig.model.config.recommended)
    session_options = replace(
        recommended,
        window=8,
        speak=SpeakOptions("threshold", 0.5),
        decode=DecodeOptions(max_new_tokens=12),
        system_prompt="Watch.",
    )
    session = rig.open(session_options)
    expected = []
    for item in items:  # step by step, so that each turn is read at its place
        rig.push(session, item)
        expected += list(rig.run(session))
    rig.end(session)
    expected += list(rig.run(session))
    with RemoteStream(address(served), encoding="raw") as stream:
        stream.update(duet=DUET, max_output_tokens=12, instructions="Watch.")
        for item in items:
            stream.push(item)
        stream.end()
        received = list(stream.outputs())
    assert comparable(received) == comparable(expected)
    assert any(isinstance(output, Reply) for output in received)
    numbers = [
        [(o.informative, o.relevance) for o in outputs if isinstance(o, Scores)] for outputs in (received, expected)
    ]
    np.testing.assert_allclose(*numbers, atol=1e-5)
    assert isinstance(received[-1], StreamEnded)
    with pytest.raises(SessionClosedError):
        stream.push(items[0])


def abort_connections(served: RunningServer) -> None:
    """Abort every socket of the server, without a closing handshake."""
    for protocol in list(served.uvicorn.server_state.connections):
        served.uvicorn.loop.call_soon_threadsafe(protocol.transport.abort)


def test_a_lost_connection_loses_and_repeats_no_event(served: RunningServer) -> None:
    def record_events(with_aborts: bool) -> list[server_events.ServerEvent]:
        events = []
        with RemoteStream(address(served)) as stream:
            stream.update(duet=DUET)
            for number, frame in enumerate(frames(30)):
                stream.push(frame)
                if with_aborts and number % 8 == 5:
                    abort_connections(served)
                    time.sleep(0.05 * (number % 3))
                time.sleep(0.01)
            stream.end()
            events = list(stream.events())
        return events

    uninterrupted, resumed = record_events(False), record_events(True)
    assert sum(isinstance(event, server_events.SessionResumed) for event in resumed) >= 2
    names = [event.event_id for event in resumed]
    assert names == sorted(set(names))
    for kind in (server_events.FrameScored, server_events.TextDone):
        found = [[event for event in events if isinstance(event, kind)] for events in (uninterrupted, resumed)]
        keys = [
            [(getattr(e, "seq", 0), getattr(e, "decision", ""), getattr(e, "text", "")) for e in one] for one in found
        ]
        assert keys[0] == keys[1]
    assert resumed[-1].frames["scored"] == 30
    assert "duplicate" not in resumed[-1].frames


def test_concurrent_sessions_equal_single_ones(served: RunningServer) -> None:
    async def one(seed: int) -> list[tuple[int, float | None]]:
        async with RemoteSession(address(served)) as session:
            await session.update(duet={**DUET, "speak": {"policy": "never"}})
            for frame in frames(10, seed=seed):
                await session.push(frame.image, frame.time, "raw")
            await session.end()
            return [(e.seq, e.informative) async for e in session if isinstance(e, server_events.FrameScored)]

    async def all_of_them() -> list[list[tuple[int, float | None]]]:
        return await asyncio.gather(*(one(seed) for seed in range(8)))

    alone = [asyncio.run(one(seed)) for seed in range(8)]
    for batched, single in zip(asyncio.run(all_of_them()), alone, strict=True):
        assert [seq for seq, _ in batched] == [seq for seq, _ in single]
        np.testing.assert_allclose([s for _, s in batched], [s for _, s in single], atol=1e-5)


def test_absent_and_stopped_servers_raise() -> None:
    with (
        pytest.raises(
            ServerError, match=r"ws://127\.0\.0\.1:9/v1/realtime cannot be reached \(.*\); is a server running there\?"
        ),
        RemoteStream("127.0.0.1:9"),
    ):
        pass
    with (
        pytest.raises(
            OptionError, match=r"server 'ftp://host' is not a valid address; use ws://HOST:PORT, or wss:// over TLS"
        ),
        RemoteStream("ftp://host"),
    ):
        pass
    with run_test_server() as served:
        stream = RemoteStream(address(served), max_reconnect_seconds=0.5).__enter__()
        stream.push(frames(1)[0])
    with pytest.raises(ConnectionLostError):
        list(stream.events())
    with pytest.raises(ConnectionLostError):
        stream.push(frames(1)[0])
    stream.close()


def test_full_server_raises_capacity_error() -> None:
    full = pytest.raises(CapacityError, match=r"ws://.* is full: ")
    with run_test_server(max_sessions=1) as served, RemoteStream(address(served)), full, RemoteStream(address(served)):
        pass


def test_wrong_keys_raise_auth_error() -> None:
    with run_test_server(keys="open sesame, other") as served:
        with RemoteStream(address(served), key="open sesame") as stream:
            assert stream.session.model == "random:tiny"
        places = r"the option --key, the variable MMDUET_KEY or, in Python, the parameter key$"
        for wrong, problem in {
            None: "requires an API key and none was sent; set",
            "sesame": "does not accept the API key; correct",
            "open sesame!": "does not accept the API key; correct",
        }.items():
            with (
                pytest.raises(AuthError, match=rf"ws://\S+ {problem} {places}"),
                RemoteStream(address(served), key=wrong),
            ):
                pass


def test_wrong_path_is_not_an_auth_error(served: RunningServer) -> None:
    with pytest.raises(ServerError, match="404: there is no WebSocket endpoint at /foo") as caught:
        RemoteStream(f"ws://{address(served)}/foo").__enter__()
    assert not isinstance(caught.value, AuthError)


def test_close_unblocks_event_iteration(served: RunningServer) -> None:
    stream = RemoteStream(address(served)).__enter__()
    stream.push(Frame(0, 0.0, picture(0)))
    events = stream.events()
    next(events)
    stream.close()
    stream.close()
    with pytest.raises(SessionClosedError):
        list(events)


def test_oversized_image_raises_before_sending() -> None:
    with run_test_server(max_message_bytes=2000) as served, RemoteStream(address(served), encoding="raw") as stream:
        with pytest.raises(OptionError, match=r"a message must have at most 2000 bytes, got \d+; send smaller images"):
            stream.push(frames(1)[0])
        stream.end()
        assert isinstance(list(stream.outputs())[-1], StreamEnded)


def test_all_input_may_be_pushed_before_reading(served: RunningServer) -> None:
    small = np.zeros((4, 4, 3), np.uint8)
    for duet in ({"ack": True}, {"ack": False}):
        with RemoteStream(address(served), encoding="raw", block_when_behind=True) as stream:
            stream.update(duet={"fps": None, "window": 4, "speak": {"policy": "never"}, **duet})
            for number in range(400):
                stream.push(Frame(number, number / 100, small))
            stream.end()
            closed = list(stream.events())[-1]
        assert closed.frames["received"] == 400
        assert not duet["ack"] or closed.frames["scored"] == 400


def test_unconsumed_messages_are_sent_again() -> None:
    box = Outbox()
    for text in "abcdef":
        box.append(text)
    assert [box.next_message() for _ in range(4)] == ["a", "b", "c", "d"]
    box.rewind(1)
    assert [box.next_message() for _ in range(5)] == ["c", "d", "e", "f", None]
    box.acknowledge(4)
    assert len(box) == 1
    box.rewind(-1)  # an outdated confirmation
    assert [box.next_message(), box.next_message()] == ["f", None]
    assert box.appended_count == 6


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost:8765", "ws://localhost:8765/v1/realtime"),
        ("https://a.example", "wss://a.example/v1/realtime"),
        ("https://a.example/mmduet", "wss://a.example/mmduet/v1/realtime"),
        ("https://a.example/mmduet/v1/", "wss://a.example/mmduet/v1/realtime"),
        ("wss://a.example/mmduet/v1/realtime", "wss://a.example/mmduet/v1/realtime"),
        ("ws://[::1]:9/other/path?x=1", "ws://[::1]:9/other/path/v1/realtime"),
    ],
)
def test_an_address_is_completed(url: str, expected: str) -> None:
    assert websocket_url(url) == expected


@pytest.mark.parametrize(
    "url", ["ws://[::1", "ws://localhost:99999", "localhost:eight", "ws://ü..", "ftp://localhost", "ws://"]
)
def test_an_invalid_address_is_an_option_error(url: str) -> None:
    with pytest.raises(OptionError, match=f"server {re.escape(repr(url))} is not a valid address"), RemoteStream(url):
        pass


def test_close_unblocks_other_threads(served: RunningServer) -> None:
    for _ in range(5):
        stream = RemoteStream(address(served)).__enter__()
        ends: list[str] = []

        def use(number: int, stream: RemoteStream = stream, ends: list[str] = ends) -> None:
            try:
                for index in range(10_000):
                    stream.push(Frame(number * 10_000 + index, index / 10, picture(0)))
            except SessionClosedError:
                ends.append("closed")

        threads = [threading.Thread(target=use, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        stream.close()
        for thread in threads:
            thread.join(10)
        assert ends == ["closed"] * 3
