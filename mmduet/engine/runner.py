"""Runs one step on the device: tokens and frames in, scores and sampled tokens out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmduet.engine.attention import choose_backend
from mmduet.engine.config import EngineConfig
from mmduet.engine.forward import PackedForward
from mmduet.engine.frame_encoder import FrameEncoder
from mmduet.engine.graphs import GraphedForward, create_forward
from mmduet.engine.host_copy import to_device
from mmduet.engine.pool_size import cache_shape, create_pool
from mmduet.engine.sampling import Sampler, TokenSampler, sample_next
from mmduet.engine.session import Session, TokenSpan, WorkItem
from mmduet.engine.step_batch import NewTokens, StepBatch
from mmduet.model import LoadedModel
from mmduet.model.adapter_bank import AdapterBank, AdapterName
from mmduet.model.inference.decoder import Decoder

Job = tuple[Session, WorkItem]


@dataclass(frozen=True)
class StepResult:
    """Per job: ``scores[i]`` is (informative, relevance) and ``tokens[i]`` the next token if it requested them, else None."""

    scores: list[tuple[float, float] | None]
    tokens: list[int | None]


class Runner:
    """Owns the weights on their device, and the keys and values of all sessions."""

    def __init__(self, model: LoadedModel, config: EngineConfig | None = None) -> None:
        config = config or EngineConfig()
        self.network = model.network.eval()
        self.network.tower.optimize()
        self.config = model.config
        self.adapters = model.adapters or AdapterBank(model.network, {})
        decoder = Decoder(self.network.lm)  # before the pool takes its share of the free memory
        self.pool = create_pool(cache_shape(self.network, fp8=config.kv_dtype == "fp8"), self.config, config.kv_bytes)
        backend = choose_backend(config.attention, self.network.device, self.network.dtype)
        packed = PackedForward(decoder, self.pool, backend, is_routed=bool(self.adapters.names))
        self.encoder = FrameEncoder(self.network, self.adapters)
        self.forward = create_forward(packed, self.config, graphs=config.graphs)

    def token_count(self, span: TokenSpan) -> int:
        """Return the number of tokens of a span."""
        return self.config.frame_tokens if span.frame is not None else len(span.ids)

    @torch.inference_mode()
    def capture_graphs(self, sessions: int, context: int) -> None:
        """Capture the CUDA graphs of steps of up to ``sessions`` sessions with ``context`` tokens each, if graphs are used."""
        if isinstance(self.forward, GraphedForward):
            self.forward.warm_up(sessions, context)

    @torch.inference_mode()
    def run(self, jobs: Sequence[Job]) -> StepResult:
        """Run one packed forward over all jobs. Slots must have room; keys, values and segments are appended to them.

        If it raises, no token has been appended, and the step can be repeated.
        """
        self.pool.relocate(session.slot for session, _ in jobs)
        counts = [sum(self.token_count(span) for span in work.spans) for _, work in jobs]
        batch = StepBatch.build([NewTokens(session.slot, n) for (session, _), n in zip(jobs, counts, strict=True)])
        adapters = [session.options.adapter for session, _ in jobs]
        self.encoder.fill([(session, work.spans) for session, work in jobs])
        embeds = self._embed([span for _, work in jobs for span in work.spans])
        with self.adapters.route_rows(adapters, counts):
            last = self.forward(embeds, batch)  # [J, D]
        result = self._read(last, jobs, adapters)
        for session, work in jobs:
            for span in work.spans:
                session.slot.append(self.token_count(span), pinned=span.pinned, is_frame=span.frame is not None)
        return result

    def _embed(self, spans: Sequence[TokenSpan]) -> Tensor:
        """Return the embeddings [N, D] of all spans in order, with one embedding look-up."""
        ids = [token for span in spans for token in span.ids]
        device, dtype = self.network.device, self.network.dtype
        frames = [span.frame.embeds for span in spans if span.frame is not None and span.frame.embeds is not None]
        visual = torch.cat(frames).to(device, dtype) if frames else None  # [frames * K, D]
        if not ids and visual is not None:
            return visual
        text = self.network.embed_tokens(to_device(torch.tensor(ids, dtype=torch.long), device))  # [T, D]
        if visual is None:
            return text
        order = _interleave([(self.token_count(span), span.frame is not None) for span in spans], len(ids))
        return torch.cat([text, visual]).index_select(0, to_device(torch.tensor(order), device))

    def _read(self, last: Tensor, jobs: Sequence[Job], adapters: Sequence[AdapterName]) -> StepResult:
        """Apply the two heads or the language head to last hidden states [J, D], only where they are requested."""
        scored = [i for i, (_, work) in enumerate(jobs) if work.output == "scores"]
        decoded = [i for i, (_, work) in enumerate(jobs) if work.output == "tokens"]
        parts = []
        if scored:
            parts.append(self.adapters.score(_rows(last, scored), [adapters[i] for i in scored]).flatten())
        if decoded:
            logits = self.network.lm_head(_rows(last, decoded))  # [decoded, V]
            parts.append(sample_next(logits, [_sampler(jobs[i][0]) for i in decoded]).float())
        values = iter(torch.cat(parts).tolist() if parts else ())  # one copy to the host; tokens are exact below 2**24
        scores: list[tuple[float, float] | None] = [None] * len(jobs)
        tokens: list[int | None] = [None] * len(jobs)
        for i in scored:
            scores[i] = (next(values), next(values))
        for i in decoded:
            tokens[i] = token = int(next(values))
            if type(sampler := _sampler(jobs[i][0])) is Sampler:  # others have counted it themselves
                sampler.accept(token)
        return StepResult(scores, tokens)


def _rows(hidden: Tensor, rows: list[int]) -> Tensor:
    return hidden if len(rows) == len(hidden) else hidden[rows]


def _interleave(spans: Sequence[tuple[int, bool]], text_tokens: int) -> list[int]:
    """Return for each token of the row its index in text followed by visual tokens; ``spans``: (tokens, whether a frame)."""
    text, visual, order = 0, text_tokens, list[int]()
    for count, is_frame in spans:
        if is_frame:
            order += range(visual, visual + count)
            visual += count
        else:
            order += range(text, text + count)
            text += count
    return order


def _sampler(session: Session) -> TokenSampler:
    assert session.reply is not None
    return session.reply.sampler
