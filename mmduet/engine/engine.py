"""The synchronous engine: many sessions, one packed step at a time. Only one thread at a time may use it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count

import torch

from mmduet.engine import lifecycle
from mmduet.engine.config import EngineConfig
from mmduet.engine.defaults import slot_tokens
from mmduet.engine.runner import Job, Runner, StepResult
from mmduet.engine.sampling import Sampler, SamplerFactory
from mmduet.engine.scheduler import Scheduler
from mmduet.engine.session import PreparedFrame, Session, check_prompt
from mmduet.engine.step_recovery import StepFault, StepRecovery, to_session_error
from mmduet.events import AssistantTurn, Context, Frame, Output, Query
from mmduet.model import LoadedModel
from mmduet.options import SessionOptions, SpeakOptions
from mmduet.video.domain import DomainCheck
from mmduet.video.letterbox import letterbox

Event = tuple[Session, Output]


class Engine:
    """Open sessions and step all of them together. The memory of a session is fixed when it opens."""

    def __init__(
        self,
        model: LoadedModel,
        config: EngineConfig | None = None,
        *,
        sampler_factory: SamplerFactory = Sampler,
        runner: Runner | None = None,
    ) -> None:
        """Create an engine for ``model``.

        ``sampler_factory`` makes the sampler of each reply, ``runner`` runs the steps (default: a ``Runner`` of the model).
        Raise ``OptionError`` if the model is not on the device, or not in the number type, that ``config`` requires.
        """
        self.model, self.engine_config = model, config or EngineConfig()
        self.engine_config.check_model(model.network.device, model.network.dtype)
        self._runner = runner or Runner(model, self.engine_config)
        self._sampler_factory = sampler_factory
        self._scratch_bytes = self._runner.pool.used_bytes  # of CUDA graphs
        self._recovery = StepRecovery(self._runner.run)
        self._scheduler = Scheduler(self._runner, self.engine_config.max_step_tokens)
        self._sessions: dict[int, Session] = {}
        self._ids = count()
        self.last_batch_size = 0  # number of sessions that took part in the last step
        self.last_faults: list[StepFault] = []  # of the last step

    # sessions

    def open(self, options: SessionOptions | None = None) -> Session:
        """Open a session and reserve its slot.

        Raise ``OptionError`` for an unknown adapter or if the model has too few positions, ``CapacityError`` if the memory for
        keys and values is used up, and ``FormatError`` or ``CapacityError`` for an unusable system prompt.
        """
        options = options or SessionOptions()
        self.check(options)
        slot = self._runner.pool.open(self.slot_tokens(options), self._pin_tokens(options))
        session = Session(next(self._ids), options, slot, self.model.tokenizer, self._sampler_factory)
        config = self.model.config
        if config.domain is not None and options.adapter is None:  # adapters are trained on other footage
            session.domain_check = DomainCheck(config.name, config.domain)
        self._sessions[session.id] = session
        return session

    def capture_graphs(self, options: SessionOptions) -> None:
        """Capture the CUDA graphs of steps of sessions with a full window, if the engine replays steps as graphs."""
        if options.window is not None:
            context = options.text_tokens + options.window * self.model.config.frame_tokens
            self._runner.capture_graphs(max(self.kv_bytes // self.slot_bytes(options), 1), context)

    def check(self, options: SessionOptions) -> None:
        """Raise what ``open`` would raise for these options: ``OptionError``, ``FormatError`` or ``CapacityError``."""
        self._runner.adapters.check(options.adapter)
        self.slot_tokens(options)
        check_prompt(options, self.model.tokenizer)

    def slot_tokens(self, options: SessionOptions) -> int:
        """Return the capacity of a session's slot. Raise ``OptionError`` if the model has too few positions."""
        return slot_tokens(self.model.config, options)

    def slot_bytes(self, options: SessionOptions) -> int:
        """Return the memory that a session reserves, in bytes. Raise ``OptionError`` as ``slot_tokens`` does."""
        return self._runner.pool.slot_bytes(self.slot_tokens(options), self._pin_tokens(options))

    @property
    def kv_bytes(self) -> int:
        """The memory for keys and values of all sessions, in bytes."""
        return self._runner.pool.limit - self._scratch_bytes

    def _pin_tokens(self, options: SessionOptions) -> int:
        """Return how many tokens a session may pin. Only sessions with a window evict frames, and so pin tokens."""
        return 0 if options.window is None else min(options.text_tokens, self.slot_tokens(options))

    def prepare(self, frame: Frame) -> PreparedFrame:
        """Letterbox a frame for the tower. It uses no device, so sources call it in their own threads."""
        config = self.model.config
        image = letterbox(frame.image, config.vision.image_size)
        colours = None if config.domain is None else config.domain.measure(image)
        return PreparedFrame(frame, torch.from_numpy(image), colours)

    def push(self, session: Session, item: Frame | PreparedFrame | Query | Context | AssistantTurn) -> None:
        """Put a frame or a turn on the timeline of a session."""
        if isinstance(item, Query | Context | AssistantTurn):
            session.push_turn(item)
        else:
            session.push_frame(self.prepare(item) if isinstance(item, Frame) else item)

    def end(self, session: Session) -> None:
        """End the stream: finish pending work, then emit ``StreamEnded``."""
        session.check_open()
        session.ending = True

    def speak_now(self, session: Session, *, suppress_repeats: bool = False) -> None:
        """Reply after the latest frame, regardless of the policy.

        With ``suppress_repeats``, the reply is not emitted if it repeats a recent one.
        """
        session.check_open()
        session.forced, session.suppress_repeats = True, suppress_repeats

    def restore_replies(self, session: Session, texts: Sequence[tuple[float, str]], triggered_at: float) -> None:
        """Restore what the policy remembers: frame time in seconds and text of earlier replies, and the last trigger's time."""
        session.recent_replies[:0] = texts
        session.policy = replace(session.policy, last_reply=triggered_at)

    def update_policy(self, session: Session, speak: SpeakOptions) -> None:
        """Use other speak options from the next frame on. A running sum restarts at 0."""
        session.check_open()
        session.options = replace(session.options, speak=speak)
        session.policy = replace(session.policy, total=0.0)

    def cancel(self, session: Session, reply: int | None = None) -> None:
        """Stop the reply that is being decoded, if there is one and, with ``reply``, if that is its number."""
        if session.reply is not None and reply in (None, session.reply.number):
            session.reply.cancelled = True

    def close(self, session: Session) -> None:
        """Close a session immediately and release its memory."""
        session.closed = True
        self._release(session)

    def _release(self, session: Session) -> None:
        if self._sessions.pop(session.id, None) is not None:
            self._runner.pool.close(session.slot)

    @property
    def busy(self) -> bool:
        """Whether any session has work for a step."""
        return any(session.ready for session in self._sessions.values())

    @property
    def session_count(self) -> int:
        """Number of open sessions."""
        return len(self._sessions)

    @property
    def ready_count(self) -> int:
        """Number of sessions that have work for a step."""
        return sum(session.ready for session in self._sessions.values())

    # the step

    def step(self) -> list[Event]:
        """Run one packed forward for the sessions that have work. Return their outputs in order.

        If it fails, it is repeated in parts, and only the sessions that fail alone are ended, see ``StepRecovery``.
        """
        sessions = list(self._sessions.values())
        for session in sessions:
            lifecycle.before_step(session)
        jobs = self._scheduler.schedule(sessions)
        self.last_batch_size, self.last_faults = len(jobs), []
        if jobs:
            outcome = self._recovery.run_jobs(jobs)
            self.last_faults = outcome.faults
            for part, result in outcome.parts:
                self._advance(part, result)
            for (session, _), error in outcome.failures:
                lifecycle.fail(session, to_session_error(error))
        return self._collect(sessions)

    def _advance(self, jobs: Sequence[Job], result: StepResult) -> None:
        """Pass the results of jobs on to their sessions."""
        for (session, work), scores, token in zip(jobs, result.scores, result.tokens, strict=True):
            if scores is not None:
                lifecycle.on_frame_scored(session, work, *scores)
            elif token is not None:
                lifecycle.on_token(session, token)

    def run(self, session: Session) -> Iterator[Output]:
        """Step until the session has no more work, and yield its outputs. Outputs of other sessions are lost."""
        while session.ready:
            yield from (output for source, output in self.step() if source is session)

    def _collect(self, sessions: list[Session]) -> list[Event]:
        events = [(session, output) for session in sessions for output in session.outbox]
        for session in sessions:
            session.outbox.clear()
            if session.closed:
                self._release(session)
        return events
