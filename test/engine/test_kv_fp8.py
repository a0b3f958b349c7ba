"""Keys and values in 8-bit floating point."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmduet.engine.kv_fp8 import calibrate_scales, dequantize_rows, quantize_rows, quantize_rows_with, row_bytes

TOKENS, KV_HEADS, HEAD_DIM = 200, 4, 64


def random_rows(dtype: torch.dtype = torch.float32) -> Tensor:
    """Return rows whose keys have a few large channels, as those of language models, and heads of different sizes."""
    rows = torch.randn(TOKENS, 2, KV_HEADS, HEAD_DIM, generator=torch.Generator().manual_seed(0))
    rows[:, 0, :, :4] *= 8
    rows *= torch.tensor([0.05, 1.0, 4.0, 300.0])[:, None]
    return rows.to(dtype)


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def attend(rows: Tensor, queries: Tensor) -> Tensor:
    keys, values = (rows.float() / rows.float().std((0, 3), keepdim=True)).permute(
        1, 2, 0, 3
    )  # [kv_heads, N, head_dim]
    return F.scaled_dot_product_attention(queries, keys, values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_restored_with_the_accuracy_of_the_format(dtype: torch.dtype) -> None:
    rows = random_rows(dtype)
    codes, scales = quantize_rows(rows)
    restored = dequantize_rows(codes, scales, dtype)
    assert restored.dtype == dtype
    for kind in range(2):
        for head in range(KV_HEADS):
            assert 0.01 < relative_error(restored[:, kind, head], rows[:, kind, head]) < 0.04


def test_codes_and_scales_take_one_byte_each() -> None:
    codes, scales = quantize_rows(random_rows())
    assert codes.nbytes + scales.nbytes == TOKENS * row_bytes(KV_HEADS, HEAD_DIM)
    assert row_bytes(KV_HEADS, HEAD_DIM) < 0.51 * 2 * KV_HEADS * HEAD_DIM * torch.bfloat16.itemsize


def test_restored_rows_are_the_same_in_every_number_type() -> None:
    codes, scales = quantize_rows(random_rows())
    exact = codes.double() * scales.double()[..., None]
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(dequantize_rows(codes, scales, dtype).double(), exact)


def test_rows_that_were_restored_are_not_changed_by_rounding_them_again() -> None:
    once = dequantize_rows(*quantize_rows(random_rows()), torch.float32)
    assert torch.equal(dequantize_rows(*quantize_rows(once), torch.float32), once)


def test_zeros_stay_zeros() -> None:
    rows = torch.zeros(1, 2, KV_HEADS, HEAD_DIM)
    assert torch.equal(dequantize_rows(*quantize_rows(rows), torch.float32), rows)


def test_a_row_does_not_depend_on_the_others() -> None:
    rows = random_rows()
    codes, scales = quantize_rows(rows)
    alone, scale = quantize_rows(rows[7:8])
    assert torch.equal(alone.view(torch.uint8), codes[7:8].view(torch.uint8))
    assert torch.equal(scale.view(torch.uint8), scales[7:8].view(torch.uint8))


def test_calibrated_scales_fit_all_examples_and_saturate_beyond_them() -> None:
    rows = random_rows()
    scales = calibrate_scales(rows)
    restored = dequantize_rows(quantize_rows_with(rows, scales), scales, torch.float32)
    assert scales.shape == (2, KV_HEADS)
    assert relative_error(restored, rows) < 0.04
    largest = 448 * scales.float()[..., None]
    beyond = dequantize_rows(quantize_rows_with(100 * rows, scales), scales, torch.float32)
    assert torch.equal(beyond.abs().amax((0, 3), keepdim=True)[0], largest)
    assert beyond.isfinite().all()


def test_headroom_makes_room_for_larger_values() -> None:
    rows = random_rows()
    scales = calibrate_scales(rows, headroom=4)
    restored = dequantize_rows(quantize_rows_with(4 * rows, scales), scales, torch.float32)
    assert relative_error(restored, 4 * rows) < 0.04


@pytest.mark.parametrize("is_calibrated", [False, True])
def test_attention_to_restored_rows_drifts_little(is_calibrated: bool) -> None:
    rows = random_rows()
    queries = torch.randn(KV_HEADS, 5, HEAD_DIM, generator=torch.Generator().manual_seed(2))
    scales = calibrate_scales(rows)
    codes = quantize_rows_with(rows, scales)
    if not is_calibrated:
        codes, scales = quantize_rows(rows)
    restored = dequantize_rows(codes, scales, torch.float32)
    assert 0.005 < relative_error(attend(restored, queries), attend(rows, queries)) < 0.08
