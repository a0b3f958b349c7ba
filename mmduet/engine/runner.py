"""Runs one step on the device: tokens and frames in, scores and logits out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmduet.engine.attention import SequenceSlice, forward_packed, use_packed_attention
from mmduet.engine.kv_cache import CacheShape, Slot
from mmduet.engine.session import PreparedFrame, Session, TokenSpan, WorkItem
from mmduet.model import LoadedModel
from mmduet.model.adapter_bank import AdapterBank, AdapterName
from mmduet.model.preprocess import normalize_images


@dataclass(frozen=True)
class StepResult:
    """Per job: ``scores[i]`` is (informative, relevance) and ``logits[i]`` is [V] if the job requested them, else None."""

    scores: list[tuple[float, float] | None]
    logits: list[Tensor | None]


class Runner:
    """Owns the weights on their device."""

    def __init__(self, model: LoadedModel) -> None:
        self.network = model.network.eval()
        self.config = model.config
        self.adapters = model.adapters or AdapterBank(model.network, {})
        use_packed_attention(self.network.lm)

    def cache_shape(self) -> CacheShape:
        """Return the shape of the slots of this model."""
        text = self.config.text
        return CacheShape(
            text.layers, text.kv_heads, text.head_dim, text.rope_theta, self.network.dtype, self.network.device
        )

    def token_count(self, span: TokenSpan) -> int:
        """Return the number of tokens of a span."""
        return self.config.frame_tokens if span.frame is not None else len(span.ids)

    @torch.inference_mode()
    def run(self, jobs: Sequence[tuple[Session, WorkItem]]) -> StepResult:
        """Run one packed forward over all jobs. Slots must have room; keys, values and segments are appended to them.

        If it raises, the slots hold what they held before, so that jobs can be run again.
        """
        slices, begin = [], 0
        for session, work in jobs:
            count = sum(self.token_count(span) for span in work.spans)
            slices.append(SequenceSlice(session.slot, begin, count))
            begin += count
        embeds = self._embed([(span, session.options.adapter) for session, work in jobs for span in work.spans])
        adapters = [session.options.adapter for session, _ in jobs]
        with self.adapters.route_rows(adapters, [s.count for s in slices]):
            hidden = forward_packed(self.network.lm, embeds, slices)  # [N, D]
        last = hidden[[s.begin + s.count - 1 for s in slices]]  # [jobs, D]
        result = self._apply_heads(last, [work.output for _, work in jobs], adapters)
        for session, work in jobs:  # only now, when nothing can fail any more
            self._append(session.slot, work.spans)
        return result

    @torch.inference_mode()
    def encode_frames(self, frames: Sequence[PreparedFrame], adapters: Sequence[AdapterName]) -> Tensor:
        """Compute visual tokens [B, K, D] of frames, each with the projector of its adapter. All share the tower."""
        images = torch.stack([frame.pixels for frame in frames]).to(self.network.device)  # [B, S, S, 3]
        return self.adapters.project(self.network.features(normalize_images(images)), adapters)

    def _embed(self, spans: Sequence[tuple[TokenSpan, AdapterName]]) -> Tensor:
        """Compute embeddings [N, D] of all spans in order, with one tower call and one embedding look-up."""
        ids = torch.tensor([i for span, _ in spans for i in span.ids], dtype=torch.long, device=self.network.device)
        text = self.network.embed_tokens(ids)  # [T, D]
        frames = [(span.frame, adapter) for span, adapter in spans if span.frame is not None]
        visual = iter(self.encode_frames(*zip(*frames, strict=True)) if frames else ())
        rows, begin = [], 0
        for span, _ in spans:
            rows.append(text[begin : begin + len(span.ids)] if span.frame is None else next(visual))
            begin += len(span.ids)
        return torch.cat(rows)

    def _append(self, slot: Slot, spans: Sequence[TokenSpan]) -> None:
        for span in spans:
            slot.append(self.token_count(span), pinned=span.pinned, is_frame=span.frame is not None)

    def _apply_heads(self, last: Tensor, outputs: Sequence[str], adapters: Sequence[AdapterName]) -> StepResult:
        """Apply the two heads or the language head to last hidden states [jobs, D], only where they are requested."""
        scores: list[tuple[float, float] | None] = [None] * len(outputs)
        logits: list[Tensor | None] = [None] * len(outputs)
        scored = [i for i, output in enumerate(outputs) if output == "scores"]
        decoded = [i for i, output in enumerate(outputs) if output == "logits"]
        if scored:
            pairs = self.adapters.score(last[scored], [adapters[i] for i in scored])
            for i, pair in zip(scored, pairs.tolist(), strict=True):
                scores[i] = (pair[0], pair[1])
        if decoded:
            for i, row in zip(decoded, self.network.lm_head(last[decoded]), strict=True):
                logits[i] = row
        return StepResult(scores, logits)
