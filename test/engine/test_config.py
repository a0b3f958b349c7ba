"""Options of an engine: wrong values, and models that are not where the options require."""

from __future__ import annotations

from typing import Any

import pytest
from duet_rig import lively_model

from mmduet.engine import Engine
from mmduet.engine.config import EngineConfig
from mmduet.errors import OptionError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "paded"}, "attention 'paded' is unknown, did you mean padded?"),
        ({"dtype": "float8"}, "dtype 'float8' is unknown"),
        ({"device": "meta"}, "device must be auto, cpu, cuda, cuda:N or mps, got 'meta'"),
        ({"max_step_tokens": 0}, "max_step_tokens must be at least 1, got 0"),
        ({"kv_bytes": 0}, "kv_bytes must be at least 1, got 0"),
    ],
)
def test_wrong_values_are_errors_that_name_the_option(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        EngineConfig(**options)
    assert str(caught.value).startswith(message)


def test_a_model_in_another_number_type_is_an_error() -> None:
    with pytest.raises(OptionError, match="needs a model in bfloat16, but it is in float32; pass dtype to load_model"):
        Engine(lively_model(), EngineConfig(dtype="bfloat16"))


def test_a_model_on_another_device_is_an_error() -> None:
    model = lively_model()
    model.network.to("meta")
    with pytest.raises(OptionError, match="needs a model on cpu, but it is on meta; pass device to load_model"):
        Engine(model, EngineConfig(device="cpu"))


def test_varlen_is_an_error_without_cuda() -> None:
    model = lively_model()
    model.network.to("cpu")
    with pytest.raises(OptionError, match="varlen"):
        Engine(model, EngineConfig(attention="varlen"))


def test_a_model_that_fits_is_accepted() -> None:
    model = lively_model()
    config = EngineConfig(device=str(model.network.device), dtype="float32")
    assert Engine(model, config).engine_config == config
