"""Options of an engine: how much it computes in one step, with which attention, and how much memory it keeps for sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from mmduet.errors import OptionError
from mmduet.model.devices import DtypeName, dtype_name, resolve_device
from mmduet.text import did_you_mean

AttentionName = Literal["auto", "loop", "padded", "products", "varlen"]
KVDtypeName = Literal["auto", "fp8"]


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Options of an engine. A wrong value raises ``OptionError``.

    Attributes:
        device: The device that the model must be on. An engine runs where ``load_model`` has put the weights and moves nothing,
            so a model elsewhere is an error; ``auto`` accepts any.
        dtype: The number type that the model must have, likewise; ``auto`` and ``stored`` accept any.
        attention: How attention over the sessions of a step is computed; ``auto`` chooses for the device.
        kv_dtype: The number type in which keys and values are stored: ``auto`` is the model's; ``fp8`` (E4M3) takes a half or a
            quarter of its memory and changes scores a little.
        max_step_tokens: Bound of the tokens of one step; at least one session takes part in a step in any case.
        kv_bytes: Memory for keys and values of all sessions; None: from the memory that the device has free.
        graphs: Replay steps as CUDA graphs, where ``varlen`` computes attention.
    """

    device: str = "auto"
    dtype: DtypeName = "auto"
    attention: AttentionName = "auto"
    kv_dtype: KVDtypeName = "auto"
    max_step_tokens: int = 4096
    kv_bytes: int | None = None
    graphs: bool = True

    def __post_init__(self) -> None:
        _check_name("dtype", self.dtype, get_args(DtypeName))
        _check_name("attention", self.attention, get_args(AttentionName))
        _check_name("kv_dtype", self.kv_dtype, get_args(KVDtypeName))
        _check_positive("max_step_tokens", self.max_step_tokens)
        if self.kv_bytes is not None:
            _check_positive("kv_bytes", self.kv_bytes)
        resolve_device(self.device)

    def check_model(self, device: torch.device, dtype: torch.dtype) -> None:
        """Raise ``OptionError`` unless a model on ``device`` in ``dtype`` is what the options require."""
        if self.device != "auto" and not _is_same(resolve_device(self.device), device):
            raise OptionError(
                f"the engine needs a model on {self.device}, but it is on {device}; pass device to load_model"
            )
        if self.dtype not in ("auto", "stored", dtype_name(dtype)):
            raise OptionError(
                f"the engine needs a model in {self.dtype}, but it is in {dtype_name(dtype)}; pass dtype to load_model"
            )


def _is_same(required: torch.device, device: torch.device) -> bool:
    """Return whether two devices are the same; only CUDA devices have an index that matters."""
    return required == device if required.type == "cuda" else required.type == device.type


def _check_name(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise OptionError(f"{option} {value!r} is unknown{did_you_mean(value, known)} use one of {', '.join(known)}")


def _check_positive(option: str, value: int) -> None:
    if value < 1:
        raise OptionError(f"{option} must be at least 1, got {value}")
