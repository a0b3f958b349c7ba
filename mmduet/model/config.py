"""What a duet model is made of, as plain frozen values; knows shapes and recommended settings, nothing of weights or files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mmduet.errors import CheckpointError

VisionFamily = Literal["siglip", "siglip2"]
TextFamily = Literal["qwen2", "qwen3"]


def check_family(part: str, family: str, families: Any) -> None:
    if family not in get_args(families):
        raise CheckpointError(
            f"there is no {part} of the family {family!r}; known: {', '.join(get_args(families))}; convert it again"
        )


@dataclass(frozen=True)
class VisionShape:
    """A SigLIP tower. ``layers`` are those that run: a dropped last layer is not counted.

    ``family`` siglip2 is the tower for any shape of picture (NaFlex), with ``position_side`` squared learned positions.
    """

    image_size: int = 384
    patch_size: int = 14
    hidden_size: int = 1152
    intermediate_size: int = 4304
    layers: int = 26
    heads: int = 16
    family: VisionFamily = "siglip"
    position_side: int = 0  # siglip2 only; 0: as many as there are patches

    def __post_init__(self) -> None:
        """Refuse a family that nothing here computes."""
        check_family("vision tower", self.family, VisionFamily)

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class TextShape:
    """A Qwen language model; Qwen2.5 is of the family qwen2."""

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
        """Refuse a family that nothing here computes."""
        check_family("language model", self.family, TextFamily)


@dataclass(frozen=True)
class Recommended:
    """The settings a model was made for; what the command line uses where the user says nothing."""

    fps: float = 2.0
    window: int | None = None  # frames; None: unbounded
    speak: str = "threshold:0.5"
    score_heads: tuple[str, ...] = ("informative",)
    min_interval: float = 0.0  # seconds between replies
    max_new_tokens: int = 200
    query: str = ""  # asked where the user asks nothing


@dataclass(frozen=True)
class DuetConfig:
    """Everything needed to build the modules and to run them."""

    name: str
    vision: VisionShape
    text: TextShape
    pooling_stride: int = 4
    recommended: Recommended = field(default_factory=Recommended)

    @property
    def frame_tokens(self) -> int:
        """K, the visual tokens of one frame: ceil(grid / stride) squared."""
        return self.pooled_side**2

    @property
    def pooled_side(self) -> int:
        """Visual tokens along one side."""
        return -(-self.vision.grid // self.pooling_stride)

    def kv_bytes_per_token(self, element_size: int) -> int:
        """Bytes of keys and values that one token costs."""
        return 2 * self.text.layers * self.text.kv_heads * self.text.head_dim * element_size

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain JSON values, under the names that manifests have."""
        vision, text, recommended = self.vision, self.text, self.recommended
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
            "recommended": {
                "fps": recommended.fps, "window": recommended.window, "speak": recommended.speak,
                "score_heads": recommended.score_heads, "min_interval": recommended.min_interval,
                "max_new_tokens": recommended.max_new_tokens, "query": recommended.query,
            },
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DuetConfig:
        """The inverse of ``to_dict``; raises ``CheckpointError`` naming what does not fit."""
        try:
            recommended = dict(values.get("recommended", {}))
            recommended["score_heads"] = tuple(recommended.get("score_heads", ("informative",)))
            return cls(
                name=values["name"],
                vision=VisionShape(**values["vision"]),
                text=TextShape(**values["text"]),
                pooling_stride=values["pooling_stride"],
                recommended=Recommended(**recommended),
            )
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"the manifest's model description cannot be read: {error}; convert the model again"
            ) from error
