"""Describe a duet model as frozen values: shapes of its parts and recommended settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mmduet.errors import CheckpointError
from mmduet.model.field_checks import check_fields
from mmduet.video.domain import VisualDomain

VisionFamily = Literal["siglip", "siglip2"]
TextFamily = Literal["qwen2", "qwen3"]


def check_family(part: str, family: str, families: Any) -> None:
    """Raise ``CheckpointError`` unless ``family`` is one of the literals ``families``."""
    if family not in get_args(families):
        raise CheckpointError(
            f"the family of the {part} must be one of {', '.join(get_args(families))}, got {family!r}"
        )


@dataclass(frozen=True)
class VisionShape:
    """Shape of a SigLIP tower. ``layers`` counts the layers that run, without a dropped last layer.

    The family ``siglip2`` is SigLIP2's NaFlex variant (any aspect ratio), with ``position_side`` squared learned positions.
    """

    image_size: int = 384
    patch_size: int = 14
    hidden_size: int = 1152
    intermediate_size: int = 4304
    layers: int = 26
    heads: int = 16
    family: VisionFamily = "siglip"
    position_side: int = 0  # siglip2 only; 0: the number of patches along a side

    def __post_init__(self) -> None:
        """Raise ``CheckpointError`` for an unsupported family or an impossible size."""
        check_family("vision tower", self.family, VisionFamily)
        check_fields("vision tower", self, may_be_zero=("position_side",))

    @property
    def grid(self) -> int:
        """The number of patches along one side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class TextShape:
    """Shape of a Qwen language model; Qwen2.5 belongs to the family ``qwen2``."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int = 32768
    rope_theta: float = 1e6
    rms_norm_eps: float = 1e-6
    tied: bool = False
    family: TextFamily = "qwen2"

    def __post_init__(self) -> None:
        """Raise ``CheckpointError`` for an unsupported family or an impossible size."""
        check_family("language model", self.family, TextFamily)
        check_fields("language model", self)


@dataclass(frozen=True)
class Recommended:
    """The settings that a model was trained for: the defaults of the command line."""

    fps: float = 2.0
    window: int | None = None  # frames; None: unbounded
    speak: str = "threshold:0.5"
    score_heads: tuple[str, ...] = ("informative",)
    min_interval: float = 0.0  # seconds between replies
    max_new_tokens: int = 200
    query: str = ""  # used if the user gives no query

    def __post_init__(self) -> None:
        """Raise ``CheckpointError`` for values of another type."""
        check_fields("recommended settings", self, may_be_zero=("min_interval",))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values under the names of the manifest."""
        return {
            "fps": self.fps, "window": self.window, "speak": self.speak, "score_heads": self.score_heads,
            "min_interval": self.min_interval, "max_new_tokens": self.max_new_tokens, "query": self.query,
        }  # fmt: skip


@dataclass(frozen=True)
class DuetConfig:
    """The description of a model, from which its modules are built and run.

    ``domain`` describes the only footage that the model knows; None: it was trained on videos of all kinds.
    """

    name: str
    vision: VisionShape
    text: TextShape
    pooling_stride: int = 4
    recommended: Recommended = field(default_factory=Recommended)
    domain: VisualDomain | None = None

    def __post_init__(self) -> None:
        """Raise ``CheckpointError`` for a name or a stride of another type."""
        check_fields("model", self)

    @property
    def frame_tokens(self) -> int:
        """K, the number of visual tokens of one frame: ceil(grid / stride) squared."""
        return self.pooled_side**2

    @property
    def pooled_side(self) -> int:
        """The number of visual tokens along one side."""
        return -(-self.vision.grid // self.pooling_stride)

    def kv_bytes_per_token(self, element_size: int) -> int:
        """Return the bytes of keys and values that one token takes."""
        return 2 * self.text.layers * self.text.kv_heads * self.text.head_dim * element_size

    def to_dict(self) -> dict[str, Any]:
        """Return the description as JSON values under the names of the manifest."""
        vision, text = self.vision, self.text
        domain = {} if self.domain is None else {"domain": self.domain.to_dict()}
        return {
            "name": self.name,
            "vision": {
                "image_size": vision.image_size, "patch_size": vision.patch_size, "hidden_size": vision.hidden_size,
                "intermediate_size": vision.intermediate_size, "layers": vision.layers, "heads": vision.heads,
                "family": vision.family, "position_side": vision.position_side,
            },
            "text": {
                "vocab_size": text.vocab_size, "hidden_size": text.hidden_size,
                "intermediate_size": text.intermediate_size, "layers": text.layers, "heads": text.heads,
                "kv_heads": text.kv_heads, "head_dim": text.head_dim, "max_positions": text.max_positions,
                "rope_theta": text.rope_theta, "rms_norm_eps": text.rms_norm_eps, "tied": text.tied,
                "family": text.family,
            },
            "pooling_stride": self.pooling_stride,
            "recommended": self.recommended.to_dict(),
            **domain,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DuetConfig:
        """Build a description from ``to_dict``'s values. Raises ``CheckpointError`` naming missing or unknown names."""
        try:
            recommended = {**values.get("recommended", {})}  # TypeError for a list
            recommended["score_heads"] = tuple(recommended.get("score_heads", ("informative",)))
            return cls(
                name=values["name"],
                vision=VisionShape(**values["vision"]),
                text=TextShape(**values["text"]),
                pooling_stride=values["pooling_stride"],
                recommended=Recommended(**recommended),
                domain=None if values.get("domain") is None else VisualDomain.from_dict(values["domain"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"the model description in the manifest cannot be read: {error}; convert the model again"
            ) from error
