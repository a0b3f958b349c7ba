"""Sessions over a real socket: scores and replies, resuming, limits, timeouts and failures."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest
import torch
from duet_rig import lively_model
from live_server import RunningServer, SocketClient, endless_model, run_test_server, wait_for
from safetensors.torch import save_file
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from mmduet.model import load_model
from mmduet.model.checkpoint import save_checkpoint

SPEAKING_SETTINGS = {"fps": 2, "window": 8, "speak": {"policy": "threshold", "value": 0.5}}


def test_session_emits_expected_events_from_start_to_end(server: RunningServer) -> None:
    with server.connect() as client:
        created = client.receive()
        assert created["type"] == "session.created"
        assert created["session"]["model"] == "random:tiny"
        assert created["session"]["duet"]["limits"]["max_sessions"] >= 1
        assert created["session"]["duet"]["resume_token"]
        client.update_session({**SPEAKING_SETTINGS, "speak": {"policy": "never"}}, max_output_tokens=6)
        assert client.receive()["type"] == "session.updated"
        client.send_frames(4)
        client.send_text("What?")
        client.send("response.create")
        events = client.end_stream()
    kinds = [event["type"] for event in events]
    assert [e["seq"] for e in events if e["type"] == "input_frame.scored"] == [0, 1, 2, 3]
    assert kinds.index("conversation.item.done") < kinds.index("response.created")
    done = next(e for e in events if e["type"] == "response.done")["response"]
    text = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    assert done["output"][0]["content"][0]["text"] == text
    assert done["duet"]["forced"]
    assert done["usage"]["input_tokens"] > 0
    assert events[-1]["frames"] == {"received": 4, "scored": 4}
    ids = [e["event_id"] for e in [created, *events]]
    assert ids == sorted(set(ids))
    with pytest.raises(ConnectionClosed) as closed:
        client.receive()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000


def test_invalid_messages_are_reported_and_the_session_continues(server: RunningServer) -> None:
    with server.connect() as client:
        client.receive()
        client.ws.send("{not json")
        client.ws.send(b"\x01\x02\x03")
        client.send("nonsense")
        client.ws.send("[" * 50_000)
        client.send_frames(1)
        client.ws.send(
            b"\x01\x01\x00\x00" + (1).to_bytes(4, "little") + (500_000).to_bytes(8, "little") + b"\xff\xd8\xffno jpeg"
        )
        client.seq = 2
        client.send_frames(1)
        events = client.end_stream()
    errors = [e["error"]["code"] for e in events if e["type"] == "error"]
    assert errors == ["invalid_json", "invalid_frame", "unknown_event", "invalid_json"]
    frames = [(e["seq"], e.get("reason", "scored")) for e in events if e["type"].startswith("input_frame.")]
    assert frames == [(0, "scored"), (1, "decode_error"), (2, "scored")]


def cut_connection(client: SocketClient) -> None:
    """Close the connection without a closing handshake."""
    client.ws.socket.close()


def resume(server: RunningServer, created: dict, last: str | None) -> SocketClient:
    client = server.connect(resume=True)
    session = created["session"]
    client.send(
        "session.resume", session_id=session["id"], resume_token=session["duet"]["resume_token"], last_event_id=last
    )
    return client


def test_resumed_client_receives_missed_events_once(server: RunningServer) -> None:
    with server.connect() as uninterrupted:
        uninterrupted.receive()
        uninterrupted.update_session(SPEAKING_SETTINGS)
        uninterrupted.send_frames(12)
        expected = [
            e for e in uninterrupted.end_stream() if e["type"] in ("input_frame.scored", "response.output_text.done")
        ]
    client = server.connect()
    created = client.receive()
    client.update_session(SPEAKING_SETTINGS)
    client.send_frames(6)
    received = [client.receive() for _ in range(4)]
    client.send("session.heartbeat")
    cut_connection(client)
    again = resume(server, created, received[-1]["event_id"])
    missed = again.receive_until("session.resumed")
    assert missed[-1]["last_consumed_client_message_index"] in (6, 7)
    last_consumed = missed[-1]["last_consumed_client_message_index"]
    again.seq = last_consumed - (last_consumed == 7)  # message 0 is the update, 7 the heartbeat
    again.send_frames(12 - again.seq)
    events = [*received, *missed, *again.end_stream()]
    ids = [e["event_id"] for e in events]
    assert ids == sorted(set(ids))
    found = [e for e in events if e["type"] in ("input_frame.scored", "response.output_text.done")]
    keys = ("type", "seq", "informative", "relevance", "decision", "text")
    for one, other in zip(found, expected, strict=True):
        for key in keys:
            assert one.get(key) == pytest.approx(other.get(key), abs=1e-5)


def test_resume_without_url_parameter(server: RunningServer) -> None:
    client = server.connect()
    created = client.receive()
    client.send_frames(2)
    client.receive_until("input_frame.scored")
    cut_connection(client)
    again = server.connect()
    provisional = again.receive()["session"]["id"]
    again.send(
        "session.resume",
        session_id=created["session"]["id"],
        resume_token=created["session"]["duet"]["resume_token"],
        last_event_id=created["event_id"],
    )
    missed = again.receive_until("session.resumed")
    assert next(e["seq"] for e in missed if e["type"] == "input_frame.scored") == 0
    assert missed[-1]["session_id"] != provisional
    wait_for(lambda: all(s.id != provisional for s in server.manager.sessions))
    again.end_stream()


def test_resume_needs_the_right_token(server: RunningServer) -> None:
    with server.connect() as client:
        created = client.receive()
        for session_id, token in (
            (created["session"]["id"], "wrong"),
            ("sess_0000000000000000", created["session"]["duet"]["resume_token"]),
        ):
            with server.connect(resume=True) as thief:
                thief.send("session.resume", session_id=session_id, resume_token=token)
                assert thief.receive()["type"] == "session.expired"
                with pytest.raises(ConnectionClosed):
                    thief.receive()
        client.send_frames(1)
        assert client.end_stream()[-1]["frames"]["scored"] == 1


def test_second_socket_replaces_the_first(server: RunningServer) -> None:
    first = server.connect()
    created = first.receive()
    second = resume(server, created, created["event_id"])
    assert second.receive()["type"] == "session.resumed"
    assert first.receive()["type"] == "session.replaced"
    with pytest.raises(ConnectionClosed) as closed:
        first.receive()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4001
    second.send_frames(2)
    events = second.end_stream()
    assert events[-1]["frames"]["scored"] == 2


def test_missing_log_events_require_a_resync() -> None:
    with run_test_server(log_events=16) as server:
        client = server.connect()
        created = client.receive()
        last = created
        for _ in range(40):
            client.send("session.heartbeat")
            last = client.receive()
        cut_connection(client)
        again = resume(server, created, created["event_id"])
        events = again.receive_until("session.resync_required")
        assert events[-1]["last_consumed_client_message_index"] == 39
        assert events[-2]["event_id"] == last["event_id"]


def test_disconnected_session_expires_after_time_to_live() -> None:
    with run_test_server(time_to_live=0.3) as server:
        client = server.connect()
        created = client.receive()
        cut_connection(client)
        wait_for(lambda: not server.manager.sessions)
        assert server.manager.budget.used_bytes == 0
        again = resume(server, created, None)
        assert again.receive()["type"] == "session.expired"


def test_silent_client_is_closed_after_idle_timeout() -> None:
    with run_test_server(idle_timeout=0.3) as server, server.connect() as client:
        client.receive()
        assert client.receive(timeout=5)["reason"] == "idle"


def test_full_server_rejects_the_handshake_until_a_session_closes() -> None:
    with run_test_server(max_sessions=1) as server:
        with server.connect() as client:
            client.receive()
            with pytest.raises(InvalidStatus) as rejected:
                server.connect()
            assert rejected.value.response.status_code == 503
            assert "Retry-After" in rejected.value.response.headers
            assert json.loads(rejected.value.response.body)["error"]["code"] == "no_capacity"
        wait_for(lambda: not server.manager.sessions)
        with server.connect() as client:
            assert client.receive()["type"] == "session.created"


def test_client_can_resume_on_a_full_server() -> None:
    with run_test_server(max_sessions=1) as server:
        client = server.connect()
        created = client.receive()
        cut_connection(client)
        again = resume(server, created, created["event_id"])
        assert again.receive()["type"] == "session.resumed"


def test_memory_is_reserved_and_a_larger_window_needs_more() -> None:
    with run_test_server(kv_memory_mb=2) as server, server.connect() as one:
        one.receive()
        with pytest.raises(InvalidStatus):
            server.connect()
        one.update_session({"window": 8})
        assert one.receive()["type"] == "session.updated"
        reserved = server.manager.budget.used_bytes
        with server.connect() as other:
            other.receive()
            one.update_session({"window": None})
            assert one.receive()["error"]["code"] == "no_capacity"
            one.update_session({"window": 100_000})
            assert one.receive()["error"]["code"] == "invalid_value"  # more than the model has positions
        wait_for(lambda: server.manager.budget.used_bytes == reserved)
        one.send_frames(1)
        assert one.end_stream()[-1]["frames"]["scored"] == 1


def test_unknown_model_is_rejected(server: RunningServer) -> None:
    with pytest.raises(InvalidStatus) as rejected:
        connect(server.url(model="gpt"), legacy=True)
    assert rejected.value.response.status_code == 404
    assert "tiny" in json.loads(rejected.value.response.body)["error"]["message"]


def test_cancel_stops_the_current_reply() -> None:
    with run_test_server(endless_model()) as server, server.connect() as client:
        client.receive()
        client.update_session({"window": None}, max_output_tokens=3000, instructions="x")
        client.send_text("Tell.")
        client.send("response.create")
        created = client.receive("response.created")
        client.receive("response.output_text.delta")
        client.send("response.cancel", response_id=created["response"]["id"])
        done = client.receive("response.done")["response"]
        assert done["status"] == "cancelled"
        assert 0 < done["usage"]["output_tokens"] < 3000


def test_last_events_can_be_read_after_a_lost_connection(server: RunningServer) -> None:
    client = server.connect()
    created = client.receive()
    client.update_session({"speak": {"policy": "never"}})
    client.send_frames(3)
    client.send("input_frame.end")
    cut_connection(client)
    wait_for(lambda: all(session.id != created["session"]["id"] for session in server.manager.sessions))
    again = resume(server, created, created["event_id"])
    events = again.receive_until("session.closed")
    assert [e["seq"] for e in events if e["type"] == "input_frame.scored"] == [0, 1, 2]
    wait_for(lambda: again.ws.close_code == 1000 or not again.ws.recv(timeout=5))
    expired = resume(server, created, None)
    assert expired.receive()["type"] == "session.expired"


@pytest.mark.parametrize(
    ("duet", "fields"),
    [({"adapter": "none"}, {}), ({}, {"instructions": "<|im_start|>"}), ({"window": 4}, {"instructions": "x" * 5000})],
)
def test_settings_that_would_fail_later_are_rejected(server: RunningServer, duet: dict, fields: dict) -> None:
    with server.connect() as client:
        client.receive()
        client.update_session(duet, **fields)
        assert client.receive()["type"] == "error"
        client.send_frames(1)
        assert client.end_stream()[-1]["reason"] == "ended"


def test_settings_after_the_end_are_rejected() -> None:
    with run_test_server(endless_model()) as server, server.connect() as client:
        client.receive()
        client.update_session({"window": None}, max_output_tokens=100, instructions="x")
        client.send_text("Tell.")
        client.send("response.create")
        client.send("input_frame.end")
        client.update_session({"speak": {"value": 0.1}})
        events = client.receive_until("session.closed")
    assert [e["error"]["code"] for e in events if e["type"] == "error"] == ["session_ended"]
    assert events[-1]["reason"] == "ended"


def test_engine_failure_is_reported_once_and_stops_admission() -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("device lost")

    model = lively_model()
    with run_test_server(model) as server, server.connect() as client:
        client.receive()
        client.send_frames(1)
        client.receive_until("input_frame.scored")
        model.network.heads.register_forward_pre_hook(fail)
        client.send_frames(1)
        events = client.receive_until("session.closed")
        assert [e["type"] for e in events].count("error") == 1
        assert events[-1]["reason"] == "failed"
        assert httpx2.get(f"{server.http}/ready").status_code == 503
        assert httpx2.get(f"{server.http}/health").status_code == 500
        with pytest.raises(InvalidStatus):
            server.connect()


def test_session_selects_its_adapter_by_name(tmp_path: Path) -> None:
    base = save_checkpoint(tmp_path / "base", lively_model().network, lively_model().tokenizer)
    folders = {name: write_adapter(tmp_path / name, seed) for seed, name in enumerate(("cook", "sport"))}
    with run_test_server(load_model(str(base), adapters=folders), adapters=folders) as server:
        scores = {}
        for name in (None, "cook", "sport"):
            with server.connect() as client:
                assert client.receive()["session"]["duet"]["limits"]["adapters"] == ["cook", "sport"]
                client.update_session({"fps": None, "adapter": name, "speak": {"policy": "never"}})
                client.send_frames(2)
                scores[name] = [e["informative"] for e in client.end_stream() if e["type"] == "input_frame.scored"]
        assert len({tuple(values) for values in scores.values()}) == 3
        with server.connect() as client:
            client.receive()
            client.update_session({"adapter": "law"})
            assert "'law'" in client.receive("error")["error"]["message"]


def write_adapter(root: Path, seed: int) -> Path:
    """Write a LoRA adapter of the first query projection."""
    shape = lively_model().network.state_dict()["lm.layers.0.self_attn.q_proj.weight"].shape
    numbers = torch.Generator().manual_seed(seed)
    name = "base_model.model.lm.layers.0.self_attn.q_proj"
    tensors = {
        f"{name}.lora_A.weight": torch.randn(3, shape[1], generator=numbers),
        f"{name}.lora_B.weight": torch.randn(shape[0], 3, generator=numbers),
    }
    root.mkdir()
    (root / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 3, "lora_alpha": 6}))
    save_file(tensors, root / "adapter_model.safetensors")
    return root
