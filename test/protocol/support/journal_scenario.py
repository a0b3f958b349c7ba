"""A fixed session, whose journal as an earlier version wrote it is committed as ``data/session.journal``."""

from __future__ import annotations

from wire_partner import frame, message, query, update

from mmduet.events import Context, ContextRead, Query, QueryRead, Reply, ReplyDelta, ReplyStarted, Scores
from mmduet.options import DecodeOptions, SessionOptions, SpeakOptions
from mmduet.protocol import server_events
from mmduet.protocol.session.conversation import Conversation
from mmduet.protocol.session.journal import MAGIC, JournalWriter, SessionOpened
from mmduet.protocol.session.limits import SessionLimits
from mmduet.protocol.session.settings import SessionSettings

SPEAK = SpeakOptions("sum", 2.5, ("informative", "relevance"), 1.5, 3.0, True, False)
OPTIONS = SessionOptions(SPEAK, DecodeOptions(64, 0.7, 0.9, 1.05, 7), True, "paper", 4, 256, "Watch.", None)


def write_journal() -> list[bytes]:
    """Return the journal of the session in pieces, one per batch; joined they are the file."""
    writer = JournalWriter(SessionOpened("s", "token", "owner", "nano 1"))
    settings = SessionSettings("nano", OPTIONS, 2.0, True, True)
    talk = Conversation("s", settings, SessionLimits(max_waiting_frames=3), journal=writer)
    batches: list[bytes] = []

    def commit() -> None:
        writer.state_changed(talk.state.to_json())
        batches.append(writer.take_batch())

    writer.write_session()
    commit()
    _send_turns_and_frames(talk)
    commit()
    _start_reply(talk)
    commit()
    _finish_reply(talk)
    commit()
    talk.on_output(ReplyStarted(1, 1, 0.25, True), 4.25)
    talk.on_output(ReplyDelta(1, "It"), 4.5)
    commit()
    talk.receive(query("And now?"), 4.75)
    talk.receive(frame(9, 4_000_000), 5.0)
    talk.receive(message("input_frame.end"), 5.25)
    commit()
    talk.close("idle", 6.0)
    commit()
    return [MAGIC + batches[0], *batches[1:]]


def _send_turns_and_frames(talk: Conversation) -> None:
    duet = {"fps": 4, "adapter": "warm", "speak": {"min_interval": 0.5}}
    talk.receive(update(duet, instructions="Look."), 0.5)
    talk.receive(query("What is it? é", id="mine", duet={"pts": 1000}), 1.0)
    talk.receive(query("a line", "system"), 1.25)
    talk.next_command()
    talk.next_command()
    talk.on_output(QueryRead(Query("What is it? é", 0.0), 0.0), 1.5)
    talk.on_output(ContextRead(Context("a line", 0.0), 0.0), 1.5)
    for seq in range(4):
        talk.receive(frame(seq, 1_000_000 + seq * 250_000), 2.0 + seq / 8)
        talk.next_command(0)


def _start_reply(talk: Conversation) -> None:
    talk.receive(frame(3, 5), 2.5)
    talk.receive(frame(4, 2_000_000), 2.5)
    talk.next_command(0)
    talk.receive(query("pinned", "system", duet={"keep": True}), 2.6)
    talk.on_output(Scores(0, 0.0, 0.125, 0.5, False), 3.0)
    talk.on_output(Scores(1, 0.25, 0.875, 1e-07, True), 3.25)
    talk.on_output(ReplyStarted(0, 1, 0.25, False), 3.25)
    talk.on_output(ReplyDelta(0, "A red"), 3.5)
    talk.on_output(ReplyDelta(0, " ball."), 3.5)


def _finish_reply(talk: Conversation) -> None:
    talk.on_output(Reply(0, 1, 0.25, "A red ball.", 4, "stop", False, 99), 3.75)
    talk.receive(message("input_source.open", url="rtsp://user:secret@camera/x"), 3.8)
    talk.receive(message("response.create", response={"metadata": {"mine": "1"}}), 4.0)
    talk.emit(server_events.HeartbeatAck(last_consumed_client_message_index=3), subscriber=1)
    talk.drop_frame(3, "decode_error", 4.1)
    talk.on_output(Scores(5, 1.0, 0.25, 0.75, False), 4.2)
