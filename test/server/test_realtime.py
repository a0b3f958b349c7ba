"""A session over a real socket: what is pushed comes back scored, turns are answered, a lost client goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest
import torch
from duet_rig import lively_model
from safetensors.torch import save_file
from served import Served, Talk, endless_model, serving, wait_for
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from mmduet.model import load_model
from mmduet.model.checkpoint import save_checkpoint

SPEAKING = {"fps": 2, "window": 8, "speak": {"policy": "threshold", "value": 0.5}}


def test_a_session_from_its_first_event_to_its_last(served: Served) -> None:
    with served.talk() as talk:
        created = talk.next()
        assert created["type"] == "session.created"
        assert created["session"]["model"] == "random:tiny"
        assert created["session"]["duet"]["limits"]["max_sessions"] >= 1
        assert created["session"]["duet"]["resume_token"]
        talk.update({**SPEAKING, "speak": {"policy": "never"}}, max_output_tokens=6)
        assert talk.next()["type"] == "session.updated"
        talk.frames(4)
        talk.ask("What?")
        talk.send("response.create")
        told = talk.end()
    kinds = [event["type"] for event in told]
    assert [e["seq"] for e in told if e["type"] == "input_frame.scored"] == [0, 1, 2, 3]
    assert kinds.index("conversation.item.done") < kinds.index("response.created")
    done = next(e for e in told if e["type"] == "response.done")["response"]
    text = "".join(e["delta"] for e in told if e["type"] == "response.output_text.delta")
    assert done["output"][0]["content"][0]["text"] == text
    assert done["duet"]["forced"]
    assert done["usage"]["input_tokens"] > 0
    assert told[-1]["frames"] == {"received": 4, "scored": 4}
    ids = [e["event_id"] for e in [created, *told]]
    assert ids == sorted(set(ids))
    with pytest.raises(ConnectionClosed) as closed:
        talk.next()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000


def test_what_is_wrong_is_told_and_costs_nothing_else(served: Served) -> None:
    with served.talk() as talk:
        talk.next()
        talk.ws.send("{not json")
        talk.ws.send(b"\x01\x02\x03")
        talk.send("nonsense")
        talk.ws.send("[" * 50_000)
        talk.frames(1)
        talk.ws.send(
            b"\x01\x01\x00\x00" + (1).to_bytes(4, "little") + (500_000).to_bytes(8, "little") + b"\xff\xd8\xffno jpeg"
        )
        talk.seq = 2
        talk.frames(1)
        told = talk.end()
    errors = [e["error"]["code"] for e in told if e["type"] == "error"]
    assert errors == ["invalid_json", "invalid_frame", "unknown_event", "invalid_json"]
    frames = [(e["seq"], e.get("reason", "scored")) for e in told if e["type"].startswith("input_frame.")]
    assert frames == [(0, "scored"), (1, "decode_error"), (2, "scored")]


def lose(talk: Talk) -> None:
    """As when the cable is pulled: no closing handshake."""
    talk.ws.socket.close()


def resume(served: Served, created: dict, last: str | None) -> Talk:
    talk = served.talk(resume=True)
    session = created["session"]
    talk.send(
        "session.resume", session_id=session["id"], resume_token=session["duet"]["resume_token"], last_event_id=last
    )
    return talk


def test_a_lost_client_gets_what_it_missed_once_and_the_stream_goes_on(served: Served) -> None:
    with served.talk() as whole:
        whole.next()
        whole.update(SPEAKING)
        whole.frames(12)
        expected = [e for e in whole.end() if e["type"] in ("input_frame.scored", "response.output_text.done")]
    talk = served.talk()
    created = talk.next()
    talk.update(SPEAKING)
    talk.frames(6)
    heard = [talk.next() for _ in range(4)]
    talk.send("session.heartbeat")
    lose(talk)
    again = resume(served, created, heard[-1]["event_id"])
    missed = again.until("session.resumed")
    assert missed[-1]["last_consumed_client_message_index"] in (6, 7)
    again.seq = missed[-1]["last_consumed_client_message_index"] - (
        missed[-1]["last_consumed_client_message_index"] == 7
    )
    again.frames(12 - again.seq)
    told = [*heard, *missed, *again.end()]
    ids = [e["event_id"] for e in told]
    assert ids == sorted(set(ids))
    found = [e for e in told if e["type"] in ("input_frame.scored", "response.output_text.done")]
    keys = ("type", "seq", "informative", "relevance", "decision", "text")
    for one, other in zip(found, expected, strict=True):
        for key in keys:
            assert one.get(key) == pytest.approx(other.get(key), abs=1e-5)


def test_a_resume_without_the_hint_in_the_url_works_too(served: Served) -> None:
    talk = served.talk()
    created = talk.next()
    talk.frames(2)
    talk.until("input_frame.scored")
    lose(talk)
    again = served.talk()
    provisional = again.next()["session"]["id"]
    again.send(
        "session.resume",
        session_id=created["session"]["id"],
        resume_token=created["session"]["duet"]["resume_token"],
        last_event_id=created["event_id"],
    )
    missed = again.until("session.resumed")
    assert next(e["seq"] for e in missed if e["type"] == "input_frame.scored") == 0
    assert missed[-1]["session_id"] != provisional
    wait_for(lambda: all(s.id != provisional for s in served.house.sessions))
    again.end()


def test_someone_elses_session_cannot_be_had(served: Served) -> None:
    with served.talk() as talk:
        created = talk.next()
        for name, token in (
            (created["session"]["id"], "wrong"),
            ("sess_0000000000000000", created["session"]["duet"]["resume_token"]),
        ):
            with served.talk(resume=True) as thief:
                thief.send("session.resume", session_id=name, resume_token=token)
                assert thief.next()["type"] == "session.expired"
                with pytest.raises(ConnectionClosed):
                    thief.next()
        talk.frames(1)
        assert talk.end()[-1]["frames"]["scored"] == 1


def test_a_second_socket_replaces_the_first(served: Served) -> None:
    first = served.talk()
    created = first.next()
    second = resume(served, created, created["event_id"])
    assert second.next()["type"] == "session.resumed"
    assert first.next()["type"] == "session.replaced"
    with pytest.raises(ConnectionClosed) as closed:
        first.next()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4001
    second.frames(2)
    told = second.end()
    assert told[-1]["frames"]["scored"] == 2


def test_events_that_are_no_longer_kept_are_told_of() -> None:
    with serving(log_events=16) as served:
        talk = served.talk()
        created = talk.next()
        last = created
        for _ in range(40):
            talk.send("session.heartbeat")
            last = talk.next()
        lose(talk)
        again = resume(served, created, created["event_id"])
        told = again.until("session.resync_required")
        assert told[-1]["last_consumed_client_message_index"] == 39
        assert told[-2]["event_id"] == last["event_id"]


def test_a_session_that_nobody_comes_back_for_ends() -> None:
    with serving(time_to_live=0.3) as served:
        talk = served.talk()
        created = talk.next()
        lose(talk)
        wait_for(lambda: not served.house.sessions)
        assert served.house.budget.used == 0
        again = resume(served, created, None)
        assert again.next()["type"] == "session.expired"


def test_a_client_that_says_nothing_is_closed() -> None:
    with serving(idle_timeout=0.3) as served, served.talk() as talk:
        talk.next()
        assert talk.next(timeout=5)["reason"] == "idle"


def test_full_is_told_at_the_door_and_a_place_that_is_left_is_free_again() -> None:
    with serving(max_sessions=1) as served:
        with served.talk() as talk:
            talk.next()
            with pytest.raises(InvalidStatus) as full:
                served.talk()
            assert full.value.response.status_code == 503
            assert "Retry-After" in full.value.response.headers
            assert json.loads(full.value.response.body)["error"]["code"] == "no_capacity"
        wait_for(lambda: not served.house.sessions)
        with served.talk() as talk:
            assert talk.next()["type"] == "session.created"


def test_a_lost_client_comes_back_to_a_full_house() -> None:
    with serving(max_sessions=1) as served:
        talk = served.talk()
        created = talk.next()
        lose(talk)
        again = resume(served, created, created["event_id"])
        assert again.next()["type"] == "session.resumed"


def test_memory_is_set_aside_and_a_larger_window_needs_its_room() -> None:
    with serving(kv_memory_mb=3) as served, served.talk() as one:
        one.next()
        with pytest.raises(InvalidStatus):
            served.talk()
        one.update({"window": 8})
        assert one.next()["type"] == "session.updated"
        held = served.house.budget.used
        with served.talk() as other:
            other.next()
            one.update({"window": None})
            assert one.next()["error"]["code"] == "no_capacity"
            one.update({"window": 100_000})
            assert one.next()["error"]["code"] == "invalid_value"  # beyond the model's positions
        wait_for(lambda: served.house.budget.used == held)
        one.frames(1)
        assert one.end()[-1]["frames"]["scored"] == 1


def test_another_model_is_not_here(served: Served) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(served.url(model="gpt"), legacy=True)
    assert refused.value.response.status_code == 400
    assert "tiny" in json.loads(refused.value.response.body)["error"]["message"]


def test_cancel_stops_the_reply_that_is_being_written() -> None:
    with serving(endless_model()) as served, served.talk() as talk:
        talk.next()
        talk.update({"window": None}, max_output_tokens=3000, instructions="x")
        talk.ask("Tell.")
        talk.send("response.create")
        created = talk.next("response.created")
        talk.next("response.output_text.delta")
        talk.send("response.cancel", response_id=created["response"]["id"])
        done = talk.next("response.done")["response"]
        assert done["status"] == "cancelled"
        assert 0 < done["usage"]["output_tokens"] < 3000


def test_who_was_lost_at_the_end_can_still_hear_it(served: Served) -> None:
    talk = served.talk()
    created = talk.next()
    talk.update({"speak": {"policy": "never"}})
    talk.frames(3)
    talk.send("input_frame.end")
    lose(talk)
    wait_for(lambda: all(session.id != created["session"]["id"] for session in served.house.sessions))
    again = resume(served, created, created["event_id"])
    told = again.until("session.closed")
    assert [e["seq"] for e in told if e["type"] == "input_frame.scored"] == [0, 1, 2]
    wait_for(lambda: again.ws.close_code == 1000 or not again.ws.recv(timeout=5))
    gone = resume(served, created, None)
    assert gone.next()["type"] == "session.expired"


@pytest.mark.parametrize(
    ("duet", "fields"),
    [({"adapter": "none"}, {}), ({}, {"instructions": "<|im_start|>"}), ({"window": 4}, {"instructions": "x" * 5000})],
)
def test_what_would_end_the_session_later_is_refused_now(served: Served, duet: dict, fields: dict) -> None:
    with served.talk() as talk:
        talk.next()
        talk.update(duet, **fields)
        assert talk.next()["type"] == "error"
        talk.frames(1)
        assert talk.end()[-1]["reason"] == "ended"


def test_settings_after_the_end_are_refused_and_the_end_comes() -> None:
    with serving(endless_model()) as served, served.talk() as talk:
        talk.next()
        talk.update({"window": None}, max_output_tokens=100, instructions="x")
        talk.ask("Tell.")
        talk.send("response.create")
        talk.send("input_frame.end")
        talk.update({"speak": {"value": 0.1}})
        told = talk.until("session.closed")
    assert [e["error"]["code"] for e in told if e["type"] == "error"] == ["session_ended"]
    assert told[-1]["reason"] == "ended"


def test_an_engine_that_dies_is_told_once_and_lets_nobody_in() -> None:
    with serving() as served, served.talk() as talk:
        talk.next()
        talk.frames(1)
        talk.until("input_frame.scored")

        def broken(jobs: object) -> None:
            raise RuntimeError("the device fell off")

        served.house.room.engine._runner.run = broken  # type: ignore[method-assign,assignment]
        talk.frames(1)
        told = talk.until("session.closed")
        assert [e["type"] for e in told].count("error") == 1
        assert told[-1]["reason"] == "failed"
        assert httpx2.get(f"{served.http}/ready").status_code == 503
        assert httpx2.get(f"{served.http}/health").status_code == 500
        with pytest.raises(InvalidStatus):
            served.talk()


def test_a_session_chooses_its_adapter_by_name(tmp_path: Path) -> None:
    base = save_checkpoint(tmp_path / "base", lively_model().network, lively_model().tokenizer)
    folders = {name: write_adapter(tmp_path / name, seed) for seed, name in enumerate(("cook", "sport"))}
    with serving(load_model(str(base), adapters=folders), adapters=folders) as served:
        told = {}
        for name in (None, "cook", "sport"):
            with served.talk() as talk:
                assert talk.next()["session"]["duet"]["limits"]["adapters"] == ["cook", "sport"]
                talk.update({"fps": None, "adapter": name, "speak": {"policy": "never"}})
                talk.frames(2)
                told[name] = [e["informative"] for e in talk.end() if e["type"] == "input_frame.scored"]
        assert len({tuple(scores) for scores in told.values()}) == 3
        with served.talk() as talk:
            talk.next()
            talk.update({"adapter": "law"})
            assert "'law'" in talk.next("error")["error"]["message"]


def write_adapter(root: Path, seed: int) -> Path:
    """LoRA on the first query projection."""
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
