"""The decoder layers of Qwen2 and Qwen3 on one packed row of tokens, with attention supplied by the caller."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn
from transformers import Qwen2Model, Qwen3Model

from mmduet.errors import EngineError
from mmduet.model.adapted_linear import AdaptedLinear
from mmduet.model.inference.linear import fuse, fuse_gated
from mmduet.model.inference.normalization import HeadNorm, RMSNorm
from mmduet.model.inference.packed import Packing
from mmduet.model.inference.rotary import Rotary, compute_rotary, inverse_frequencies, rotate_


class Attend(Protocol):
    """Attention of one layer: stores the new keys and values, and attends to all that are stored."""

    def __call__(self, layer: int, queries: Tensor, keys_values: Tensor, last: bool) -> Tensor:
        """Return outputs [Nq, heads * head_dim].

        ``queries`` [Nq, heads, head_dim] and ``keys_values`` [N, 2, kv_heads, head_dim] (rotated keys, then values) are views
        of one tensor, not contiguous across tokens. With ``last``, the queries are only those of the requested rows.
        """


class Decoder:
    """Computes final-norm hidden states with the weights of a Transformers model. For inference: it has no backward pass.

    Build it when the weights are loaded, on their device, and have their adapters. Without packing, linear weights stay
    those of the modules.
    """

    def __init__(self, lm: Qwen2Model | Qwen3Model, *, packing: Packing = "auto", release: bool = False) -> None:
        """Fuse the weights of ``lm``; ``packing`` and ``release`` are those of ``fuse``.

        Raises ``EngineError`` for a model with sliding windows, scaled rotary embeddings or another activation than SiLU.
        """
        _check_supported(lm.config)
        self._layers = [_Layer(layer, index, packing, release) for index, layer in enumerate(lm.layers)]
        self._norm = RMSNorm(lm.norm)
        self._dtype = self._norm.weight.dtype
        self._frequencies = inverse_frequencies(
            lm.config.rope_parameters["rope_theta"], self._layers[0].head_dim, self._norm.weight.device
        )

    def rotary(self, positions: Tensor) -> Rotary:
        """Return the rotary embedding of positions [N], which all layers share."""
        return compute_rotary(positions, self._frequencies, self._dtype)

    def forward(self, embeds: Tensor, rotary: Rotary, attend: Attend, rows: Tensor | None = None) -> Tensor:
        """Return final-norm hidden states [R, D] of the ``rows`` [R] of embeddings [N, D], or of all rows.

        In the last layer, only the requested rows are attended and pass through the MLP. This does not change the result.
        """
        hidden = embeds
        for layer in self._layers[:-1]:
            hidden = layer.forward(hidden, rotary, attend)
        last = self._layers[-1]
        if rows is None or last.is_routed:
            hidden = last.forward(hidden, rotary, attend)
            return self._norm(hidden if rows is None else hidden.index_select(0, rows))
        return self._norm(last.forward(hidden, rotary, attend, rows))


class _Layer:
    """One decoder layer."""

    def __init__(self, module: nn.Module, index: int, packing: Packing, release: bool) -> None:
        attention: Any = module.self_attn
        mlp: Any = module.mlp
        self.index, self.head_dim = index, int(attention.head_dim)
        self.heads = attention.config.num_attention_heads
        self.kv_heads = attention.config.num_key_value_heads
        self._norms = RMSNorm(module.input_layernorm), RMSNorm(module.post_attention_layernorm)  # type: ignore[arg-type]
        self._head_norm = _head_norm(attention, self.heads, self.kv_heads)
        inputs = [attention.q_proj, attention.k_proj, attention.v_proj]
        self._qkv = fuse(inputs, packing=packing, release=release)
        self._out = fuse([attention.o_proj], packing=packing, release=release)
        self._gate_up = fuse_gated(mlp.gate_proj, mlp.up_proj, packing=packing, release=release)
        self._down = fuse([mlp.down_proj], packing=packing, release=release)
        #: Whether layers add to rows that are assigned by their index in the whole row of tokens.
        self.is_routed = any(isinstance(part, AdaptedLinear) for part in module.modules())

    def forward(self, hidden: Tensor, rotary: Rotary, attend: Attend, rows: Tensor | None = None) -> Tensor:
        """Return hidden states [N, D], or [R, D] of ``rows``, after attention and MLP, of hidden states [N, D]."""
        queries, keys_values = self._project(self._norms[0](hidden), rotary)
        if rows is not None:
            hidden, queries = hidden.index_select(0, rows), queries.index_select(0, rows)
        attended = attend(self.index, queries, keys_values, rows is not None)
        hidden = self._out.add(attended, hidden)
        return self._down.add(self._gate_up(self._norms[1](hidden)), hidden)

    def _project(self, normed: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
        """Return rotated queries [N, heads, head_dim], and keys and values [N, 2, kv_heads, head_dim]."""
        qkv = self._qkv(normed).view(len(normed), -1, self.head_dim)  # [N, heads + 2 * kv_heads, head_dim]
        queries_keys = qkv[:, : self.heads + self.kv_heads]
        if self._head_norm is not None:
            self._head_norm.normalize_(queries_keys)
        rotate_(queries_keys, rotary)
        return qkv[:, : self.heads], qkv[:, self.heads :].view(len(qkv), 2, self.kv_heads, self.head_dim)


def _head_norm(attention: Any, heads: int, kv_heads: int) -> HeadNorm | None:
    if not hasattr(attention, "q_norm"):
        return None
    return HeadNorm(attention.q_norm, attention.k_norm, heads, kv_heads)


def _check_supported(config: Any) -> None:
    """Raise ``EngineError`` for a configuration that the layers here do not implement."""
    problems = []
    if config.rope_parameters.get("rope_type", "default") != "default":
        problems.append(f"rotary embeddings of type {config.rope_parameters['rope_type']!r}")
    if "sliding_attention" in config.layer_types:
        problems.append("sliding-window attention")
    if config.hidden_act != "silu":
        problems.append(f"the activation {config.hidden_act!r}")
    if problems:
        raise EngineError(
            f"the language model uses {' and '.join(problems)}, which the engine does not implement; "
            "use a Qwen2, Qwen2.5 or Qwen3 model with default settings"
        )
