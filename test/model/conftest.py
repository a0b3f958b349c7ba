"""Load models on the CPU in the tests of this folder, which compare them with files and with Transformers' models there."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
