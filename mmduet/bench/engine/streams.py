"""Streams of one engine that always have frames queued, and a record of every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter

from mmduet.bench.engine.frames import FramePool, reply_indices
from mmduet.engine import Engine, Session
from mmduet.events import Output, Query, Reply, Scores, SessionFailed
from mmduet.options import SessionOptions


@dataclass(frozen=True)
class StepRecord:
    """One step: the streams in it, how many of them scored a frame, all new tokens, the tokens sampled, and its duration."""

    streams: int
    frames: int
    tokens: int
    sampled: int
    seconds: float

    @property
    def kind(self) -> str:
        """``frames`` or ``tokens`` if all streams did the same, else ``mixed``."""
        return "frames" if self.frames == self.streams else "mixed" if self.frames else "tokens"


@dataclass
class RoundRecord:
    """What the streams did in one round, and the wall time that it took in seconds."""

    seconds: float = 0.0
    frames: int = 0
    steps: list[StepRecord] = field(default_factory=list)
    first_token_seconds: list[float] = field(default_factory=list)  # from the step that scored the frame

    @property
    def frames_per_second(self) -> float:
        """Frames of all streams per second."""
        return self.frames / self.seconds

    @property
    def tokens_per_second(self) -> float:
        """Sampled tokens of all streams per second."""
        return sum(step.sampled for step in self.steps) / self.seconds


@dataclass(eq=False)
class _Stream:
    """One stream: its session, and its progress in the current round."""

    number: int
    session: Session
    next_index: int = 0  # of the next frame to be pushed
    scored: int = 0  # frames of this round
    pushed: int = 0  # frames of this round
    replies_after: frozenset[int] = frozenset()
    replying: int = 0  # replies that have been requested and not finished
    triggered_at: float | None = None  # time at which a reply without a first token was requested
    sampled: int = 0  # tokens of the current step
    first_token: float | None = None  # seconds to the first token that the current step sampled
    outputs: list[Scores | Reply] = field(default_factory=list)  # of the current round

    def count_token(self) -> bool:
        """Count a token that has been sampled, and let the reply continue."""
        self.sampled += 1
        if self.triggered_at is not None:
            self.first_token, self.triggered_at = perf_counter() - self.triggered_at, None
        return True


class SaturatedStreams:
    """``count`` streams, each of which has its next frames queued at all times. Frames and replies share steps."""

    def __init__(
        self, engine: Engine, options: SessionOptions, query: str, pool: FramePool, count: int, queued: int = 1
    ) -> None:
        """Open the streams with a query before the first frame, and keep ``queued`` frames of each in its queue.

        ``options`` must not let the policy speak.
        """
        self.engine, self._pool, self._queued = engine, pool, queued
        self._streams = [_Stream(number, engine.open(options)) for number in range(count)]
        self._by_session = {stream.session.id: stream for stream in self._streams}
        for stream in self._streams:
            stream.session.take_token = stream.count_token
            engine.push(stream.session, Query(query))
        self._frame_tokens = engine.model.config.frame_tokens

    def run(self, frames: int, replies: int) -> RoundRecord:
        """Process ``frames`` frames of every stream, with ``replies`` replies of each, as fast as possible."""
        record = RoundRecord(frames=frames * len(self._streams))
        for stream in self._streams:
            stream.scored, stream.pushed, stream.outputs = 0, 0, []
            stream.replies_after = reply_indices(frames, replies, stream.number / len(self._streams))
        start = perf_counter()
        for stream in self._streams:
            for _ in range(min(self._queued, frames)):
                self._push(stream)
        while any(stream.scored < frames or stream.replying for stream in self._streams):
            self._step(record, frames)
        record.seconds = perf_counter() - start
        return record

    def close(self) -> None:
        """Close the sessions."""
        for stream in self._streams:
            self.engine.close(stream.session)

    def outputs(self, number: int) -> list[Scores | Reply]:
        """Return the scores and replies of a stream in the latest round."""
        return self._streams[number].outputs

    # single steps, for profiles

    def frame_step(self) -> float:
        """Score one frame of every stream, and return the seconds of the step."""
        for stream in self._streams:
            self._push(stream)
        return self._timed_steps()

    def start_replies(self) -> None:
        """Let every stream begin a reply, and run the step of the replies' headers."""
        for stream in self._streams:
            self.engine.speak_now(stream.session)
        self.engine.step()

    def token_step(self) -> float:
        """Sample the next token of every stream, and return the seconds of the step."""
        begin = perf_counter()
        self.engine.step()
        return perf_counter() - begin

    def cancel_replies(self) -> None:
        """Finish all replies."""
        for stream in self._streams:
            self.engine.cancel(stream.session)
        self._timed_steps()

    def _timed_steps(self) -> float:
        """Step until no stream has work. With a small bound of tokens, that takes several steps."""
        begin = perf_counter()
        while self.engine.busy:
            self.engine.step()
        return perf_counter() - begin

    def _push(self, stream: _Stream) -> None:
        self.engine.push(stream.session, self._pool.frame(stream.number, stream.next_index))
        stream.next_index, stream.pushed = stream.next_index + 1, stream.pushed + 1

    def _step(self, record: RoundRecord, frames: int) -> None:
        """Run one step, record it, and give the streams their next work."""
        begin = perf_counter()
        events = self.engine.step()
        end = perf_counter()
        scored = sum(isinstance(output, Scores) for _, output in events)
        record.first_token_seconds += [s.first_token for s in self._streams if s.first_token is not None]
        record.steps.append(self._record_step(scored, end - begin))
        for session, output in events:
            self._handle(self._by_session[session.id], output, frames, end)

    def _record_step(self, scored: int, seconds: float) -> StepRecord:
        served = self.engine.last_batch_size
        sampled = sum(stream.sampled for stream in self._streams)
        for stream in self._streams:
            stream.sampled, stream.first_token = 0, None
        return StepRecord(served, scored, scored * self._frame_tokens + served - scored, sampled, seconds)

    def _handle(self, stream: _Stream, output: Output, frames: int, now: float) -> None:
        """Request the reply that is due after a frame, and push the next frame."""
        match output:
            case Scores():
                stream.outputs.append(output)
                if stream.scored in stream.replies_after:
                    self.engine.speak_now(stream.session)
                    stream.replying, stream.triggered_at = stream.replying + 1, now
                stream.scored += 1
                if stream.pushed < frames:
                    self._push(stream)
            case Reply():
                stream.outputs.append(output)
                stream.replying, stream.triggered_at = stream.replying - 1, None
            case SessionFailed():
                raise output.as_error()
