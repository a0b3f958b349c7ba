"""A CUDA device that computes nothing, for machines without one: every operation checks that its operands are on one device.

PyTorch's fake tensors have a shape, a type and a device but no values. Indexing, and reading values (which return 0 here), are
replaced because they need a real CUDA build of PyTorch. Only forward computation works, without gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import interpolate
from torch.overrides import TorchFunctionMode

from mmduet.model.checkpoint import build_meta_model
from mmduet.model.config import DuetConfig
from mmduet.model.network import DuetModel

DEVICE = torch.device("cuda", 0)

CONVERSIONS = {
    Tensor.float: torch.float32,
    Tensor.double: torch.float64,
    Tensor.half: torch.float16,
    Tensor.bfloat16: torch.bfloat16,
    Tensor.int: torch.int32,
    Tensor.long: torch.int64,
    Tensor.bool: torch.bool,
}


@contextmanager
def fake_cuda() -> Iterator[torch.device]:
    """Yield a device on which tensors can be created while the block runs."""
    with _WithoutConstants(allow_non_fake_inputs=True), _WithoutValues(), torch.no_grad():
        yield DEVICE


def fake_model(config: DuetConfig) -> DuetModel:
    """Return a network of this shape on the fake device, within ``fake_cuda``."""
    model = build_meta_model(Path(config.name), config)
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(_like(parameter), requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = _like(buffer)
    return model.eval()


def _like(tensor: Tensor) -> Tensor:
    return torch.zeros(tensor.shape, dtype=tensor.dtype, device=DEVICE)


class _WithoutConstants(FakeTensorMode):
    """Fake tensors that keep no values: operations on single known values would be executed on the real device."""

    def may_turn_const(self, t: Tensor) -> bool:
        return False


class _WithoutValues(TorchFunctionMode):
    """Replace what cannot be done without values or without a CUDA build."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__getitem__:
            return _index(*args)
        if func is Tensor.__setitem__:
            target, index, value = args
            view = _index(target, index)
            return view.copy_(value) if isinstance(value, Tensor) else view.fill_(value)
        if func is Tensor.contiguous:
            return torch.clone(args[0], memory_format=torch.contiguous_format)
        if func is Tensor.pin_memory:
            return args[0]
        if func is Tensor.__invert__:
            return torch.bitwise_not(args[0])
        if func is interpolate:
            batch, channels, *_ = args[0].shape
            return torch.zeros(batch, channels, *(kwargs or {})["size"], dtype=args[0].dtype, device=args[0].device)
        if func in CONVERSIONS:
            return torch.ops.aten._to_copy.default(args[0], dtype=CONVERSIONS[func])
        if func in (Tensor.tolist, Tensor.item, Tensor.__int__, Tensor.__float__, Tensor.__bool__, Tensor.__index__):
            return _zeros(args[0]) if func is Tensor.tolist else _zero(func)
        return func(*args, **(kwargs or {}))


def _zero(func: Callable[..., Any]) -> object:
    return {Tensor.__float__: 0.0, Tensor.__bool__: False}.get(func, 0)


def _zeros(tensor: Tensor) -> Any:
    value: Any = 0.0 if tensor.is_floating_point() else 0
    for size in reversed(tensor.shape):
        value = [value] * size
    return value


def _index(tensor: Tensor, index: Any) -> Tensor:
    """Index with PyTorch's operators one after the other, as Python's indexing does in its own code."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in [part for part in parts if not isinstance(part, Tensor)]:
        at = next(i for i, part in enumerate(parts) if part is Ellipsis)
        missing = tensor.dim() - sum(part is not None and part is not Ellipsis for part in parts)
        parts[at : at + 1] = [slice(None)] * missing
    axis, gathered = 0, list[Tensor | None]()
    for part in parts:
        if part is None:
            tensor = torch.unsqueeze(tensor, axis)
        elif isinstance(part, slice):
            tensor = torch.ops.aten.slice.Tensor(tensor, axis, part.start, part.stop, part.step or 1)
        elif isinstance(part, int):
            tensor = torch.select(tensor, axis, part)
            continue
        else:
            chosen = part if isinstance(part, Tensor) else torch.tensor(part, device=tensor.device)
            gathered += [None] * (axis - len(gathered)) + [chosen]
        axis += 1
    return torch.ops.aten.index.Tensor(tensor, gathered) if gathered else tensor
