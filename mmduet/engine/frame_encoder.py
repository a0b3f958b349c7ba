"""Visual tokens of frames: those of a step, and, where it is cheap, of queued frames in the same call of the tower.

The tower needs no context, so frames that wait can be encoded together with the current ones. A stream that is behind, or a
file, is then encoded in batches, as fast as if the whole video were encoded first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmduet.engine.host_copy import to_device
from mmduet.engine.session import PreparedFrame, Session, TokenSpan
from mmduet.model.adapter_bank import AdapterBank, AdapterName
from mmduet.model.network import DuetModel

PATCHES_AHEAD = {"cpu": 1024}
DEFAULT_PATCHES_AHEAD = 16_384
"""Queued frames are encoded only up to this many patches in a call, so that the current frames do not wait long."""


class FrameEncoder:
    """Computes visual tokens [K, D] of frames, each with the projector of its session's adapter."""

    def __init__(self, network: DuetModel, adapters: AdapterBank) -> None:
        self._network, self.adapters = network, adapters
        patches = PATCHES_AHEAD.get(network.device.type, DEFAULT_PATCHES_AHEAD)
        self._max_frames = patches // network.config.vision.grid**2

    @torch.inference_mode()
    def encode(self, frames: Sequence[PreparedFrame], adapters: Sequence[AdapterName]) -> Tensor:
        """Return visual tokens [B, K, D] of frames. All share the tower."""
        images = to_device(torch.stack([frame.pixels for frame in frames]), self._network.device)  # [B, S, S, 3]
        return self.adapters.project(self._network.encode_images(images), adapters)

    def fill(self, work: Sequence[tuple[Session, Sequence[TokenSpan]]]) -> None:
        """Set ``embeds`` of the frames of a step that have none, and of frames that are queued in the same sessions."""
        spans = [(session, span) for session, spans in work for span in spans if _is_missing(span.frame)]
        if not spans:
            return
        queued = list(_queued([session for session, _ in work], self._max_frames - len(spans)))
        try:
            self._fill(spans, queued)
        except (RuntimeError, MemoryError):  # memory may suffice for the frames of the step alone
            if not queued:
                raise
            self._fill(spans, [])

    def _fill(self, spans: Sequence[tuple[Session, TokenSpan]], queued: Sequence[tuple[Session, int]]) -> None:
        frames = [span.frame for _, span in spans if span.frame is not None]
        frames += [session.inbox[place] for session, place in queued]
        adapters = [session.options.adapter for session, _ in (*spans, *queued)]
        embeds = iter(self.encode(frames, adapters))
        for _, span in spans:
            assert span.frame is not None
            span.frame = replace(span.frame, embeds=next(embeds))
        for session, place in queued:
            session.inbox[place] = replace(session.inbox[place], embeds=next(embeds))


def _is_missing(frame: PreparedFrame | None) -> bool:
    return frame is not None and frame.embeds is None


def _queued(sessions: Sequence[Session], count: int) -> Iterator[tuple[Session, int]]:
    """Yield up to ``count`` queued frames without embeddings and their places, the next ones of all sessions first."""
    longest = max(len(session.inbox) for session in sessions)
    places = ((session, place) for place in range(longest) for session in sessions if place < len(session.inbox))
    for session, place in places:
        if count <= 0:
            return
        if session.inbox[place].embeds is None:
            count -= 1
            yield session, place
