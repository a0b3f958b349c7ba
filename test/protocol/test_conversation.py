"""A conversation, message by message, with a scripted engine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from wire_partner import PNG, Echo, conversation, events, frame, kinds, message, query, update

from mmduet.errors import CapacityError
from mmduet.events import Reply, ReplyDelta, ReplyStarted, SessionFailed
from mmduet.protocol.frames import EncodedImage, ImageFormat, pack_frame, to_data_url
from mmduet.protocol.session import commands
from mmduet.protocol.session.limits import ProtocolAbuse
from mmduet.protocol.session.settings import SessionSettings

GARBAGE = [
    ("{", "invalid_json", None),
    ("", "invalid_json", None),
    ("[" * 100_000, "invalid_json", None),
    ("[]", "invalid_value", None),
    ("{}", "missing_parameter", "type"),
    (message("nope"), "unknown_event", "type"),
    (message("session.update"), "missing_parameter", "session"),
    (message("session.update", session={}), "missing_parameter", "session.type"),
    (update({"fbs": 4}), "unknown_parameter", "session.duet.fbs"),
    (update({"speak": {"polcy": "sum"}}), "unknown_parameter", "session.duet.speak.polcy"),
    (update({"fps": 0}), "invalid_value", "session.duet.fps"),
    (update({"fps": "4"}), "invalid_value", "session.duet.fps"),
    (update({"fps": float("nan")}), "invalid_value", "session.duet.fps"),
    (update({"fps": 1}).replace("1}", "1e999}"), "invalid_value", "session.duet.fps"),
    (update({"window": 1}).replace("1}", "1" * 5000 + "}"), "invalid_json", None),
    (update({"window": 0}), "invalid_value", "session.duet.window"),
    (update({"window": True}), "invalid_value", "session.duet.window"),
    (update({"speak": {"value": -1}}), "invalid_value", "session.duet.speak.value"),
    (update({"speak": {"heads": []}}), "invalid_value", "session.duet.speak.heads"),
    (update(model="another"), "invalid_value", "session.model"),
    (update(output_modalities=["audio"]), "invalid_value", "session.output_modalities.0"),
    (update(tools=[{"type": "function"}]), "unsupported_parameter", "session.tools"),
    (update(audio={"output": {}}), "unsupported_parameter", "session.audio"),
    (update(voice="alloy"), "unknown_parameter", "session.voice"),
    (query(""), "invalid_value", "item.content.0.text"),
    (query("<|im_end|>"), "invalid_value", "item.content"),
    (query("x" * 32_769), "invalid_value", "item.content.0.text"),
    (query("hi", role="assistant"), "invalid_value", "item.role"),
    (query("", content=[]), "invalid_value", "item.content"),
    (message("conversation.item.create", item={"type": "function_call"}), "invalid_value", "item.type"),
    (message("input_frame.append", pts=-1, image=""), "invalid_value", "pts"),
    (message("input_frame.append", pts=2**53, image=""), "invalid_value", "pts"),
    (message("input_frame.append", pts=0, image="!"), "invalid_value", "image"),
    (message("input_frame.append", pts=0, image="aGVsbG8="), "invalid_value", "image"),
    (message("input_frame.append", pts=0, image="data:text/html;base64,aGVsbG8="), "invalid_value", "image"),
    (message("response.cancel"), "response_cancel_not_active", None),
    (message("session.resume", session_id="s", resume_token="t"), "not_first", None),
    (b"", "invalid_frame", None),
    (b"\x01\x02", "invalid_frame", None),
    (b"\x02" + frame(0, 0)[1:], "invalid_frame", None),
    (b"\x01\x09" + frame(0, 0)[2:], "invalid_frame", None),
    (frame(0, 0)[:16], "invalid_frame", None),
    (frame(0, 2**60), "invalid_frame", None),
    (pack_frame(0, 0, EncodedImage(ImageFormat.RAW, b"abc", 2, 1)), "invalid_frame", None),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "code", "param"), GARBAGE, ids=lambda value: str(value)[:60])
def test_invalid_message_is_reported_and_session_continues(bad: str | bytes, code: str, param: str | None) -> None:
    talk = conversation()
    talk.receive(bad, 0.0)
    (reported,) = events(talk)
    assert (reported["type"], reported["error"]["code"], reported["error"]["param"]) == ("error", code, param)
    assert len(reported["error"]["message"]) < 400
    talk.receive(frame(0, 0), 0.0)
    Echo(talk).run()
    assert kinds(talk)[1:] == ["input_frame.scored"]


def test_error_repeats_the_event_id() -> None:
    talk = conversation()
    talk.receive(
        json.dumps({"type": "session.update", "event_id": "mine", "session": {"type": "realtime", "x": 1}}), 0.0
    )
    talk.receive(json.dumps({"type": "response.cancel", "event_id": "too"}), 0.0)
    talk.receive(json.dumps({**json.loads(query("<|im_start|>")), "event_id": "three"}), 0.0)
    assert [event["error"]["event_id"] for event in events(talk)] == ["mine", "too", "three"]


def test_update_changes_only_given_settings() -> None:
    talk = conversation(fps=2.0)
    talk.receive(update({"fps": 5, "window": None, "speak": {"policy": "sum", "value": 2}}, instructions="Look."), 0.0)
    (reported,) = events(talk)
    session = reported["session"]
    assert reported["type"] == "session.updated"
    assert (session["instructions"], session["duet"]["fps"], session["duet"]["window"]) == ("Look.", 5, None)
    assert session["duet"]["speak"]["policy"] == "sum"
    assert session["duet"]["speak"]["heads"] == ["informative"]
    assert talk.settings.options.window is None
    talk.receive(update({"speak": {"min_interval": 3.0}}), 0.0)
    assert talk.settings.options.speak.policy == "sum"
    assert talk.settings.options.speak.min_interval == 3.0


def test_unknown_parameters_that_are_null_are_ignored() -> None:
    talk = conversation(fps=2.0)
    talk.receive(update({"fps": 5, "speak": {"value": 0.5, "voice": None}, "top_k": None}, voice=None), 0.0)
    assert [event["type"] for event in events(talk)] == ["session.updated"]
    assert talk.settings.options.speak.value == 0.5


def test_settings_fixed_by_first_input_are_rejected_afterwards() -> None:
    talk = conversation(fps=2.0)
    talk.receive(frame(0, 0), 0.0)
    for duet, fields in (
        ({"window": 9}, {}),
        ({"profile": "paper"}, {}),
        ({"keep_replies": True}, {}),
        (None, {"instructions": "x"}),
    ):
        talk.receive(update(duet, **fields), 0.0)
        assert events(talk)[-1]["error"]["code"] == "invalid_value"
        assert "first input" in events(talk)[-1]["error"]["message"]
    talk.receive(update({"window": 4, "fps": 4, "speak": {"value": 0.9}}), 0.0)
    assert kinds(talk)[-1] == "session.updated"
    assert isinstance(talk.next_command(), commands.ScoreFrame)
    assert talk.next_command() == commands.UpdatePolicy(talk.settings.options.speak)


def test_turns_keep_their_position_among_frames() -> None:
    talk = conversation()
    for one in (frame(0, 0), query("What?"), frame(1, 500_000), query("a line", role="system")):
        talk.receive(one, 0.0)
    order = [type(talk.next_command()).__name__ for _ in range(4)]
    assert order == ["ScoreFrame", "AppendTurn", "ScoreFrame", "AppendTurn"]


def test_items_are_reported_when_accepted_and_when_read() -> None:
    talk = conversation()
    talk.receive(query("What?", id="mine"), 0.0)
    assert [(e["type"], e["item"]["id"]) for e in events(talk)] == [("conversation.item.added", "mine")]
    Echo(talk).run()
    done = events(talk)[-1]
    assert (done["type"], done["item"]["id"]) == ("conversation.item.done", "mine")
    assert done["item"]["content"] == [{"type": "input_text", "text": "What?"}]


def test_image_in_a_turn_becomes_a_frame_before_its_text() -> None:
    talk = conversation(fps=4.0)
    talk.receive(frame(7, 1_000_000), 0.0)
    still = {"type": "input_image", "image_url": to_data_url(EncodedImage(ImageFormat.PNG, PNG))}
    item = {"type": "message", "role": "user", "content": [still, {"type": "input_text", "text": "What is it?"}]}
    talk.receive(message("conversation.item.create", item=item), 0.0)
    first, second, turn = talk.next_command(), talk.next_command(), talk.next_command()
    assert isinstance(first, commands.ScoreFrame)
    assert isinstance(second, commands.ScoreFrame)
    assert second.time == 0.25
    assert isinstance(turn, commands.AppendTurn)
    assert "base64" not in json.dumps(events(talk))


def test_reply_is_emitted_as_realtime_events() -> None:
    talk = conversation()
    talk.receive(frame(3, 250_000), 10.0)
    Echo(talk, speaks_at=frozenset({0})).run(now=10.5)
    assert kinds(talk) == [
        "input_frame.scored",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    reported = {event["type"]: event for event in events(talk)}
    scored, done = reported["input_frame.scored"], reported["response.done"]["response"]
    assert (scored["seq"], scored["pts"], scored["decision"], scored["age_ms"]) == (3, 250_000, "speak", 500.0)
    assert done["status"] == "completed"
    assert done["output"][0]["content"] == [{"type": "output_text", "text": "seen"}]
    assert done["usage"] == {"input_tokens": 7, "output_tokens": 1, "total_tokens": 8}
    assert done["duet"] == {
        "trigger_seq": 3, "trigger_pts": 250_000, "informative": 0.25, "relevance": 0.5, "forced": False,
        "timing": {"first_delta_ms": 500.0, "done_ms": 500.0},
    }  # fmt: skip


def test_reply_can_be_requested_before_any_frame() -> None:
    talk = conversation()
    talk.receive(query("Hello?"), 0.0)
    talk.receive(message("response.create", response={"metadata": {"mine": "1"}}), 0.0)
    talk.receive(message("response.create"), 0.0)
    assert events(talk)[-1]["error"]["code"] == "conversation_already_has_active_response"
    Echo(talk).run()
    done = events(talk)[-1]["response"]
    assert done["metadata"] == {"mine": "1"}
    assert done["duet"]["forced"]
    assert done["duet"]["trigger_seq"] is None


@pytest.mark.parametrize(("finish", "status"), [("length", "incomplete"), ("cancelled", "cancelled")])
def test_unfinished_reply_reports_its_reason(finish: Any, status: str) -> None:
    talk = conversation()
    talk.on_output(ReplyStarted(0, -1, 0.0), 0.0)
    talk.on_output(ReplyDelta(0, "a gre"), 0.0)
    talk.on_output(Reply(0, -1, 0.0, "a gre", 2, finish), 0.0)
    done = events(talk)[-1]["response"]
    assert done["status"] == status
    assert done["status_details"]["reason"]


def test_cancel_overtakes_queued_commands() -> None:
    talk = conversation()
    talk.on_output(ReplyStarted(5, -1, 0.0), 0.0)
    talk.receive(frame(0, 0), 0.0)
    talk.receive(message("response.cancel", response_id="resp_s_1"), 0.0)
    assert events(talk)[-1]["error"]["code"] == "response_cancel_not_active"
    talk.receive(message("response.cancel", response_id="resp_s_0"), 0.0)
    assert talk.next_command() == commands.CancelReply(5)


def test_queue_of_queries_is_bounded() -> None:
    talk = conversation(max_waiting_turns=64, burst=20_000)
    for number in range(10_000):
        talk.receive(query(f"question {number}"), 0.0)
    waiting = 0
    while talk.next_command() is not None:
        waiting += 1
    assert waiting == 64
    assert events(talk)[-1]["error"]["code"] == "too_many_waiting"
    assert len(talk.unread_turns) == 64


def test_message_rate_is_limited_after_a_burst() -> None:
    talk = conversation(messages_per_second=10.0, burst=20)
    for _ in range(20):
        talk.receive(message("session.heartbeat"), 100.0)
    talk.receive(message("session.heartbeat"), 100.2)
    talk.receive(message("session.heartbeat"), 100.2)
    with pytest.raises(ProtocolAbuse, match="10 messages per second") as caught:
        talk.receive(message("session.heartbeat"), 100.2)
    assert caught.value.code == 1008


def test_heartbeat_reports_consumed_messages() -> None:
    talk = conversation()
    for one in (frame(0, 0), "garbage", message("session.heartbeat")):
        talk.receive(one, 0.0)
    assert events(talk)[-1]["last_consumed_client_message_index"] == 2


def test_end_follows_pending_input_and_rejects_more() -> None:
    talk = conversation()
    talk.receive(frame(0, 0), 0.0)
    talk.receive(message("input_frame.end"), 0.0)
    talk.receive(frame(1, 500_000), 0.0)
    talk.receive(query("late"), 0.0)
    assert [e["error"]["code"] for e in events(talk)] == ["session_ended"] * 2
    Echo(talk).run()
    closed = events(talk)[-1]
    assert closed["type"] == "session.closed"
    assert (closed["reason"], closed["frames"]) == ("ended", {"received": 1, "scored": 1})


def test_failed_session_finishes_every_frame_before_closing() -> None:
    talk = conversation()
    for place in range(3):
        talk.receive(frame(place, place * 500_000), 0.0)
    Echo(talk).step()
    talk.on_output(SessionFailed("no_capacity", "full", 7), 0.0)
    assert kinds(talk) == [
        "input_frame.scored",
        "error",
        "input_frame.dropped",
        "input_frame.dropped",
        "session.closed",
    ]
    assert events(talk)[1]["error"]["type"] == "server_error"
    assert {e["reason"] for e in events(talk)[2:4]} == {"closed"}


def test_scores_and_acks_can_be_disabled() -> None:
    talk = conversation()
    talk.receive(update({"scores": False}), 0.0)
    talk.receive(frame(0, 0), 0.0)
    Echo(talk).run()
    assert (events(talk)[-1]["informative"], events(talk)[-1]["decision"]) == (None, "listen")
    talk.receive(update({"ack": False}), 0.0)
    talk.receive(frame(1, 1), 0.0)
    talk.receive(frame(2, 2), 0.0)
    Echo(talk, speaks_at=frozenset({2})).run()
    assert [e["seq"] for e in events(talk) if e["type"] == "input_frame.scored"] == [0, 2]


def test_settings_that_are_not_admitted_change_nothing() -> None:
    def admit(settings: SessionSettings) -> None:
        if settings.options.window is None:
            raise CapacityError("no capacity for that")

    talk = conversation(admit=admit)
    talk.receive(update({"window": None, "fps": 3}), 0.0)
    assert events(talk)[-1]["error"]["code"] == "no_capacity"
    assert talk.settings == conversation().settings
    talk.receive(update({"fps": 3}), 0.0)
    assert kinds(talk)[-1] == "session.updated"


def test_commands_after_frames_wait_until_frames_are_scored() -> None:
    talk = conversation()
    for place in range(3):
        talk.receive(frame(place, place), 0.0)
    talk.receive(query("What?"), 0.0)
    assert isinstance(talk.next_command(frames_in_flight=0), commands.ScoreFrame)
    assert isinstance(talk.next_command(frames_in_flight=1), commands.ScoreFrame)
    assert talk.next_command(frames_in_flight=2) is None
    assert isinstance(talk.next_command(frames_in_flight=1), commands.ScoreFrame)
    assert talk.next_command(frames_in_flight=1) is None
    talk.on_output(ReplyStarted(0, -1, 0.0), 0.0)
    talk.receive(message("response.cancel"), 0.0)
    assert talk.next_command(frames_in_flight=2) == commands.CancelReply(0)
    assert isinstance(talk.next_command(frames_in_flight=0), commands.AppendTurn)


def test_neutral_parameters_of_the_realtime_api_change_nothing() -> None:
    talk = conversation()
    before = talk.settings
    neutral: dict[str, Any] = {
        "audio": None, "include": [], "instructions": None, "max_output_tokens": "inf", "model": None,
        "output_modalities": None, "parallel_tool_calls": True, "prompt": None, "reasoning": None, "tool_choice": "auto",
        "tools": [], "tracing": "auto", "truncation": "auto",
    }  # fmt: skip
    talk.receive(update(**neutral), 0.0)
    assert kinds(talk) == ["session.updated"]
    assert talk.settings == before


def test_null_means_the_default_in_every_event() -> None:
    talk = conversation()
    before = talk.settings
    text = {"type": "input_text", "text": "What?", "audio": None, "image_url": None, "transcript": None, "detail": None}
    image = {
        "type": "input_image",
        "image_url": to_data_url(EncodedImage(ImageFormat.PNG, PNG)),
        "detail": None,
        "text": None,
    }
    item = {"type": "message", "role": "user", "content": [text], "duet": None, "id": None, "status": None}
    talk.receive(update(duet=None), 0.0)
    talk.receive(update({"speak": None, "profile": None}), 0.0)
    talk.receive(message("conversation.item.create", item=item | {"duet": {"keep": None, "pts": None}}), 0.0)
    talk.receive(message("conversation.item.create", item=item | {"content": [text, image]}), 0.0)
    talk.receive(message("input_source.open", url="http://host/x", transport=None), 0.0)
    talk.receive(message("response.create", response=None), 0.0)
    assert "error" not in kinds(talk)
    assert talk.settings == before


def test_neutral_options_of_a_reply_change_nothing_and_others_are_rejected_by_name() -> None:
    talk = conversation()
    neutral = {
        "audio": None, "conversation": "auto", "input": None, "instructions": None, "max_output_tokens": "inf",
        "metadata": None, "output_modalities": ["text"], "parallel_tool_calls": True, "prompt": None, "reasoning": None,
        "tool_choice": "auto", "tools": [],
    }  # fmt: skip
    talk.receive(message("response.create", response=neutral), 0.0)
    assert "error" not in kinds(talk)
    rejected = {"instructions": "Be short.", "max_output_tokens": 5, "input": [], "tools": [{"name": "x"}]}
    for name, value in rejected.items():
        talk = conversation()
        talk.receive(message("response.create", response={name: value}), 0.0)
        (error,) = events(talk)
        assert (error["error"]["code"], error["error"]["param"]) == ("unsupported_parameter", f"response.{name}")


LONG = "a very long value " * 1000


@pytest.mark.parametrize(
    "invalid",
    [
        message(LONG),
        message("session.update", session={"type": "realtime", LONG: 1}),
        update(model=LONG),
        update(tools=LONG),
        update({"profile": LONG}),
        query(LONG * 2),
        query("<|im_end|>" + LONG),
        query("", content=[{"type": LONG}]),
        message("input_frame.append", pts=0, image=LONG),
        message("input_frame.append", pts=0, image="data:" + LONG),
        message("input_source.open", url=LONG),
    ],
)
def test_an_error_repeats_at_most_120_characters_of_input(invalid: str) -> None:
    talk = conversation()
    talk.receive(invalid, 0.0)
    (error,) = events(talk)
    text = json.dumps(error)
    assert error["type"] == "error"
    assert LONG[:121] not in text
    assert len(text) < 1000


def test_a_setting_that_is_fixed_is_not_repeated_whole() -> None:
    talk = conversation()
    talk.receive(query("Hello?"), 0.0)
    talk.receive(update(instructions=LONG), 0.0)
    (error,) = [event for event in events(talk) if event["type"] == "error"]
    assert "it is fixed by the first input" in error["error"]["message"]
    assert LONG[:121] not in json.dumps(error)


@pytest.mark.parametrize(
    "text",
    [
        to_data_url(EncodedImage(ImageFormat.PNG, PNG)).replace("data:image/png;base64", "DATA:Image/PNG;BASE64"),
        to_data_url(EncodedImage(ImageFormat.PNG, PNG)).replace(",", ", ") + "\n",
        "\n".join(to_data_url(EncodedImage(ImageFormat.PNG, PNG)).partition(",")[2]),
        to_data_url(EncodedImage(ImageFormat.PNG, PNG)).replace("+", "%2B").replace("=", ""),
    ],
)
def test_images_are_read_with_white_space_and_in_any_case(text: str) -> None:
    talk = conversation()
    talk.receive(message("input_frame.append", pts=0, image=text), 0.0)
    command = talk.next_command()
    assert isinstance(command, commands.ScoreFrame)
    assert command.image == EncodedImage(ImageFormat.PNG, PNG)


def test_an_update_of_the_source_overtakes_everything_but_its_opening() -> None:
    talk = conversation()
    talk.receive(frame(0, 0), 0.0)
    talk.receive(query("Hello?"), 0.0)
    talk.receive(message("input_source.update", paused=True), 0.0)
    assert talk.next_command(2) == commands.UpdateSource(paused=True)
    talk.receive(message("input_source.open", url="x", speed=2, event_id="e"), 0.0)
    talk.receive(message("input_source.update", speed=None), 0.0)
    talk.receive(message("input_source.update", speed=3), 0.0)
    talk.receive(message("response.create"), 0.0)
    found = [talk.next_command() for _ in range(6)]
    assert [type(command) for command in found[:2]] == [commands.ScoreFrame, commands.AppendTurn]
    assert found[2:] == [
        commands.OpenSource("x", "tcp", 2.0, "e"),
        commands.UpdateSource(sets_speed=True),
        commands.UpdateSource(speed=3.0, sets_speed=True),
        commands.SpeakNow(),
    ]
