"""Endless streams: the exact contents of the context after evictions, and no drift over time.

Above the window, unrotated keys and values stay as they were computed, with the context of that time. Each new token attends to
exactly the retained tokens, at positions 0, 1, 2, … in their order. ``ReferenceStream`` computes this from unrotated keys.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from duet_rig import PROMPT, Rig, frames, lively_model, options, picture, scores
from torch import Tensor
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb
from visual_tokens import embed_images

from mmduet.duet import Renderer, Role
from mmduet.engine.kv_pool import CacheShape, KVPool
from mmduet.engine.session import PreparedFrame
from mmduet.events import Frame, Query
from mmduet.model import LoadedModel

WINDOW = 6


@dataclass(eq=False)
class CachedTokens:
    """Tokens that leave the context together: unrotated keys and values [kv_heads, n, head_dim] of every layer."""

    keys: list[Tensor]
    values: list[Tensor]
    frame: bool


class ReferenceStream:
    """Reference for a stream without replies: every step rotates all retained keys from unrotated ones."""

    def __init__(self, model: LoadedModel, window: int) -> None:
        self.network, self.tokenizer, self.window = copy.deepcopy(model.network), model.tokenizer, window
        self.kept: list[CachedTokens] = []
        self.renderer = Renderer()

    @torch.no_grad()
    def run_stream(self, query: str, stream: list[Frame]) -> list[float]:
        actual: list[float] = []
        pieces = self.renderer.text_turn(Role.SYSTEM, PROMPT) + self.renderer.text_turn(Role.USER, query)
        ids = self.tokenizer.encode("".join(p.text for p in pieces))
        for frame in stream:
            *header, _ = self.renderer.frame()
            ids += self.tokenizer.encode("".join(p.text for p in header))
            if sum(part.frame for part in self.kept) == self.window:
                del self.kept[next(k for k, part in enumerate(self.kept) if part.frame)]
            words = self.network.embed_tokens(torch.tensor(ids, dtype=torch.long, device=self.network.device))
            hidden = self._feed([words, embed_images(self.network, [frame.image])[0]])
            actual += self.network.score(hidden[-1:])[0].tolist()
            ids = []
        return actual

    def _feed(self, parts: list[Tensor]) -> Tensor:
        """Return final-norm hidden states [n, D] of the new tokens. ``parts``: text, then a frame."""
        hidden = torch.cat(parts)
        new_tokens = [CachedTokens([], [], frame) for frame in (False, True)]
        for number, layer in enumerate(self.network.lm.layers):
            hidden = self._layer(number, layer, hidden, new_tokens, len(parts[0]))
        self.kept += new_tokens if len(parts[0]) else new_tokens[1:]
        return self.network.lm.norm(hidden)

    def _layer(
        self, number: int, layer: torch.nn.Module, hidden: Tensor, new_tokens: list[CachedTokens], text: int
    ) -> Tensor:
        attention, new = layer.self_attn, len(hidden)
        normed = layer.input_layernorm(hidden)
        shape = (new, -1, attention.head_dim)
        queries, keys, values = (
            project(normed).view(shape).transpose(0, 1)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        for part, run in zip(new_tokens, (slice(0, text), slice(text, new)), strict=True):
            part.keys.append(keys[:, run])
            part.values.append(values[:, run])
        keys = torch.cat([*(part.keys[number] for part in self.kept), keys], 1)
        values = torch.cat([*(part.values[number] for part in self.kept), values], 1)
        total = keys.shape[1]
        cos, sin = self.network.lm.rotary_emb(hidden, torch.arange(total, device=hidden.device)[None])
        _, keys = apply_rotary_pos_emb(keys[None], keys[None], cos, sin)
        queries, _ = apply_rotary_pos_emb(queries[None], queries[None], cos[:, -new:], sin[:, -new:])
        mask = torch.ones(new, total, dtype=torch.bool, device=hidden.device).tril(total - new)
        out = torch.nn.functional.scaled_dot_product_attention(queries, keys, values[None], mask, enable_gqa=True)
        hidden = hidden + attention.o_proj(out[0].transpose(0, 1).reshape(new, -1))
        return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


@pytest.mark.parametrize("layers", [1, 3])
def test_above_the_window_tokens_attend_to_the_retained_ones_at_compact_positions(layers: int) -> None:
    stream = frames(60)
    expected = ReferenceStream(lively_model(layers, seed=2), WINDOW).run_stream("What?", stream)
    rig = Rig(lively_model(layers, seed=2))
    actual = scores(rig.run_stream(options(window=WINDOW, text_tokens=64), [Query("What?", 0.0), *stream]))
    np.testing.assert_allclose(actual, expected, atol=2e-5, rtol=0)
    unbounded = scores(Rig(lively_model(layers, seed=2)).run_stream(options(), [Query("What?", 0.0), *stream]))
    np.testing.assert_allclose(actual[: 2 * WINDOW], unbounded[: 2 * WINDOW], atol=1e-6, rtol=0)
    assert np.abs(np.subtract(actual, unbounded)[2 * WINDOW :]).max() > 1e-2  # evictions change the scores


def test_keys_are_exact_after_ten_thousand_evictions() -> None:
    """Compare keys and values of all live tokens with unrotated keys that are rotated once, in float64."""
    pool = KVPool(CacheShape(2, 2, 16, 1e6, torch.float32, torch.device("cpu")), 160, 32)
    slot, generator = pool.open(160, 16), torch.Generator().manual_seed(0)
    live: list[tuple[Tensor, Tensor]] = []

    def append(size: int, *, pinned: bool = False, frame: bool = False) -> None:
        slot.reserve(size)
        pool.relocate([slot])
        keys, values = torch.randn(2, 2, 2, size, 16, generator=generator)
        positions = torch.arange(slot.end, slot.end + size)
        for layer in range(2):
            new = torch.stack([rotated(keys, positions)[layer].float(), values[layer]])  # [2, kv_heads, size, head_dim]
            pool.write(layer, positions, new.permute(2, 0, 1, 3))
        slot.append(size, pinned=pinned, is_frame=frame)
        live.append((keys, values))

    append(11, pinned=True)
    evicted = 0
    while evicted < 10_000:
        while slot.frames >= 20:
            slot.evict_frame()
            del live[1]
            evicted += 1
        append(5, frame=True)
    keys, values = (torch.cat(part, 2) for part in zip(*live, strict=True))
    pool.relocate([slot])
    held = [pool.view(layer, slot.start, slot.length).permute(1, 2, 0, 3) for layer in range(2)]
    expected = rotated(keys, torch.arange(slot.start, slot.end))
    assert slot.end - slot.start == 11 + 20 * 5
    torch.testing.assert_close(torch.stack([keys for keys, _ in held]).double(), expected, atol=1e-4, rtol=0)
    assert torch.equal(torch.stack([values for _, values in held]), values)


def rotated(keys: Tensor, positions: Tensor) -> Tensor:
    """Rotate keys [..., n, 16] with theta 1e6, in float64."""
    angle = positions[:, None].double() / 1e6 ** (torch.arange(0, 16, 2).double() / 16)
    first, second = keys.double().chunk(2, -1)
    return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1)


@pytest.mark.slow
def test_scores_do_not_drift_over_ten_thousand_evictions() -> None:
    """With one layer, scores depend on the context alone, so an old session scores like a new one."""
    rig = Rig(lively_model(1))
    session_options = options(window=WINDOW, text_tokens=64)
    old_session = rig.open(session_options)
    rig.push(old_session, Query("What?", 0.0))
    pool = [rig.prepare(Frame(i, 0.0, picture(i))) for i in range(50)]
    actual: list[float] = []
    for k in range(10_050):
        rig.push(old_session, PreparedFrame(Frame(k, k / 2, pool[k % 50].frame.image), pool[k % 50].pixels))
        actual += scores(list(rig.run(old_session)))[:2]
    new_scores = scores(
        rig.run_stream(session_options, [Query("What?", 0.0), *(Frame(i, i / 2, picture(i)) for i in range(50))])
    )
    np.testing.assert_allclose(actual[-2 * 44 :], new_scores[-2 * 44 :], atol=1e-4, rtol=0)


@pytest.mark.parametrize("minutes", [10, pytest.param(60, marks=pytest.mark.slow)])
def test_query_from_long_ago_still_determines_the_scores(minutes: int) -> None:
    """At two frames per second: sessions with this query long ago, with another query, and with this query just now."""
    rig = Rig(lively_model(1))
    session_options = options(window=WINDOW, text_tokens=64)
    sessions = [rig.open(session_options) for _ in range(2)]
    for session, text in zip(sessions, ("Is it red?", "Who comes?"), strict=True):
        rig.push(session, Query(text, 0.0))
    pool = [rig.prepare(Frame(i, 0.0, picture(i))) for i in range(20)]
    last: dict[int, list[float]] = {}
    for k in range(120 * minutes):
        for session in sessions:
            rig.push(session, PreparedFrame(Frame(k, k / 2, pool[k % 20].frame.image), pool[k % 20].pixels))
        while rig.busy:
            for session, output in rig.step():
                last[session.id] = [*last.get(session.id, []), *scores([output])][-2 * WINDOW :]
    with_query, with_other_query = (np.array(last[session.id]) for session in sessions)
    recent_query = scores(
        rig.run_stream(session_options, [Query("Is it red?", 0.0), *(Frame(i, i / 2, picture(i)) for i in range(20))])
    )
    np.testing.assert_allclose(with_query, recent_query[-2 * WINDOW :], atol=1e-4, rtol=0)
    assert np.abs(with_query - with_other_query).max() > 5e-3
