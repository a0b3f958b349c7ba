"""The synchronous engine: many sessions, one packed step at a time; one thread at a time may use it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import torch

from mmduet.engine import lifecycle
from mmduet.engine.decoding import Sampler, SamplerFactory
from mmduet.engine.defaults import slot_tokens
from mmduet.engine.kv_cache import Slot
from mmduet.engine.runner import Runner
from mmduet.engine.scheduler import Scheduler
from mmduet.engine.session import PreparedFrame, Session, check_prompt
from mmduet.events import AssistantTurn, Context, Frame, Output, Query
from mmduet.model import LoadedModel
from mmduet.options import SessionOptions, SpeakOptions
from mmduet.video.letterbox import letterbox

Event = tuple[Session, Output]


class Engine:
    """Open sessions and step all of them together. The memory of a session is fixed when it opens."""

    def __init__(
        self,
        model: LoadedModel,
        max_step_tokens: int = 4096,
        *,
        sampler_factory: SamplerFactory = Sampler,
        runner: Runner | None = None,
    ) -> None:
        """Create an engine for ``model``.

        ``max_step_tokens`` bounds the tokens of one step. ``sampler_factory`` makes the sampler of each reply, ``runner`` runs
        the steps (default: a ``Runner`` of the model).
        """
        self.model = model
        self._runner = runner or Runner(model)
        self._sampler_factory = sampler_factory
        self._scheduler = Scheduler(self._runner, max_step_tokens)
        self._sessions: dict[int, Session] = {}
        self._ids = count()
        self.last_batch_size = 0  # sessions that the last step did something for

    # sessions

    def open(self, options: SessionOptions | None = None) -> Session:
        """A new session with a slot of its own.

        Raises ``OptionError`` where the model's positions do not suffice, and for an adapter that it has not.
        """
        options = options or SessionOptions()
        self._runner.adapters.check(options.adapter)
        slot = Slot(self._runner.cache_shape(), self.slot_tokens(options))
        session = Session(next(self._ids), options, slot, self.model.tokenizer, self._sampler_factory)
        self._sessions[session.id] = session
        return session

    def check(self, options: SessionOptions) -> None:
        """Raise what opening a session with ``options`` would: ``OptionError``, ``FormatError`` or ``CapacityError``."""
        self._runner.adapters.check(options.adapter)
        self.slot_tokens(options)
        check_prompt(options, self.model.tokenizer)

    def slot_tokens(self, options: SessionOptions) -> int:
        """Capacity of a session's slot. Raises ``OptionError`` where the model's positions do not suffice."""
        return slot_tokens(self.model.config, options)

    def slot_bytes(self, options: SessionOptions) -> int:
        """All the memory that a session of these options can come to take. Raises ``OptionError`` as ``slot_tokens`` does."""
        shape = self._runner.cache_shape()
        values = shape.layers * shape.kv_heads * shape.head_dim  # of one token
        pinned = min(options.text_tokens, self.slot_tokens(options)) * values * (4 + shape.dtype.itemsize)
        return 2 * self.slot_tokens(options) * values * shape.dtype.itemsize + pinned

    def prepare(self, frame: Frame) -> PreparedFrame:
        """Letterbox a frame for the tower; needs no device, so sources do it in their own threads."""
        return PreparedFrame(frame, torch.from_numpy(letterbox(frame.image, self.model.config.vision.image_size)))

    def push(self, session: Session, item: Frame | PreparedFrame | Query | Context | AssistantTurn) -> None:
        """Put something on a session's timeline."""
        if isinstance(item, Query | Context | AssistantTurn):
            session.push_turn(item)
        else:
            session.push_frame(self.prepare(item) if isinstance(item, Frame) else item)

    def end(self, session: Session) -> None:
        """No more frames: finish what is pending, then ``StreamEnded``."""
        session.check_open()
        session.ending = True

    def speak_now(self, session: Session) -> None:
        """Reply after the latest frame, whatever the policy says."""
        session.check_open()
        session.forced = True

    def update_policy(self, session: Session, speak: SpeakOptions) -> None:
        """Decide by other options from the next frame on; a running sum restarts."""
        session.check_open()
        session.options = replace(session.options, speak=speak)
        session.policy = replace(session.policy, total=0.0)

    def cancel(self, session: Session, reply: int | None = None) -> None:
        """Stop the reply that is being written, if there is one, and if it is number ``reply``."""
        if session.reply is not None and reply in (None, session.reply.number):
            session.reply.cancelled = True

    def close(self, session: Session) -> None:
        """Drop a session and its memory at once."""
        session.closed = True
        self._sessions.pop(session.id, None)

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return any(session.ready for session in self._sessions.values())

    # the step

    def step(self) -> list[Event]:
        """One packed forward for every session that has something to do; returns what came of it, in order."""
        sessions = list(self._sessions.values())
        for session in sessions:
            lifecycle.before_step(session)
        jobs = self._scheduler.schedule(sessions)
        self.last_batch_size = len(jobs)
        if jobs:
            result = self._runner.run(jobs)
            for (session, work), scores, logits in zip(jobs, result.scores, result.logits, strict=True):
                if scores is not None:
                    lifecycle.on_frame_scored(session, work, *scores)
                elif logits is not None:
                    lifecycle.on_token(session, logits)
        return self._collect(sessions)

    def run(self, session: Session) -> Iterator[Output]:
        """Step until nothing is left to do, yielding one session's outputs."""
        while session.ready:
            yield from (output for owner, output in self.step() if owner is session)

    def _collect(self, sessions: list[Session]) -> list[Event]:
        events = [(session, output) for session in sessions for output in session.outbox]
        for session in sessions:
            session.outbox.clear()
            if session.closed:
                self._sessions.pop(session.id, None)
        return events
