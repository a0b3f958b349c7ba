"""What happens to a session between steps: a frame was scored, a token is due, a reply ends, the stream ends; no device."""

from __future__ import annotations

from torch import Tensor

from mmduet.engine.decoding import RepeatFilter
from mmduet.engine.defaults import REPLY_HEADER
from mmduet.engine.policy import decide
from mmduet.engine.session import ReplyState, Session, WorkItem
from mmduet.engine.window import ensure_capacity
from mmduet.errors import CapacityError, MmduetError
from mmduet.events import FinishReason, Frame, Reply, ReplyDelta, ReplyStarted, Scores, SessionFailed, StreamEnded
from mmduet.model.tokenizer import TextStream


def before_step(session: Session) -> None:
    """Before a step: begin a reply that was asked for, or end a stream that has nothing left."""
    if session.closed or session.reply:
        return
    if session.ending and not session.inbox:
        session.read_late_turns()
    elif session.can_speak_now:
        session.begin()
        session.read_turns(session.latest_frame.time)
    if session.pending and (session.can_speak_now or session.ending):
        return  # what is read must be fed before the reply's mark is taken
    if session.can_speak_now:
        _begin_reply(session, session.latest_frame)
    elif session.ending and not session.inbox:
        _end(session)


def on_frame_scored(session: Session, work: WorkItem, informative: float, relevance: float) -> None:
    """A frame was scored: decide, tell it, and begin to reply."""
    frame = work.frame
    assert frame is not None
    session.last_frame, session.frame_count = frame, session.frame_count + 1
    scores = Scores(frame.index, frame.time, informative, relevance)
    fires = False
    if session.has_query or session.options.speak.speak_before_query:
        session.policy, fires = decide(session.options.speak, session.policy, scores)
    speak = fires or session.forced
    session.outbox.append(Scores(frame.index, frame.time, informative, relevance, speak))
    if speak:
        _begin_reply(session, frame)


def _begin_reply(session: Session, frame: Frame) -> None:
    forced, session.forced = session.forced, False
    decode = session.options.decode
    try:
        ensure_capacity(session, decode.max_new_tokens + REPLY_HEADER)
    except CapacityError as error:
        fail(session, error)
        return
    session.reply = ReplyState(
        number=session.reply_count,
        frame=frame,
        forced=forced,
        mark=session.slot.mark(),
        context=session.slot.length,
        sampler=session.sampler_factory(decode, session.reply_count),
        stream=TextStream(session.tokenizer),
        repeats=RepeatFilter(session.recent_texts(frame.time) if not forced or session.spoke_at_end else ()),
    )
    session.reply_count += 1
    session.queue(session.feed.begin_reply())


def on_token(session: Session, logits: Tensor) -> None:
    """A token of a reply is due: choose it, show its text, go on or finish."""
    speaking = session.reply
    assert speaking is not None
    if speaking.cancelled:
        return _finish(session, speaking, "cancelled", [])
    token = speaking.sampler.next(logits)
    if token == session.tokenizer.end_id:
        return _finish(session, speaking, "stop", [])
    speaking.tokens += 1
    _emit_text(session, speaking, speaking.repeats.push(speaking.stream.push(token)))
    if speaking.tokens >= session.options.decode.max_new_tokens:
        return _finish(session, speaking, "length", [token])
    session.queue_ids([token])
    return None


def _emit_text(session: Session, speaking: ReplyState, text: str) -> None:
    if not text:
        return
    if not speaking.shown:
        session.outbox.append(ReplyStarted(speaking.number, speaking.frame.index, speaking.frame.time, speaking.forced))
        speaking.shown = True
    session.outbox.append(ReplyDelta(speaking.number, text))


def _finish(session: Session, speaking: ReplyState, reason: FinishReason, unfed: list[int]) -> None:
    """Tell the reply, then roll back or close the turn. A repeat of what was just said is not told at all."""
    _emit_text(session, speaking, speaking.repeats.push(speaking.stream.flush()))
    rest, repeated = speaking.repeats.finish()
    _emit_text(session, speaking, rest)
    if not repeated or speaking.shown:
        _emit_reply(session, speaking, reason)
    session.reply = None
    if session.options.keep_replies:
        session.queue_ids(unfed)
        session.queue(session.feed.end_reply(removed=False, cut=reason == "length"))
    else:
        session.pending.clear()
        session.slot.rollback(speaking.mark)
        session.feed.end_reply(removed=True, cut=reason == "length")


def _emit_reply(session: Session, speaking: ReplyState, reason: FinishReason) -> None:
    frame, text = speaking.frame, session.feed.clean_reply(speaking.stream.text)
    if not speaking.shown:  # an empty reply is still a reply
        session.outbox.append(ReplyStarted(speaking.number, frame.index, frame.time, speaking.forced))
    session.outbox.append(
        Reply(
            speaking.number, frame.index, frame.time, text, speaking.tokens, reason, speaking.forced, speaking.context
        )
    )
    session.recent_replies.append((frame.time, text))


def _end(session: Session) -> None:
    """The last frame was scored: speak once more if asked to, else close."""
    if (
        session.options.speak.at_end
        and session.has_query
        and not session.spoke_at_end
        and session.last_frame is not None
    ):
        session.spoke_at_end = session.forced = True
        _begin_reply(session, session.last_frame)
        return
    duration = session.last_frame.time if session.last_frame is not None else 0.0
    session.outbox.append(StreamEnded(session.frame_count, duration))
    session.closed = True


def fail(session: Session, error: MmduetError) -> None:
    """End this session, and only this one."""
    session.outbox.append(SessionFailed(error.code, str(error), error.exit_status))
    session.reply = None
    session.closed = True
