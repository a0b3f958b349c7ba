"""A linear layer to which several adapters add their own outputs, each on the rows of its own sessions."""

from __future__ import annotations

from torch import Tensor, nn

Rows = dict[str, Tensor]  # indices of the rows of each adapter


class AdaptedLinear(nn.Module):
    """A linear layer of the base and, for each adapter that changes it, A [r, in], scale * B [out, r] and a bias [out].

    ``routing`` is shared by all layers of a model and assigns rows to adapters for the length of a step.
    """

    def __init__(self, base: nn.Linear, routing: Rows) -> None:
        super().__init__()
        self.base, self._routing = base, routing
        self._pairs: dict[str, tuple[Tensor, Tensor]] = {}
        self._bias_changes: dict[str, Tensor] = {}

    def add(self, name: str, down: Tensor, up: Tensor) -> None:
        """Add the matrices of adapter ``name``."""
        self._pairs[name] = (down, up)

    def add_bias(self, name: str, bias: Tensor) -> None:
        """Add the bias of adapter ``name``, which replaces that of the base."""
        self._bias_changes[name] = bias.to(self.base.bias) - self.base.bias.detach()

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer to [1, N, in] and return [1, N, out]."""
        out: Tensor = self.base(inputs)
        self.add_changes(inputs[0], out[0])
        return out

    def add_changes(self, inputs: Tensor, out: Tensor) -> None:
        """Add to outputs [N, out] of the base, in place, what the adapters of the step change for inputs [N, in]."""
        for name, rows in self._routing.items():
            if name in self._pairs:
                down, up = self._pairs[name]
                out[rows] += inputs[rows] @ down.T @ up.T
            if name in self._bias_changes:
                out[rows] += self._bias_changes[name]
