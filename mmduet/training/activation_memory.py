"""Predict the bytes of activations while training: what modules keep for the backward pass, and what they need meanwhile.

The counts follow the operations of the Transformers classes that ``training/losses.py`` runs, one by one. A test compares them
with the allocations of real steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmduet.model.config import DuetConfig
from mmduet.training.branch_mask import MAX_DENSE_TOKENS
from mmduet.training.recipe import DataSet, LowRank, Recipe

FLOAT32, BFLOAT16 = 4, 2  # bytes
TEXT_SHARE = 0.2  # of the tokens of a batch; all of them are assumed to be learned


@dataclass(frozen=True)
class BatchShape:
    """The size of a batch: samples, tokens and frames per sample, and learned tokens of all samples."""

    samples: int
    tokens: int
    frames: int
    targets: int

    @property
    def total_tokens(self) -> int:
        """Tokens of all samples, with padding."""
        return self.samples * self.tokens

    @classmethod
    def largest(cls, recipe: Recipe, config: DuetConfig) -> BatchShape:
        """Return the shape of a full batch of the recipe's longest samples, ``TEXT_SHARE`` of whose tokens are text.

        A sample of more than ``max_tokens_per_batch`` tokens is a batch of its own.
        """
        limits = recipe.optimization
        frames = max(_max_frames(data_set, recipe) for data_set in recipe.data)
        tokens = -(-int(frames * config.frame_tokens / (1 - TEXT_SHARE)) // 16) * 16
        tokens = min(tokens, config.text.max_positions)
        samples = max(1, min(limits.max_samples_per_batch, limits.max_tokens_per_batch // tokens))
        frames = min(frames, int(tokens * (1 - TEXT_SHARE) / config.frame_tokens))
        return cls(samples, tokens, frames, samples * (tokens - frames * config.frame_tokens))


def _max_frames(data_set: DataSet, recipe: Recipe) -> int:
    return data_set.max_frames or recipe.sampling.max_frames


class ActivationMemory:
    """Bytes that one forward and backward pass of a batch allocates, beside weights, their gradients and optimizer states."""

    def __init__(
        self, recipe: Recipe, config: DuetConfig, shape: BatchShape, weight_size: int, device_type: str
    ) -> None:
        """``weight_size`` is the bytes of a frozen weight; that of bfloat16 also for weights of 4 bits."""
        self._recipe, self._text, self._vision, self._shape = recipe, config.text, config.vision, shape
        self._on_cpu = device_type == "cpu"
        self._autocast = recipe.precision == "bfloat16"
        self._size = BFLOAT16 if self._autocast else FLOAT32  # of the results of matrix products
        # bitsandbytes' layers return the type of their input, which is float32 after attention on a CPU.
        self._is_widened = recipe.method.kind == "qlora" and self._on_cpu
        is_float32 = self._is_widened or recipe.method.kind == "full"
        self._residual_size = FLOAT32 if is_float32 else weight_size  # of the sums between layers
        self._tower_size = FLOAT32 if self.trains_tower else weight_size
        self._low_rank = recipe.method if isinstance(recipe.method, LowRank) else None

    @property
    def has_gradients(self) -> bool:
        """Whether gradients pass through the language model."""
        return self._recipe.method.kind != "heads"

    @property
    def trains_tower(self) -> bool:
        """Whether gradients pass through the vision tower."""
        return self._recipe.method.kind == "full" and self._recipe.method.train_tower

    def peak(self, head_weights: int = 0, copied_weights: int = 0) -> int:
        """Return the most that is allocated at a time.

        ``head_weights`` is the number of weights of a language head that is trained: their gradient is there from the beginning
        of the backward pass. ``copied_weights`` is the number of float32 weights in the language model and its head.
        """
        kept = (
            self.language_model() + self.projector() + self.hidden() + self.mask() + self.weight_copies(copied_weights)
        )
        if not self.has_gradients:
            return self.images() + max(self.tower(), kept + self.layer_forward(), kept + self.logits())
        if self.trains_tower:
            kept += self.tower()
        gradient = head_weights * FLOAT32
        in_products = head_weights * BFLOAT16 if self._autocast else 0
        backward = max(self.logits(), self.logits() // 3 + gradient + in_products, gradient + self.layer_backward())
        return self.images() + max(self.tower(), kept + backward)

    # the language model

    def language_model(self) -> int:
        """Return what the layers keep for the backward pass."""
        if not self.has_gradients:
            return 0
        if self._recipe.gradient_checkpointing:  # the inputs of all layers, and all of the layer that is computed again
            return self._text.layers * self._per_token(self._text.hidden_size * self._residual_size) + self.layer()
        return self._text.layers * self.layer()

    def layer(self) -> int:
        """Return what one layer keeps for the backward pass."""
        return self._per_token(self._norms() + self._linear_inputs() + self._attention() + self._mlp_products())

    def _per_token(self, size: int) -> int:
        return self._shape.total_tokens * size

    def _norms(self) -> int:
        """Return the bytes per token of both norms: inputs in float32, and the normalised values if their weight is trained."""
        trained = self._residual_size if self._recipe.method.kind == "full" else 0
        return 2 * self._text.hidden_size * (FLOAT32 + trained)

    def _linear_inputs(self) -> int:
        """Return the bytes per token of the inputs of matrices that are trained or have an update that is trained."""
        text, low_rank = self._text, self._low_rank
        inputs = {
            **dict.fromkeys(("q_proj", "k_proj", "v_proj"), ("attention", text.hidden_size)),
            "o_proj": ("heads", text.heads * text.head_dim),
            **dict.fromkeys(("gate_proj", "up_proj"), ("mlp", text.hidden_size)),
            "down_proj": ("product", text.intermediate_size),
        }
        used = [inputs[name] for name in (low_rank.targets if low_rank else inputs)]
        has_dropout = low_rank is not None and low_rank.dropout > 0
        if not (self._autocast or has_dropout):  # otherwise each has a copy of its own
            used = list(dict.fromkeys(used))
        dropout_mask = (FLOAT32 if self._on_cpu else 1) if has_dropout else 0
        rank = len(low_rank.targets) * low_rank.rank * self._size if low_rank else 0
        return sum(width for _, width in used) * (self._size + dropout_mask) + rank

    def _attention(self) -> int:
        """Return the bytes per token of queries, keys, values, and mostly outputs and normalisers, too."""
        heads, width = self._text.heads, self._text.heads * self._text.head_dim
        keys = self._text.kv_heads * self._text.head_dim
        if not self._on_cpu:
            return 2 * (width + keys) * self._size + heads * FLOAT32
        if self._is_dense:  # keys and values are repeated for all heads
            return (4 * width + heads) * FLOAT32
        return (width + 2 * keys) * FLOAT32

    @property
    def _is_dense(self) -> bool:
        """Whether attention uses the whole mask as a matrix."""
        return self._on_cpu and self._shape.tokens <= MAX_DENSE_TOKENS

    def _mlp_products(self) -> int:
        """Return the bytes per token of the gate, the activated gate and the values that it multiplies."""
        return 3 * self._text.intermediate_size * (FLOAT32 if self._is_widened else self._size)

    def layer_backward(self) -> int:
        """Return what the backward pass of a layer needs meanwhile: two gradients of the widest activations."""
        return self._per_token(2 * self._text.intermediate_size * FLOAT32)

    def layer_forward(self) -> int:
        """Return what one layer needs in a forward pass that keeps nothing."""
        text = self._text
        mlp = 3 * text.intermediate_size * self._size
        attention = 5 * text.heads * text.head_dim * (FLOAT32 if self._on_cpu else self._size)
        return self._per_token(max(mlp, attention) + 2 * text.hidden_size * self._residual_size)

    def mask(self) -> int:
        """Return the bytes of the mask that all layers share, and of two conditions that it is computed from."""
        return self._shape.samples * self._shape.tokens**2 * (FLOAT32 + 2) if self._is_dense else 0

    def hidden(self) -> int:
        """Return the bytes of the embeddings and of the values after the last layer, before and after the norm."""
        return self._per_token(
            self._text.hidden_size * (self._residual_size + (2 * FLOAT32 if self.has_gradients else 0))
        )

    def weight_copies(self, weights: int) -> int:
        """Return the bytes of copies in bfloat16 of float32 weights, which live until the backward pass."""
        kept = self._autocast and self.has_gradients and not self._recipe.gradient_checkpointing
        return weights * BFLOAT16 if kept else 0

    # the ends

    def logits(self) -> int:
        """Return what the loss of the learned tokens needs: float32 logits, and in the backward pass two gradients."""
        copies = 3 if self.has_gradients else 2
        return self._shape.targets * self._text.vocab_size * FLOAT32 * copies if self._recipe.losses.lm else 0

    def images(self) -> int:
        """Return the bytes of the frames as they are decoded."""
        return self._images * 3 * self._vision.image_size**2

    @property
    def _images(self) -> int:
        return self._shape.samples * self._shape.frames

    @property
    def _patches(self) -> int:
        return self._images * self._vision.grid**2

    def tower(self) -> int:
        """Return what the vision tower keeps for the backward pass, or the most that it needs at a time if it is frozen."""
        width, inner = self._vision.hidden_size, self._vision.intermediate_size
        pixels = self.images() * FLOAT32
        if not self.trains_tower:
            return pixels + self._patches * (4 * width * self._tower_size + 2 * inner * self._size)
        layer = 26 * width + 4 * inner if self._autocast else (9 * width + 2 * inner) * FLOAT32
        layers = 1 if self._recipe.gradient_checkpointing else self._vision.layers
        inputs = self._vision.layers * width * FLOAT32 if self._recipe.gradient_checkpointing else 0
        return pixels + self._patches * (layers * layer + inputs)

    def projector(self) -> int:
        """Return what the projector keeps for the backward pass: its inputs and hidden values of all patches."""
        low_rank = self._low_rank
        if not self.has_gradients or (low_rank and "projector" not in low_rank.saved_modules):
            return 0
        return self._patches * (self._vision.hidden_size + self._text.hidden_size) * self._size
