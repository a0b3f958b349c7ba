"""Transitions of a session between steps: frame scored, token sampled, reply finished, stream ended. No device."""

from __future__ import annotations

from mmduet.engine.defaults import REPLY_OVERHEAD_TOKENS
from mmduet.engine.policy import decide
from mmduet.engine.repeat_filter import RepeatFilter
from mmduet.engine.session import ReplyState, Session, WorkItem
from mmduet.engine.window import ensure_capacity
from mmduet.errors import CapacityError, MmduetError
from mmduet.events import (
    OUT_OF_DOMAIN,
    FinishReason,
    Frame,
    Reply,
    ReplyDelta,
    ReplyStarted,
    Scores,
    SessionFailed,
    SessionWarning,
    StreamEnded,
)
from mmduet.model.tokenizer import TextStream
from mmduet.video.domain import DomainCheck


def before_step(session: Session) -> None:
    """Begin a requested reply, or end a stream that has nothing left to do. Call it before each step."""
    if session.closed or session.reply:
        return
    if session.ending and not session.inbox:
        session.read_late_turns()
    elif session.can_speak_now:
        session.begin()
        session.read_turns(session.latest_frame.time)
    if session.pending and (session.can_speak_now or session.ending):
        return  # these tokens must be fed before the mark of the reply is taken
    if session.can_speak_now:
        _begin_reply(session, session.latest_frame)
    elif session.ending and not session.inbox:
        _end(session)


def on_frame_scored(session: Session, work: WorkItem, informative: float, relevance: float) -> None:
    """Emit the scores of a frame, decide by the policy, and begin a reply if it fires."""
    frame = work.frame
    assert frame is not None
    session.last_frame, session.frame_count = frame, session.frame_count + 1
    scores = Scores(frame.index, frame.time, informative, relevance)
    fires = False
    if session.has_query or session.options.speak.speak_before_query:
        session.policy, fires = decide(session.options.speak, session.policy, scores)
    speak = fires or session.forced
    session.outbox.append(Scores(frame.index, frame.time, informative, relevance, speak))
    _check_domain(session, work, frame.time)
    if speak:
        _begin_reply(session, frame)


def _check_domain(session: Session, work: WorkItem, time: float) -> None:
    """Emit a warning once the frames turn out to be footage of a kind that the model does not know."""
    prepared, check = work.spans[-1].frame, session.domain_check
    colours = prepared.colours if prepared is not None else None
    if check is not None and colours is not None and check.add(colours, time):
        _warn_out_of_domain(session, check, time)


def _warn_out_of_domain(session: Session, check: DomainCheck, time: float) -> None:
    session.outbox.append(SessionWarning(OUT_OF_DOMAIN, check.message, time))


def _begin_reply(session: Session, frame: Frame) -> None:
    forced, session.forced = session.forced, False
    may_repeat, session.suppress_repeats = forced and not (session.suppress_repeats or session.replied_at_end), False
    decode = session.options.decode
    try:
        ensure_capacity(session, decode.max_new_tokens + REPLY_OVERHEAD_TOKENS)
    except CapacityError as error:
        fail(session, error)
        return
    session.reply = ReplyState(
        number=session.reply_count,
        frame=frame,
        forced=forced,
        mark=session.slot.mark(),
        context_tokens=session.slot.length,
        sampler=session.sampler_factory(decode, session.reply_count, frozenset(session.reply_tokens)),
        stream=TextStream(session.tokenizer),
        repeats=RepeatFilter(() if may_repeat else session.recent_texts(frame.time)),
    )
    session.reply_count += 1
    session.queue(session.feed.begin_reply())


def on_token(session: Session, token: int) -> None:
    """Add the sampled token to the reply, emit its text, and continue or finish the reply."""
    reply = session.reply
    assert reply is not None
    if reply.cancelled:
        return _finish(session, reply, "cancelled", [])
    if token == session.tokenizer.end_id:
        return _finish(session, reply, "stop", [])
    if not session.take_token():
        return _finish(session, reply, "length", [])
    reply.tokens += 1
    if session.options.profile == "paper":
        session.reply_tokens.add(token)  # Q15
    _emit_text(session, reply, reply.repeats.push(reply.stream.push(token)))
    if reply.tokens >= session.options.decode.max_new_tokens:
        return _finish(session, reply, "length", [token])
    session.queue_ids([token])
    return None


def _emit_text(session: Session, reply: ReplyState, text: str) -> None:
    if not text:
        return
    if not reply.started:
        session.outbox.append(ReplyStarted(reply.number, reply.frame.index, reply.frame.time, reply.forced))
        reply.started = True
    session.outbox.append(ReplyDelta(reply.number, text))


def _finish(session: Session, reply: ReplyState, reason: FinishReason, unfed: list[int]) -> None:
    """Emit the reply unless it repeats a recent one, then roll it back or close its turn."""
    _emit_text(session, reply, reply.repeats.push(reply.stream.flush()))
    rest, repeated = reply.repeats.finish()
    _emit_text(session, reply, rest)
    if not repeated or reply.started:
        _emit_reply(session, reply, reason)
    session.reply = None
    if session.options.keep_replies:
        session.unfed = unfed
        session.queue(session.feed.end_reply(removed=False, cut=reason == "length"))
    else:
        session.pending.clear()
        session.slot.rollback(reply.mark)
        session.feed.end_reply(removed=True, cut=reason == "length")


def _emit_reply(session: Session, reply: ReplyState, reason: FinishReason) -> None:
    frame, text = reply.frame, session.feed.clean_reply(reply.stream.text)
    if not reply.started:  # a reply without text
        session.outbox.append(ReplyStarted(reply.number, frame.index, frame.time, reply.forced))
    session.outbox.append(
        Reply(reply.number, frame.index, frame.time, text, reply.tokens, reason, reply.forced, reply.context_tokens)
    )
    session.recent_replies.append((frame.time, text))


def _end(session: Session) -> None:
    """End the stream after its last frame, with one more reply before if ``at_end`` is set."""
    if (
        session.options.speak.at_end
        and session.has_query
        and not session.replied_at_end
        and session.last_frame is not None
    ):
        session.replied_at_end = session.forced = True
        _begin_reply(session, session.last_frame)
        return
    duration = session.last_frame.time if session.last_frame is not None else 0.0
    if session.domain_check is not None and session.domain_check.finish():
        _warn_out_of_domain(session, session.domain_check, duration)
    session.outbox.append(StreamEnded(session.frame_count, duration))
    session.closed = True


def fail(session: Session, error: MmduetError) -> None:
    """End the session with an error. Other sessions are not affected."""
    session.outbox.append(SessionFailed(error.code, str(error), error.exit_status))
    session.reply = None
    session.closed = True
