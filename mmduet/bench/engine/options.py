"""Options of the measurement of an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from mmduet.engine.config import AttentionName, KVDtypeName
from mmduet.errors import OptionError
from mmduet.model.devices import DtypeName
from mmduet.model.quantize import Quantization, TowerQuantization

FrameInput = Literal["pixels", "embeds"]
REFERENCES = ("paper", "tight")


@dataclass(frozen=True, kw_only=True)
class EngineBenchOptions:
    """Options of the measurement of an engine.

    Attributes:
        model: Name or directory of the model.
        device: Device of the weights, see ``load_model``.
        dtype: Number type of the weights, see ``load_model``.
        attention: Attention backend of the engine.
        kv_dtype: Number type in which the engine stores keys and values.
        quantized: Quantisation of the language model, see ``load_model``; the references have the same weights.
        quantized_tower: Quantisation of the vision tower, likewise.
        graphs: Replay steps as CUDA graphs where that is possible.
        streams: Numbers of streams, each measured separately.
        frames: Measured frames of each stream.
        rounds: Parts of a measurement, in which the engine and the references take turns.
        warm_up: Frames of each stream before the measurement; None: until the window is full, and two more.
        queued: Frames that each stream has in its queue at all times: 1 like a live stream, more like a file.
        window: Frames that are kept in the context; None keeps all.
        speak_rate: Replies per frame, rounded to whole replies per round.
        tokens_per_reply: Largest number of tokens of a reply.
        frame_input: ``pixels``: frames go through the vision tower; ``embeds``: their visual tokens are given.
        threads: CPU threads; None: as many as the ``mmduet`` command uses for this model and number of streams.
        references: Reference engines to compare with.
        max_step_tokens: Bound of the tokens of one step.
        seed: Seed of the frames.
    """

    model: str = "nano"
    device: str = "auto"
    dtype: DtypeName = "auto"
    attention: AttentionName = "auto"
    kv_dtype: KVDtypeName = "auto"
    quantized: Quantization | None = None
    quantized_tower: TowerQuantization | None = None
    graphs: bool = True
    streams: tuple[int, ...] = (1, 4, 16, 64)
    frames: int = 40
    rounds: int = 5
    warm_up: int | None = None
    queued: int = 8
    window: int | None = 16
    speak_rate: float = 0.05
    tokens_per_reply: int = 16
    frame_input: FrameInput = "pixels"
    threads: int | None = None
    references: tuple[str, ...] = REFERENCES
    max_step_tokens: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ``OptionError`` for invalid values."""
        if not self.streams:
            raise OptionError("streams must have at least one number, got none")
        bounded = {"streams": min(self.streams), "frames": self.frames, "rounds": self.rounds, "queued": self.queued}
        optional = {"window": self.window, "threads": self.threads, "tokens_per_reply": self.tokens_per_reply}
        for name, value in (*bounded.items(), *optional.items()):
            if value is not None and value < 1:
                raise OptionError(f"{name} must be at least 1, got {value}")
        if self.frames < self.rounds:
            raise OptionError(f"frames must be at least the number of rounds, {self.rounds}, got {self.frames}")
        if not 0 <= self.speak_rate <= 1:
            raise OptionError(f"speak_rate must be from 0 to 1 replies per frame, got {self.speak_rate}")
        _check_names(self)

    @property
    def round_frames(self) -> int:
        """Frames of each stream in one round."""
        return self.frames // self.rounds

    @property
    def round_replies(self) -> int:
        """Replies of each stream in one round: at least one unless the rate is 0."""
        return max(round(self.round_frames * self.speak_rate), 1) if self.speak_rate else 0

    @property
    def warm_up_frames(self) -> int:
        """Frames of each stream before the measurement."""
        return (self.window or 0) + 2 if self.warm_up is None else self.warm_up

    def to_dict(self) -> dict[str, Any]:
        """Return the options under the names of the report."""
        return {
            "model": self.model, "device": self.device, "dtype": self.dtype, "attention": self.attention,
            "kv_dtype": self.kv_dtype, "quantized": self.quantized, "quantized_tower": self.quantized_tower,
            "graphs": self.graphs,
            "streams": list(self.streams), "frames": self.round_frames * self.rounds, "rounds": self.rounds,
            "warm_up_frames": self.warm_up_frames, "queued": self.queued, "window": self.window, "speak_rate": self.speak_rate,
            "replies_per_frame": self.round_replies / self.round_frames, "tokens_per_reply": self.tokens_per_reply,
            "frame_input": self.frame_input, "threads": self.threads, "references": list(self.references),
            "max_step_tokens": self.max_step_tokens, "seed": self.seed,
        }  # fmt: skip


def _check_names(options: EngineBenchOptions) -> None:
    for name, value, allowed in (
        ("dtype", options.dtype, get_args(DtypeName)),
        ("frame_input", options.frame_input, get_args(FrameInput)),
        *(("references", reference, REFERENCES) for reference in options.references),
    ):
        if value not in allowed:
            raise OptionError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def parse_streams(text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as ``1,4,16``. Raise ``OptionError`` for any other text."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise OptionError(f"streams must be numbers separated by commas, such as 1,4,16, got {text!r}") from None


def parse_references(text: str) -> tuple[str, ...]:
    """Return the names of a list such as ``paper,tight``; ``none`` is an empty list."""
    return () if text == "none" else tuple(name.strip() for name in text.split(","))


def parse_window(text: str) -> int | None:
    """Return a window in frames; None for ``none``. Raise ``OptionError`` for any other text."""
    if text == "none":
        return None
    try:
        return int(text)
    except ValueError:
        raise OptionError(f"window must be a number of frames, or none to keep every frame, got {text!r}") from None
