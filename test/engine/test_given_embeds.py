"""Frames whose visual tokens are given are scored as the frames that these tokens were computed from."""

from __future__ import annotations

from dataclasses import replace

import torch
from duet_rig import Rig, frames, lively_model, options, scores

from mmduet.engine.runner import Runner
from mmduet.engine.session import PreparedFrame


def prepared_frames(rig: Rig, given: set[int]) -> list[PreparedFrame]:
    """Return five frames. Those in ``given`` have visual tokens, and black pixels."""
    prepared = [rig.prepare(frame) for frame in frames(5)]
    tokens = Runner(rig.model).encode_frames(prepared, [None] * len(prepared))
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
