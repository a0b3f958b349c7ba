"""RMS normalisation with few operations, equal to the modules of Qwen."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm:
    """The norm of hidden states. On CUDA it is one kernel; PyTorch's CPU version is a chain of a dozen operations."""

    def __init__(self, module: nn.Module) -> None:
        """Take weight and epsilon of a Transformers RMS norm."""
        self.weight: Tensor = module.weight.data  # type: ignore[assignment]
        self.eps = float(module.variance_epsilon)  # type: ignore[arg-type]
        self._eps = torch.full((1,), self.eps, device=self.weight.device)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return normalised hidden states of the same shape [N, D] and dtype."""
        if hidden.device.type != "cpu":
            return F.rms_norm(hidden, self.weight.shape, self.weight, self.eps)
        if hidden.dtype == torch.float32:
            return (hidden * inverse_rms(hidden, self._eps)).mul_(self.weight)
        exact = hidden.float()
        # Qwen rounds before it multiplies by the weight.
        return exact.mul_(inverse_rms(exact, self._eps)).to(hidden.dtype).mul_(self.weight)


class HeadNorm:
    """The query and key norms of Qwen3, applied to all heads at once."""

    def __init__(self, query_norm: nn.Module, key_norm: nn.Module, heads: int, kv_heads: int) -> None:
        weights: tuple[Tensor, Tensor] = (query_norm.weight.data, key_norm.weight.data)  # type: ignore[assignment]
        rows = [weight.expand(count, -1) for weight, count in zip(weights, (heads, kv_heads), strict=True)]
        self.weight = torch.cat(rows)  # [heads + kv_heads, head_dim]
        eps = float(query_norm.variance_epsilon)  # type: ignore[arg-type]
        self._eps = torch.full((1,), eps, device=self.weight.device)

    def normalize_(self, queries_keys: Tensor) -> None:
        """Normalise queries and keys [N, heads + kv_heads, head_dim] in place."""
        queries_keys.mul_(inverse_rms(queries_keys, self._eps)).mul_(self.weight)


def inverse_rms(inputs: Tensor, eps: Tensor) -> Tensor:
    """Return the float32 factors [..., 1] that give vectors [..., D] a mean square of one."""
    norm = torch.linalg.vector_norm(inputs, dim=-1, keepdim=True, dtype=torch.float32)
    return torch.addcmul(eps, norm, norm, value=1 / inputs.shape[-1]).rsqrt_()
