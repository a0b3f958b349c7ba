"""Support for engine tests: a tiny model with varied outputs, random frames, and an engine that records what it is fed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace

import numpy as np
import torch
from device_option import device

from mmduet.duet import END
from mmduet.engine import Engine, Session
from mmduet.engine.attention import Backend
from mmduet.engine.config import EngineConfig
from mmduet.engine.forward import Forward, PackedForward
from mmduet.engine.frame_encoder import FrameEncoder
from mmduet.engine.runner import Runner, StepResult
from mmduet.engine.sampling import Sampler, SamplerFactory
from mmduet.engine.session import WorkItem
from mmduet.events import Context, Frame, Output, Query, Reply, ReplyDelta, Scores
from mmduet.model import LoadedModel
from mmduet.model.config import TextFamily
from mmduet.model.presets import SHAPES, byte_tokenizer, random_model
from mmduet.options import DecodeOptions, SessionOptions, SpeakOptions

FRAME = "<F>"
PROMPT = "Watch."


def lively_model(layers: int = 2, seed: int = 0, family: TextFamily = "qwen2") -> LoadedModel:
    """Return ``random:tiny`` with larger weights: attention is sharp, scores vary between 0 and 1, and some replies stop.

    With the usual scale of random weights every score is close to .5, and no test could fail.
    """
    shape = SHAPES["tiny"]
    network = random_model(replace(shape, text=replace(shape.text, layers=layers, family=family)), seed=seed)
    tokenizer = byte_tokenizer()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() > 1:
                gain = 2.5 if "heads" in name else 1.6
                weight.copy_(torch.randn(weight.shape, generator=generator) * gain / weight.shape[-1] ** 0.5)
        network.lm.embed_tokens.weight.mul_(3)
        network.lm_head.weight[tokenizer.size :] = 0  # every sampled token has a text
        network.lm_head.weight[tokenizer.end_id] *= 1.4
    return LoadedModel(network.requires_grad_(False).to(device()), tokenizer)


def endless_model(seed: int = 0) -> LoadedModel:
    """Return a model whose replies only end at the token limit."""
    model = lively_model(seed=seed)
    with torch.no_grad():
        model.network.lm_head.weight[model.tokenizer.end_id] = 0
    return model


def picture(seed: int) -> np.ndarray:
    """Return a random image, coarse enough to survive scaling."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return coarse.repeat(7, 0).repeat(7, 1)


def frames(count: int, seed: int = 0, fps: float = 2.0, first: int = 0) -> list[Frame]:
    """Return ``count`` different frames."""
    return [Frame(i, i / fps, picture(seed * 10_000 + i)) for i in range(first, first + count)]


def options(
    threshold: float = 2.0,
    *,
    keep: bool = False,
    tokens: int = 8,
    window: int | None = None,
    at_end: bool = False,
    **more: object,
) -> SessionOptions:
    """Return session options with a short prompt. A threshold of 2 never fires."""
    return SessionOptions(
        speak=SpeakOptions("threshold", threshold, at_end=at_end), decode=DecodeOptions(max_new_tokens=tokens),
        keep_replies=keep, window=window, system_prompt=PROMPT, **more,  # type: ignore[arg-type]
    )  # fmt: skip


class RecordingRunner(Runner):
    """A runner that records what each session is fed, and which sessions each forward serves."""

    def __init__(self, model: LoadedModel, config: EngineConfig | None = None) -> None:
        super().__init__(model, config)
        self.fed: dict[int, list[int | str]] = defaultdict(list)  # by session
        self.steps: list[list[int]] = []  # sessions of each forward

    def run(self, jobs: Sequence[tuple[Session, WorkItem]]) -> StepResult:
        self.steps.append([session.id for session, _ in jobs])
        for session, work in jobs:
            for part in work.spans:
                self.fed[session.id] += [FRAME] if part.frame is not None else part.ids
        return super().run(jobs)


class Rig(Engine):
    """An engine that records what it feeds and, with ``slot_capacity``, opens slots of that many tokens."""

    def __init__(
        self,
        model: LoadedModel,
        max_step_tokens: int = 4096,
        *,
        sampler_factory: SamplerFactory = Sampler,
        slot_capacity: int | None = None,
        config: EngineConfig | None = None,
    ) -> None:
        config = replace(config or EngineConfig(), max_step_tokens=max_step_tokens)
        runner = RecordingRunner(model, config)
        super().__init__(model, config, sampler_factory=sampler_factory, runner=runner)
        self.fed, self.steps = runner.fed, runner.steps
        self.slot_capacity = slot_capacity

    def use_attention(self, backend: Backend) -> None:
        """Use a backend that options cannot select here."""
        assert isinstance(self._runner.forward, PackedForward)
        self._runner.forward.backend = backend

    @property
    def forward(self) -> Forward:
        """The forward of the language model, which can be replaced."""
        return self._runner.forward

    @forward.setter
    def forward(self, forward: Forward) -> None:
        self._runner.forward = forward

    @property
    def encoder(self) -> FrameEncoder:
        """The encoder of frames, which can be replaced."""
        return self._runner.encoder

    @encoder.setter
    def encoder(self, encoder: FrameEncoder) -> None:
        self._runner.encoder = encoder

    @property
    def attention(self) -> str:
        """The name of the attention backend."""
        assert isinstance(self._runner.forward, PackedForward)
        return self._runner.forward.backend.name

    def slot_tokens(self, options: SessionOptions) -> int:
        return super().slot_tokens(options) if self.slot_capacity is None else self.slot_capacity

    def run_stream(self, session_options: SessionOptions, items: Iterable[Frame | Query | Context]) -> list[Output]:
        """Run a session by itself and return all its outputs."""
        session = self.open(session_options)
        for item in items:
            self.push(session, item)
        self.end(session)
        return list(self.run(session))

    def held_values(self, session: Session) -> torch.Tensor:
        """Return the first layer's values [kv_heads, n, head_dim] of what a session holds."""
        slot, pool = session.slot, self._runner.pool
        pool.relocate([slot])
        return pool.view(0, slot.base + slot.start, slot.length)[:, 1].transpose(0, 1)

    def fed_text(self, session: Session | int) -> str:
        """Return what a session was fed, including special tokens and frames."""
        text, ids = "", []
        for token in [*self.fed[session if isinstance(session, int) else session.id], FRAME]:
            if isinstance(token, int):
                ids.append(token)
                continue
            text += self.model.tokenizer.backend.decode(ids, skip_special_tokens=False) + FRAME
            ids = []
        return text[: -len(FRAME)]


def scores(outputs: Sequence[Output]) -> list[float]:
    """Return the scores of both heads for every frame, as one list."""
    return [value for o in outputs if isinstance(o, Scores) for value in (o.informative, o.relevance)]


def replies(outputs: Sequence[Output]) -> list[tuple[int, str, int, str]]:
    """Return frame, text, tokens and finish reason of every reply."""
    return [(o.frame, o.text, o.tokens, o.finish) for o in outputs if isinstance(o, Reply)]


def joined_deltas(outputs: Sequence[Output]) -> dict[int, str]:
    """Return the joined deltas of each reply."""
    texts: dict[int, str] = defaultdict(str)
    for o in outputs:
        if isinstance(o, ReplyDelta):
            texts[o.reply] += o.text
    return dict(texts)


class ScriptedSampler:
    """A sampler factory for scripted replies: reply ``i`` of a session is ``texts[i]``."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        self.tokenizer = byte_tokenizer()

    def __call__(self, options: DecodeOptions, reply: int, earlier: Set[int] = frozenset()) -> ScriptedSampler:
        self.ids = self.tokenizer.encode(self.texts[reply] + END)
        return self

    def next(self, logits: torch.Tensor) -> int:
        return self.ids.pop(0)
