"""Visual tokens of frames: given ones, and those that are computed ahead of the step of their frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from duet_rig import Rig, frames, lively_model, options, scores

from mmduet.engine import frame_encoder
from mmduet.engine.frame_encoder import FrameEncoder
from mmduet.engine.runner import Runner
from mmduet.engine.session import PreparedFrame
from mmduet.events import Output


def prepared_frames(rig: Rig, given: set[int]) -> list[PreparedFrame]:
    """Return five frames. Those in ``given`` have visual tokens, and black pixels."""
    prepared = [rig.prepare(frame) for frame in frames(5)]
    tokens = Runner(rig.model).encoder.encode(prepared, [None] * len(prepared))
    return [
        replace(frame, embeds=row, pixels=torch.zeros_like(frame.pixels)) if i in given else frame
        for i, (frame, row) in enumerate(zip(prepared, tokens, strict=True))
    ]


def run_together(given: set[int]) -> list[float]:
    """Return the scores of five sessions with one frame each, in one step."""
    rig = Rig(lively_model())
    sessions = [rig.open(options()) for _ in range(5)]
    for session, frame in zip(sessions, prepared_frames(rig, given), strict=True):
        rig.push(session, frame)
    return scores([output for _, output in rig.step()])


def test_given_visual_tokens_replace_the_pixels() -> None:
    expected = run_together(set())
    assert len(set(expected)) == len(expected) == 10
    for given in ({0, 1, 2, 3, 4}, {1, 3}):
        assert torch.allclose(torch.tensor(run_together(given)), torch.tensor(expected), atol=1e-5)


class CountingEncoder(FrameEncoder):
    """Counts the frames of each call of the tower."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig.model.network, rig.encoder.adapters)
        self.calls: list[int] = []

    def encode(self, frames: Sequence[PreparedFrame], adapters: Sequence[str | None]) -> torch.Tensor:
        self.calls.append(len(frames))
        return super().encode(frames, adapters)


def test_queued_frames_are_encoded_together_and_scored_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_encoder, "PATCHES_AHEAD", {"cpu": 5 * lively_model().config.vision.grid ** 2})
    rig, lists = Rig(lively_model()), ([*frames(7, 1)], [*frames(3, 2)])
    rig.encoder = encoder = CountingEncoder(rig)
    sessions = [rig.open(options()) for _ in lists]
    for session, items in zip(sessions, lists, strict=True):
        for frame in items:
            rig.push(session, frame)
    outputs: dict[int, list[Output]] = {session.id: [] for session in sessions}
    while rig.busy:
        for session, output in rig.step():
            outputs[session.id].append(output)
    assert encoder.calls == [5, 5], "two current frames with three queued ones, then the rest"
    for session, items in zip(sessions, lists, strict=True):
        alone = []
        single = Rig(lively_model())
        other = single.open(options())
        for frame in items:  # one by one, so that none is queued
            single.push(other, frame)
            alone += list(single.run(other))
        assert torch.allclose(torch.tensor(scores(outputs[session.id])), torch.tensor(scores(alone)), atol=1e-5)


def test_frames_of_a_late_session_are_not_encoded_twice() -> None:
    rig = Rig(lively_model())
    rig.encoder = encoder = CountingEncoder(rig)
    session = rig.open(options())
    for frame in frames(12):
        rig.push(session, frame)
    list(rig.run(session))
    assert sum(encoder.calls) == 12
    assert len(encoder.calls) == 1


def test_frames_of_the_step_are_encoded_alone_if_memory_does_not_suffice_for_more() -> None:
    class SmallMemory(CountingEncoder):
        def encode(self, frames: Sequence[PreparedFrame], adapters: Sequence[str | None]) -> torch.Tensor:
            if len(frames) > 1:
                raise MemoryError
            return super().encode(frames, adapters)

    rig = Rig(lively_model())
    rig.encoder = encoder = SmallMemory(rig)
    outputs = rig.run_stream(options(), frames(4))
    assert encoder.calls == [1, 1, 1, 1]
    assert len(scores(outputs)) == 2 * 4
