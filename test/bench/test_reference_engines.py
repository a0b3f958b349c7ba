"""The reference engines produce the scores and tokens of the engine: without a window, and with evictions."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
import pytest
import torch
from duet_rig import lively_model, picture

from mmduet.bench.reference_engines import REFERENCE_ENGINES, StreamTrace, plain_copy
from mmduet.engine import Engine, Session
from mmduet.engine.sampling import Sampler
from mmduet.engine.session import PreparedFrame
from mmduet.events import Frame, Query, Scores
from mmduet.model import LoadedModel
from mmduet.model.config import TextFamily
from mmduet.options import DecodeOptions, SessionOptions, SpeakOptions

QUERY = "What happens?"
FRAMES, TOKENS = 14, 7
REPLIES_AFTER = {0, 4, 5, 12}


class TokenRecorder:
    """A sampler factory that records the tokens of every reply, without end tokens."""

    def __init__(self, end_id: int) -> None:
        self.end_id, self.replies = end_id, list[list[int]]()

    def __call__(self, options: DecodeOptions, reply: int, earlier: Set[int] = frozenset()) -> TokenRecorder:
        self.sampler = Sampler(options, reply, earlier)
        self.replies.append([])
        return self

    def next(self, logits: torch.Tensor) -> int:
        token = self.sampler.next(logits)
        if token != self.end_id:
            self.replies[-1].append(token)
        return token


def prepared_frames(engine: Engine) -> list[PreparedFrame]:
    """Return different frames as ``engine`` prepares them."""
    return [engine.prepare(Frame(i, i / 2, picture(i))) for i in range(FRAMES)]


def run_engine(model: LoadedModel, window: int | None, given: bool) -> tuple[StreamTrace, list[PreparedFrame]]:
    """Run one stream in the engine with replies after some frames. ``given``: with visual tokens instead of pixels."""
    recorder = TokenRecorder(model.tokenizer.end_id)
    engine = Engine(model, sampler_factory=recorder)
    frames = prepared_frames(engine)
    if given:
        frames = [
            PreparedFrame(frame.frame, frame.pixels[:0], embeds=embeds) for frame, embeds in embedded(model, frames)
        ]
    session = open_session(engine, window)
    trace = StreamTrace()
    for i, frame in enumerate(frames):
        engine.push(session, frame)
        trace.scores += [(o.informative, o.relevance) for o in engine.run(session) if isinstance(o, Scores)]
        if i in REPLIES_AFTER:
            engine.speak_now(session)
            list(engine.run(session))
    trace.replies = recorder.replies
    return trace, frames


def embedded(model: LoadedModel, frames: list[PreparedFrame]) -> list[tuple[PreparedFrame, torch.Tensor]]:
    """Return each frame with random visual tokens [K, D]."""
    generator = torch.Generator().manual_seed(5)
    shape = (len(frames), model.config.frame_tokens, model.config.text.hidden_size)
    return list(zip(frames, torch.randn(shape, generator=generator) * 2, strict=True))


def open_session(engine: Engine, window: int | None) -> Session:
    """Open a session that speaks only when it is asked to, with a query."""
    decode = DecodeOptions(max_new_tokens=TOKENS)
    session = engine.open(SessionOptions(speak=SpeakOptions("never", 0.0), decode=decode, window=window))
    engine.push(session, Query(QUERY))
    return session


@pytest.mark.parametrize(
    ("name", "window", "given", "family"),
    [
        ("paper", None, False, "qwen2"),
        ("tight", None, False, "qwen3"),
        ("tight", 4, False, "qwen2"),
        ("paper", 4, True, "qwen2"),
        ("tight", 1, True, "qwen2"),
    ],
)
def test_reference_equals_the_engine(name: str, window: int | None, given: bool, family: TextFamily) -> None:
    model = lively_model(seed=3, family=family)
    plain = plain_copy(model)
    expected, frames = run_engine(model, window, given)
    trace = REFERENCE_ENGINES[name](plain, QUERY, window, TOKENS).run(frames, REPLIES_AFTER)
    np.testing.assert_allclose(trace.scores, expected.scores, atol=1e-4, rtol=0)
    assert np.std(expected.scores) > 0.1  # otherwise any engine would be equal
    assert trace.replies == expected.replies
    assert len(expected.replies) == len(REPLIES_AFTER)
    assert len({token for reply in expected.replies for token in reply}) > 5


def test_window_changes_the_scores() -> None:
    """Without this, a reference that ignores its window would pass."""
    model = lively_model(seed=3)
    plain = plain_copy(model)
    expected, frames = run_engine(model, 4, False)
    trace = REFERENCE_ENGINES["tight"](plain, QUERY, None, TOKENS).run(frames, REPLIES_AFTER)
    np.testing.assert_allclose(trace.scores[:4], expected.scores[:4], atol=1e-4, rtol=0)
    assert np.abs(np.subtract(trace.scores, expected.scores)[5:]).max() > 1e-2


def test_runs_in_parts_equal_one_run() -> None:
    model = plain_copy(lively_model(seed=3))
    engine = Engine(lively_model(seed=3))
    frames = prepared_frames(engine)
    whole = REFERENCE_ENGINES["paper"](model, QUERY, 4, TOKENS).run(frames, {2, 9})
    parts = REFERENCE_ENGINES["paper"](model, QUERY, 4, TOKENS)
    first, second = parts.run(frames[:7], {2}), parts.run(frames[7:], {2})
    np.testing.assert_allclose(first.scores + second.scores, whole.scores, atol=1e-5, rtol=0)
    assert first.replies + second.replies == whole.replies


def test_copy_shares_the_weights_and_keeps_its_attention() -> None:
    model = lively_model()
    plain = plain_copy(model)
    assert addresses(plain) == addresses(model)
    assert plain.network.lm is not model.network.lm
    before = addresses(plain)
    Engine(model)  # may replace weights and attention of its modules
    assert addresses(plain) == before
    assert plain.network.lm.config._attn_implementation == "sdpa"


def addresses(model: LoadedModel) -> dict[str, int]:
    """Return where each weight is in memory."""
    return {name: weight.data_ptr() for name, weight in model.network.named_parameters()}
