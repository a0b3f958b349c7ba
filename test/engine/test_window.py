"""Above the window, the context of the engine is exactly the pinned turns and the frames of the window.

In a network with one layer, the key and value of a token depend on the token alone, so an engine with a window must equal a
recomputation over the retained tokens. In deeper networks keys depend on an earlier context, by design; there, moving keys must
not change the outputs.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from duet_oracle import Oracle
from duet_rig import PROMPT, Rig, frames, lively_model, options, replies, scores

from mmduet.duet import ContextLayout, Segment
from mmduet.engine import Session
from mmduet.engine.engine import Event
from mmduet.events import Context, Frame, Query, Reply, SessionFailed
from mmduet.options import SessionOptions

TURNS = [
    Query("What?", 0.0), Query("More?", 7.1), Context("Ann speaks", 9.2), Context("Bob", 20.0, keep=True),
    Query("And?", 33.3), Context("passing", 40.0), Context("by", 40.1), Query("Then?", 40.2),
    Context("last", 41.0, keep=True), Context("words", 41.1),
]  # fmt: skip


class SmallSlotRig(Rig):
    """Its slots have few tokens, so that the live run is often moved back. Records moves and evictions of its one session."""

    def __init__(self, slot_capacity: int, layers: int) -> None:
        super().__init__(lively_model(layers, seed=2), slot_capacity=slot_capacity)
        self.moves = 0
        self.evictions: list[int] = []  # the step of each
        self._start = 0
        self._session: Session | None = None

    def open(self, options: SessionOptions | None = None) -> Session:
        self._session = super().open(options)
        return self._session

    def step(self) -> list[Event]:
        events = super().step()
        assert self._session is not None
        slot = self._session.slot
        evicted = self._session.frame_count - slot.frames - len(self.evictions)
        self.evictions += [len(self.steps)] * evicted
        self.moves += (
            slot.start < self._start + evicted * self.model.config.frame_tokens
        )  # evictions alone end further on
        self._start = slot.start
        return events


@pytest.mark.parametrize(
    ("threshold", "keep", "room"),
    [(2.0, False, 180), (0.5, False, 216), (0.5, True, 300), (0.5, True, 240)],
    ids=["no replies", "removed", "kept", "kept in a small slot"],
)
def test_above_the_window_one_layer_equals_recomputing_the_retained_context(
    threshold: float, keep: bool, room: int
) -> None:
    session_options = options(threshold, keep=keep, window=6, tokens=6, text_tokens=320)
    items: list[Frame | Query | Context] = [*TURNS, *frames(220, fps=4.0)]
    expected = Oracle(lively_model(1, seed=2), session_options, room).run_stream(items)
    rig = SmallSlotRig(room, 1)
    outputs = rig.run_stream(session_options, items)
    assert not [o for o in outputs if isinstance(o, SessionFailed)]
    np.testing.assert_allclose(scores(outputs), expected.scores, atol=1e-4, rtol=0)
    assert replies(outputs) == expected.replies
    assert len(rig.evictions) == expected.evicted >= 214
    assert rig.moves > 20
    assert (len(expected.replies) > 20) == (threshold < 1)


@pytest.mark.parametrize("keep", [False, True])
def test_moving_the_keys_of_a_deep_network_does_not_change_its_outputs(keep: bool) -> None:
    session_options = options(0.7, keep=keep, window=8, tokens=5, text_tokens=320)
    items = [*TURNS[:4], *frames(500, fps=10.0)]
    large, small = SmallSlotRig(20_000, 2), SmallSlotRig(300 if keep else 230, 2)
    of_large, of_small = large.run_stream(session_options, items), small.run_stream(session_options, items)
    assert large.moves == 0
    assert small.moves >= 20
    assert large.evictions == small.evictions  # otherwise their contexts would differ
    assert len(large.evictions) == 492
    np.testing.assert_allclose(scores(of_small), scores(of_large), atol=1e-4, rtol=0)
    assert replies(of_small) == replies(of_large)
    assert len(replies(of_small)) > 20


def test_stream_is_longer_than_the_slot_many_times_over() -> None:
    """A window of 3 frames in a slot of the default capacity never runs out of space."""
    rig = Rig(lively_model())
    session_options = options(0.8, window=3, tokens=4, text_tokens=64)
    outputs = rig.run_stream(session_options, frames(700))
    assert len(scores(outputs)) == 2 * 700
    assert 700 * rig.model.config.frame_tokens > 5 * rig.slot_tokens(session_options)


def test_default_slot_has_room_for_the_whole_window() -> None:
    """With text, frames and a reply at their maximum, every frame of the window is still in the slot."""
    rig = Rig(lively_model())
    session_options = options(window=10, tokens=30, text_tokens=128)
    session = rig.open(session_options)
    rig.push(session, Query("x" * 84, 0.0))
    for frame in frames(40):
        rig.push(session, frame)
    list(rig.run(session))
    rig.speak_now(session)
    list(rig.run(session))
    assert session.pinned_tokens > 109
    assert session.slot.frames == 10


SYSTEM, STREAM = f"<|im_start|>system\n{PROMPT}<|im_end|>", "\n<|im_start|>stream\n"
USER = "\n<|im_start|>user\nq<|im_end|>"


@pytest.mark.parametrize(
    ("turns", "pinned_text"),
    [
        ([Context("by", 0.0)], SYSTEM + STREAM),
        ([Query("q", 0.0), Context("by", 0.0)], SYSTEM + USER + STREAM),
        ([Context("by", 0.0), Query("q", 0.0)], SYSTEM + USER + STREAM),
        ([Query("q", 1.0), Context("by", 1.0)], SYSTEM + STREAM + "<|im_end|>" + USER + STREAM),
        ([Context("by", 1.0)], SYSTEM + STREAM),
    ],
)
def test_pinned_tokens_and_window_form_a_valid_conversation(turns: list[Query | Context], pinned_text: str) -> None:
    """The frames follow a stream header, whatever was evicted. Values identify tokens in a network with one layer."""
    rig = Rig(lively_model(1))
    session = rig.open(options(window=2))
    for item in [*turns, *frames(12)]:
        rig.push(session, item)
    list(rig.run(session))
    slot = session.slot
    ids = rig.model.tokenizer.encode(pinned_text)
    assert slot.layout() == ContextLayout((Segment(4, is_frame=True),) * 2, pinned_tokens=len(ids))
    layer = rig.model.network.lm.layers[0]
    tokens = torch.tensor(ids, device=rig.model.network.device)
    embeds = layer.input_layernorm(rig.model.network.embed_tokens(tokens))
    values = layer.self_attn.v_proj(embeds).view(len(ids), 2, 12).transpose(0, 1)
    torch.testing.assert_close(rig.held_values(session)[:, : slot.pinned_tokens], values, atol=1e-5, rtol=0)


def test_unpinned_turns_are_evicted_if_there_are_no_frames() -> None:
    rig = Rig(lively_model())
    session = rig.open(options(window=3, tokens=6, text_tokens=160))
    rig.push(session, frames(1)[0])
    outputs = list(rig.run(session))
    for number in range(60):
        rig.push(session, Context(f"line {number} " * 8, 0.0))
        rig.speak_now(session)
        outputs += list(rig.run(session))
    assert not any(isinstance(output, SessionFailed) for output in outputs)
    assert sum(isinstance(output, Reply) for output in outputs) == 60
