"""Runs one step on the device: rows of tokens and pictures in, scores and logits out; knows slots, not sessions' lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmduet.engine.attention import SequenceSlice, forward_packed, use_packed_attention
from mmduet.engine.kv_cache import CacheShape, Slot
from mmduet.engine.session import PreparedFrame, Session, TokenSpan, WorkItem
from mmduet.model import LoadedModel
from mmduet.model.adapter_bank import AdapterBank, Owner
from mmduet.model.preprocess import normalize_images


@dataclass(frozen=True)
class StepResult:
    """What each piece of work wanted: ``scores[i]`` (informative, relevance) or ``logits[i]`` [V], else None."""

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
        """What slots of this model must hold."""
        text = self.config.text
        return CacheShape(
            text.layers, text.kv_heads, text.head_dim, text.rope_theta, self.network.dtype, self.network.device
        )

    def token_count(self, run: TokenSpan) -> int:
        """How many tokens a run is."""
        return self.config.frame_tokens if run.picture is not None else len(run.ids)

    @torch.inference_mode()
    def run(self, jobs: Sequence[tuple[Session, WorkItem]]) -> StepResult:
        """One packed forward over all jobs; slots must have room. Keys, values and segments are in the slots afterwards."""
        stretches, begin = [], 0
        for session, work in jobs:
            count = sum(self.token_count(run) for run in work.runs)
            stretches.append(SequenceSlice(session.slot, begin, count))
            begin += count
        embeds = self._embed([(run, session.options.adapter) for session, work in jobs for run in work.runs])
        owners = [session.options.adapter for session, _ in jobs]
        with self.adapters.route_rows(owners, [s.count for s in stretches]):
            hidden = forward_packed(self.network.lm, embeds, stretches)  # [N, D]
        for session, work in jobs:
            self._commit(session.slot, work.runs)
        last = hidden[[s.begin + s.count - 1 for s in stretches]]  # [jobs, D]
        return self._read(last, [work.wants for _, work in jobs], owners)

    @torch.inference_mode()
    def encode_frames(self, pictures: Sequence[PreparedFrame], owners: Sequence[Owner]) -> Tensor:
        """Visual tokens [B, K, D] of pictures, each by its owner's projector; the tower is everybody's."""
        pixels = torch.stack([p.pixels for p in pictures]).to(self.network.device)  # [B, S, S, 3]
        features = self.network.features(normalize_images(pixels))
        return self.adapters.project(features, owners)

    def _embed(self, owned: Sequence[tuple[TokenSpan, Owner]]) -> Tensor:
        """Embeddings [N, D] of runs laid end to end; one tower call and one embedding look-up for all of them."""
        runs = [run for run, _ in owned]
        ids = torch.tensor([token for run in runs for token in run.ids], dtype=torch.long, device=self.network.device)
        words = self.network.embed_tokens(ids)  # [W, D]
        pictures = [(run.picture, owner) for run, owner in owned if run.picture is not None]
        visual = iter(self.encode_frames(*zip(*pictures, strict=True)) if pictures else ())
        rows, place = [], 0
        for run in runs:
            rows.append(words[place : place + len(run.ids)] if run.picture is None else next(visual))
            place += len(run.ids)
        return torch.cat(rows)

    def _commit(self, slot: Slot, runs: Sequence[TokenSpan]) -> None:
        for run in runs:
            slot.append(self.token_count(run), pinned=run.pinned, frame=run.picture is not None)

    def _read(self, last: Tensor, wants: Sequence[str], owners: Sequence[Owner]) -> StepResult:
        """Heads at frames, the language head at tokens; nothing else runs them."""
        scores: list[tuple[float, float] | None] = [None] * len(wants)
        logits: list[Tensor | None] = [None] * len(wants)
        frames = [i for i, want in enumerate(wants) if want == "scores"]
        tokens = [i for i, want in enumerate(wants) if want == "token"]
        if frames:
            pairs = self.adapters.score(last[frames], [owners[i] for i in frames])
            for i, pair in zip(frames, pairs.tolist(), strict=True):
                scores[i] = (pair[0], pair[1])
        if tokens:
            for i, row in zip(tokens, self.network.lm_head(last[tokens]), strict=True):
                logits[i] = row
        return StepResult(scores, logits)
