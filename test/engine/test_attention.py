"""Attention backends: each equals attention session by session, and whole engines with them produce the same outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from duet_rig import Rig, frames, lively_model, options, replies, scores
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_kernel import reference_kernel

from mmduet.engine.attention import Backend, choose_backend, unavailable
from mmduet.engine.attention.loop import LoopBackend
from mmduet.engine.attention.padded import PRODUCTS_FROM, PaddedBackend, attend_by_products, attend_exactly
from mmduet.engine.attention.varlen import VarlenBackend
from mmduet.engine.config import EngineConfig
from mmduet.engine.kv_pool import CacheShape, KVPool
from mmduet.engine.step_batch import NewTokens, StepBatch
from mmduet.errors import OptionError
from mmduet.events import Context, Frame, Query

CPU = torch.device("cpu")
SHAPE = CacheShape(2, 2, 12, 1e4, torch.float32, CPU)
HEADS = 6


BACKENDS: dict[str, Backend] = {"padded": PaddedBackend(), "varlen": VarlenBackend(reference_kernel)}

SESSIONS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 30), st.integers(1, 9)),  # tokens evicted, tokens held, new tokens
    min_size=1,
    max_size=7,
)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("fp8", [False, True])
@given(sessions=SESSIONS, seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_backend_equals_attention_session_by_session(
    name: str, fp8: bool, sessions: list[tuple[int, int, int]], seed: int
) -> None:
    pool, entries = KVPool(replace(SHAPE, fp8=fp8), 512, 0), []
    generator = torch.Generator().manual_seed(seed)
    pool.storage.copy_(torch.randn(pool.storage.shape, generator=generator))  # also around the contexts
    for evicted, held, new in sessions:
        slot = pool.open(evicted + held + new, 0)
        slot.start, slot.end = evicted, evicted + held
        entries.append(NewTokens(slot, new))
    batch = StepBatch.build(entries)
    for step in (batch, batch.of_last_rows()):
        queries = torch.randn(step.size, HEADS + 2, 12, generator=generator)[:, :HEADS]  # a view, as of fused layers
        for layer in range(2):
            expected = LoopBackend().plan(step, pool).attend(layer, queries)
            actual = BACKENDS[name].plan(step, pool).attend(layer, queries)
            torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_loop_equals_attention_over_the_tokens_of_a_session() -> None:
    """The definition, without masks: each new token attends to the context up to itself."""
    pool = KVPool(SHAPE, 64, 0)
    pool.storage.copy_(torch.randn(pool.storage.shape, generator=torch.Generator().manual_seed(1)))
    slot = pool.open(20, 0)
    slot.start, slot.end = 3, 12
    queries = torch.randn(4, HEADS, 12)
    outputs = LoopBackend().plan(StepBatch.build([NewTokens(slot, 4)]), pool).attend(1, queries)
    for number in range(4):
        keys, values = pool.view(1, slot.base + 3, 9 + number + 1).permute(1, 2, 0, 3)
        for head in range(HEADS):
            weights = (keys[head // 3] @ queries[number, head] / 12**0.5).softmax(0)
            torch.testing.assert_close(outputs[number, head], weights @ values[head // 3], atol=1e-5, rtol=1e-5)


def test_step_batch_describes_the_row() -> None:
    pool = KVPool(SHAPE, 64, 0)
    first, second = pool.open(16, 0), pool.open(16, 0)
    first.start, first.end = 2, 5
    second.end = 7
    batch = StepBatch.build([NewTokens(first, 2), NewTokens(second, 1)])
    assert batch.positions.tolist() == [5, 6, 7]
    assert batch.tokens.tolist() == [5, 6, 16 + 7]
    assert (batch.kv_begin.tolist(), batch.kv_length.tolist()) == ([2, 16], [5, 8])
    assert (batch.offsets.tolist(), batch.last_rows.tolist(), batch.size) == ([0, 2, 3], [1, 2], 3)
    last = batch.of_last_rows()
    assert (last.positions.tolist(), last.counts.tolist(), last.kv_length.tolist()) == ([6, 7], [1, 1], [5, 8])


STREAMS: list[tuple[object, list[Frame | Query | Context]]] = [
    (options(0.5, window=4, tokens=5), [Query("What?", 0.0), *frames(12, 1)]),
    (options(0.6, keep=True, tokens=11), [*frames(9, 2), Query("Late?", 3.1)]),
    (options(0.4, window=6, keep=True), [Context("Ann", 0.0, keep=True), *frames(14, 4), Query("And?", 2.2)]),
]


@pytest.mark.parametrize("name", BACKENDS)
def test_engine_with_each_backend_equals_the_engine_with_loop(name: str) -> None:
    def run(backend: Backend) -> list[list[object]]:
        rig = Rig(lively_model())
        rig.use_attention(backend)
        sessions = [rig.open(session_options) for session_options, _ in STREAMS]
        outputs: dict[int, list[object]] = {session.id: [] for session in sessions}
        for session, (_, items) in zip(sessions, STREAMS, strict=True):
            for item in items:
                rig.push(session, item)
            rig.end(session)
        while rig.busy:
            for session, output in rig.step():
                outputs[session.id].append(output)
        return list(outputs.values())

    for actual, expected in zip(run(BACKENDS[name]), run(LoopBackend()), strict=True):
        np.testing.assert_allclose(scores(actual), scores(expected), atol=1e-5, rtol=0)
        assert replies(actual) == replies(expected)
        assert replies(actual)


def test_unavailable_backend_is_rejected_with_the_reason() -> None:
    with pytest.raises(OptionError, match=r"attention 'varlen' needs a CUDA device, and the model is on cpu; use auto"):
        choose_backend("varlen", CPU, torch.bfloat16)
    with pytest.raises(OptionError, match="attention must be one of auto, loop, padded, products, varlen, got 'flash'"):
        choose_backend("flash", CPU, torch.float32)
    assert (
        unavailable("varlen", torch.device("cuda"), torch.float32)
        == "needs float16 or bfloat16, and the model has float32"
    )


def test_auto_chooses_a_backend_that_is_available() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert choose_backend("auto", CPU, dtype).name == "padded"


def test_products_are_for_bfloat16_on_cpus() -> None:
    assert choose_backend("products", CPU, torch.bfloat16).name == "products"
    with pytest.raises(
        OptionError, match="'products' needs a model in bfloat16 on a CPU, and this one is in float32 on"
    ):
        choose_backend("products", CPU, torch.float32)


def test_engine_config_selects_the_backend() -> None:
    model = lively_model()
    assert Rig(model, config=EngineConfig(attention="loop")).attention == "loop"
    with pytest.raises(OptionError, match="CUDA"):
        Rig(model, config=replace(EngineConfig(), attention="varlen"))


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("fp8", [False, True])
def test_invalid_values_of_a_neighbour_do_not_reach_other_sessions(name: str, fp8: bool) -> None:
    pool = KVPool(replace(SHAPE, fp8=fp8), 96, 0)
    broken, *healthy = [pool.open(32, 0) for _ in range(3)]
    broken.end = 30
    pool.storage[:, broken.base : broken.base + 32].copy_(torch.tensor(torch.nan))
    for slot, length in zip(healthy, (5, 8), strict=True):
        slot.end = length
    batch = StepBatch.build([NewTokens(slot, 2) for slot in healthy])
    assert BACKENDS[name].plan(batch, pool).attend(0, torch.randn(4, HEADS, 12)).isfinite().all()


def test_products_in_bfloat16_are_close_to_exact_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (torch.randn(2, 2, n, 16, generator=generator) for n in (330, 400, 400))
    mask = torch.zeros(1, 1, 330, 400).masked_fill_(torch.ones(330, 400).tril(70) == 0, -torch.inf)
    expected = attend_exactly(queries, keys, values, mask)
    arguments = [part.bfloat16() for part in (queries, keys, values, mask)]
    assert PRODUCTS_FROM <= 2 * 330 * 400
    actual = attend_by_products(*arguments)
    torch.testing.assert_close(actual.float(), expected, atol=0.03, rtol=0.03)
