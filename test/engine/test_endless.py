"""Streams without an end: what a slid window holds, to the number, and that no length of life wears it out.

Above the window every token's key (before rotation) and value stay as they were computed, under the context of their time.
What is equal to a recomputation is everything that is computed from them now: each new token attends to exactly the kept
tokens, at positions 0, 1, 2, … in their order, none missing and none twice. ``Ledger`` computes just that, from sources it
keeps in a list.
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

from mmduet.duet import Renderer, Role
from mmduet.engine.kv_cache import CacheShape, Slot
from mmduet.engine.session import PreparedFrame
from mmduet.events import Frame, Query
from mmduet.model import LoadedModel
from mmduet.model.preprocess import frames_to_pixels

WINDOW = 6


@dataclass(eq=False)
class Kept:
    """Tokens that stay or go together: unrotated keys and values [kv_heads, n, head_dim] of every layer."""

    keys: list[Tensor]
    values: list[Tensor]
    frame: bool


class RotationLog:
    """A silent stream over a deep network, by its own modules; every step rotates every kept key again."""

    def __init__(self, model: LoadedModel, window: int) -> None:
        self.network, self.tokenizer, self.window = copy.deepcopy(model.network), model.tokenizer, window
        self.kept: list[Kept] = []
        self.renderer = Renderer()

    @torch.no_grad()
    def watch(self, query: str, seen: list[Frame]) -> list[float]:
        found: list[float] = []
        pieces = self.renderer.text_turn(Role.SYSTEM, PROMPT) + self.renderer.text_turn(Role.USER, query)
        ids = self.tokenizer.encode("".join(p.text for p in pieces))
        for frame in seen:
            *header, _ = self.renderer.frame()
            ids += self.tokenizer.encode("".join(p.text for p in header))
            pixels = frames_to_pixels([frame.image], self.network.config.vision.image_size)
            if sum(part.frame for part in self.kept) == self.window:
                del self.kept[next(k for k, part in enumerate(self.kept) if part.frame)]
            words = self.network.embed_tokens(torch.tensor(ids, dtype=torch.long))
            hidden = self._feed([words, self.network.embed_frames(pixels)[0]])
            found += self.network.score(hidden[-1:])[0].tolist()
            ids = []
        return found

    def _feed(self, parts: list[Tensor]) -> Tensor:
        """Final-norm hidden states [n, D] of the new tokens; ``parts``: text first, then a frame."""
        hidden = torch.cat(parts)
        fresh = [Kept([], [], frame) for frame in (False, True)]
        for number, layer in enumerate(self.network.lm.layers):
            hidden = self._layer(number, layer, hidden, fresh, len(parts[0]))
        self.kept += fresh if len(parts[0]) else fresh[1:]
        return self.network.lm.norm(hidden)

    def _layer(self, number: int, layer: torch.nn.Module, hidden: Tensor, fresh: list[Kept], text: int) -> Tensor:
        attention, new = layer.self_attn, len(hidden)
        normed = layer.input_layernorm(hidden)
        shape = (new, -1, attention.head_dim)
        queries, keys, values = (
            project(normed).view(shape).transpose(0, 1)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        for part, run in zip(fresh, (slice(0, text), slice(text, new)), strict=True):
            part.keys.append(keys[:, run])
            part.values.append(values[:, run])
        keys = torch.cat([*(part.keys[number] for part in self.kept), keys], 1)
        values = torch.cat([*(part.values[number] for part in self.kept), values], 1)
        total = keys.shape[1]
        cos, sin = self.network.lm.rotary_emb(hidden, torch.arange(total)[None])
        _, keys = apply_rotary_pos_emb(keys[None], keys[None], cos, sin)
        queries, _ = apply_rotary_pos_emb(queries[None], queries[None], cos[:, -new:], sin[:, -new:])
        mask = torch.ones(new, total, dtype=torch.bool).tril(total - new)
        out = torch.nn.functional.scaled_dot_product_attention(queries, keys, values[None], mask, enable_gqa=True)
        hidden = hidden + attention.o_proj(out[0].transpose(0, 1).reshape(new, -1))
        return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


@pytest.mark.parametrize("layers", [1, 3])
def test_above_the_window_a_deep_network_sees_the_kept_tokens_at_compact_positions(layers: int) -> None:
    seen = frames(60)
    wanted = RotationLog(lively_model(layers, seed=2), WINDOW).watch("What?", seen)
    rig = Rig(lively_model(layers, seed=2))
    found = scores(rig.watch(options(window=WINDOW, text_tokens=64), [Query("What?", 0.0), *seen]))
    np.testing.assert_allclose(found, wanted, atol=2e-5, rtol=0)
    unbounded = scores(Rig(lively_model(layers, seed=2)).watch(options(), [Query("What?", 0.0), *seen]))
    np.testing.assert_allclose(found[: 2 * WINDOW], unbounded[: 2 * WINDOW], atol=1e-6, rtol=0)
    assert np.abs(np.subtract(found, unbounded)[2 * WINDOW :]).max() > 1e-2  # the window does forget


def test_ten_thousand_evictions_leave_every_key_where_its_source_puts_it() -> None:
    """Keys and values of all that is live, against sources rotated once, in float64."""
    shape = CacheShape(2, 2, 16, 1e6, torch.float32, torch.device("cpu"))
    slot, generator = Slot(shape, 160), torch.Generator().manual_seed(0)
    live: list[tuple[Tensor, Tensor]] = []

    def append(size: int, *, pinned: bool = False, frame: bool = False) -> None:
        slot.reserve(size)
        keys, values = torch.randn(2, 2, 2, size, 16, generator=generator)
        positions = torch.arange(slot.end, slot.end + size)
        for layer in range(2):
            slot.write(layer, rotated(keys, positions)[layer].float(), values[layer])
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
    run = slice(slot.start, slot.end)
    wanted = rotated(keys, torch.arange(slot.start, slot.end))
    assert slot.end - slot.start == 11 + 20 * 5
    torch.testing.assert_close(slot.keys[:, :, run].double(), wanted, atol=1e-4, rtol=0)
    assert torch.equal(slot.values[:, :, run], values)


def rotated(keys: Tensor, positions: Tensor) -> Tensor:
    """Keys [..., n, 16] by rotary embedding at theta 1e6, in float64."""
    angle = positions[:, None].double() / 1e6 ** (torch.arange(0, 16, 2).double() / 16)
    first, second = keys.double().chunk(2, -1)
    return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1)


@pytest.mark.slow
def test_ten_thousand_evictions_do_not_move_the_scores() -> None:
    """In one layer what is seen now depends on what is in view alone: an old stream scores as a young one does."""
    rig = Rig(lively_model(1))
    given = options(window=WINDOW, text_tokens=64)
    old = rig.open(given)
    rig.push(old, Query("What?", 0.0))
    pool = [rig.prepare(Frame(i, 0.0, picture(i))) for i in range(50)]
    found: list[float] = []
    for k in range(10_050):
        rig.push(old, PreparedFrame(Frame(k, k / 2, pool[k % 50].frame.image), pool[k % 50].pixels))
        found += scores(list(rig.run(old)))[:2]
    young = scores(rig.watch(given, [Query("What?", 0.0), *(Frame(i, i / 2, picture(i)) for i in range(50))]))
    np.testing.assert_allclose(found[-2 * 44 :], young[-2 * 44 :], atol=1e-4, rtol=0)


def test_a_query_asked_an_hour_ago_still_governs() -> None:
    """At two frames a second; one session was asked then, one something else, one just now."""
    rig = Rig(lively_model(1))
    given = options(window=WINDOW, text_tokens=64)
    sessions = [rig.open(given) for _ in range(2)]
    for session, text in zip(sessions, ("Is it red?", "Who comes?"), strict=True):
        rig.push(session, Query(text, 0.0))
    pool = [rig.prepare(Frame(i, 0.0, picture(i))) for i in range(20)]
    last: dict[int, list[float]] = {}
    for k in range(7_200):
        for session in sessions:
            rig.push(session, PreparedFrame(Frame(k, k / 2, pool[k % 20].frame.image), pool[k % 20].pixels))
        while rig.busy:
            for session, output in rig.step():
                last[session.id] = [*last.get(session.id, []), *scores([output])][-2 * WINDOW :]
    asked, other = (np.array(last[session.id]) for session in sessions)
    fresh = scores(rig.watch(given, [Query("Is it red?", 0.0), *(Frame(i, i / 2, picture(i)) for i in range(20))]))
    np.testing.assert_allclose(asked, fresh[-2 * WINDOW :], atol=1e-4, rtol=0)
    assert np.abs(asked - other).max() > 5e-3
