"""Frozen options of a session, validated when they are created."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mmduet.errors import OptionError

Profile = Literal["fixed", "paper"]
PolicyName = Literal["threshold", "sum", "never"]
HEAD_NAMES = ("informative", "relevance")


@dataclass(frozen=True)
class SpeakOptions:
    """When to speak.

    A frame's score is the sum of its ``heads``. The policy ``threshold`` fires when a frame's score exceeds ``value``, ``sum``
    when the sum of all scores since it last fired does, ``never`` not at all.
    """

    policy: PolicyName = "threshold"
    value: float = 0.5
    heads: tuple[str, ...] = ("informative",)
    min_interval: float = 0.0  # seconds between the frames that trigger two replies
    repeat_window: float = 0.0  # seconds in which the same text is not repeated; 0: repeats are allowed
    at_end: bool = False  # speak once more after the last frame, if there was a query
    speak_before_query: bool = True  # also speak before the first query

    def __post_init__(self) -> None:
        """Raise ``OptionError`` for invalid values."""
        if self.policy not in ("threshold", "sum", "never"):
            raise OptionError(f"speak policy must be threshold, sum or never, got {self.policy!r}")
        unknown = [h for h in self.heads if h not in HEAD_NAMES]
        if unknown or not self.heads:
            raise OptionError(
                f"score heads must be one or more of {', '.join(HEAD_NAMES)}, got {','.join(self.heads) or 'none'}"
            )
        if not self.value >= 0:  # also rejects NaN
            raise OptionError(f"speak value must be at least 0, got {self.value}")
        for name, seconds in {"min_interval": self.min_interval, "repeat_window": self.repeat_window}.items():
            if not seconds >= 0:
                raise OptionError(f"{name} must be at least 0 seconds, got {seconds}")

    @classmethod
    def parse(cls, text: str, heads: tuple[str, ...] = ("informative",), **rest: Any) -> SpeakOptions:
        """Parse the command line's form: ``threshold:0.5``, ``sum:2`` or ``never``; ``rest`` are other options."""
        name, _, value = text.partition(":")
        if name == "never" and not value:
            return cls("never", 0.0, heads, **rest)
        if name not in ("threshold", "sum"):
            raise OptionError(f"speak policy must be threshold:VALUE, sum:VALUE or never, got {text!r}")
        try:
            number = float(value)
        except ValueError:
            raise OptionError(f"speak policy {text!r}: {value!r} is not a number; use for example {name}:0.5") from None
        return cls("threshold" if name == "threshold" else "sum", number, heads, **rest)

    def find_extreme(self, frames: int | None = None) -> str | None:
        """Return why the policy never fires, or at every frame, whatever the scores of ``frames`` frames (None: unknown) are.

        Scores are above 0 and at most 1 for each head. None if the scores decide, or if the policy is ``never``.
        """
        if self.policy == "never":
            return None
        summed = f"the {len(self.heads)} scores" if len(self.heads) > 1 else f"the {self.heads[0]} score"
        count = 1 if self.policy == "threshold" else math.inf if frames is None else frames
        highest, speak = len(self.heads) * count, f"{self.policy}:{self.value:g}"
        if self.value >= highest:
            of_frames = "a frame" if self.policy == "threshold" else f"all {frames} frames"
            limit = "no sum is" if highest == math.inf else f"{summed} of {of_frames} cannot be"
            return f"the speak policy {speak} never lets the model speak: {limit} above {self.value:g}"
        if self.value == 0 and not self.min_interval:
            return f"the speak policy {speak} lets the model speak after every frame: scores are always above 0"
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return the options under their public names: those of the wire, of journals and of ``from_dict``."""
        return {
            "policy": self.policy,
            "value": self.value,
            "heads": self.heads,
            "min_interval": self.min_interval,
            "repeat_window": self.repeat_window,
            "at_end": self.at_end,
            "unasked": self.speak_before_query,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SpeakOptions:
        """Build options from their public names. Missing values take their defaults, unknown names are ignored."""
        known = cls().to_dict() | dict(values)
        return cls(
            policy=known["policy"],
            value=float(known["value"]),
            heads=tuple(known["heads"]),
            min_interval=float(known["min_interval"]),
            repeat_window=float(known["repeat_window"]),
            at_end=known["at_end"],
            speak_before_query=known["unasked"],
        )

    def with_overrides(self, policy: str | None, heads: str | None) -> SpeakOptions:
        """Return the options with a command line's ``policy`` (``sum:2``) and ``heads`` (``informative,relevance``)."""
        updated = self
        if policy is not None:
            parsed = SpeakOptions.parse(policy)
            updated = replace(updated, policy=parsed.policy, value=parsed.value)
        if heads is not None:
            updated = replace(updated, heads=tuple(head.strip() for head in heads.split(",") if head.strip()))
        return updated


def parse_window(text: str, fps: float) -> int | None:
    """Return the window in frames for ``24`` (frames), ``6s`` (seconds at ``fps``, rounded up) or ``none`` (unlimited).

    Raises ``OptionError`` for any other text.
    """
    if text.lower() == "none":
        return None
    try:
        return math.ceil(float(text[:-1]) * fps - 1e-9) if text.lower().endswith("s") else int(text)
    except (ValueError, OverflowError):
        raise OptionError(
            f"window must be a number of frames, seconds as in 6s, or none to keep every frame, got {text!r}"
        ) from None


@dataclass(frozen=True)
class DecodeOptions:
    """How replies are decoded. ``temperature`` 0 is greedy."""

    max_new_tokens: int = 200
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0  # counts the tokens of one reply; under the profile ``paper`` of all replies so far
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ``OptionError`` for invalid values."""
        if self.max_new_tokens < 1:
            raise OptionError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not (self.temperature == 0 or self.temperature >= 0.01):
            raise OptionError(f"temperature must be 0 or at least 0.01, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise OptionError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if not self.repetition_penalty > 0:
            raise OptionError(f"repetition_penalty must be above 0, got {self.repetition_penalty}")

    def to_dict(self) -> dict[str, Any]:
        """Return the options under their public names: those of journals and of the settings of predictions."""
        return {
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "repetition_penalty": self.repetition_penalty,
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DecodeOptions:
        """Build options from their public names. Raises ``KeyError`` if one is missing; unknown names are ignored."""
        return cls(
            max_new_tokens=values["max_new_tokens"],
            temperature=float(values["temperature"]),
            top_p=float(values["top_p"]),
            repetition_penalty=float(values["repetition_penalty"]),
            seed=values["seed"],
        )


@dataclass(frozen=True)
class SessionOptions:
    """The options that a session is opened with. ``window`` is in frames; None keeps every frame until the slot is full."""

    speak: SpeakOptions = field(default_factory=SpeakOptions)
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    keep_replies: bool = False
    profile: Profile = "fixed"
    window: int | None = None
    text_tokens: int = 512  # space for the system turn, queries and context that stay in the window
    system_prompt: str | None = None  # None: the duet format's default
    adapter: str | None = None  # name of an adapter that was loaded unmerged; None: the base model

    def without_query(self) -> SessionOptions:
        """Return the options for a session that gets no query, and so must not wait for one before it speaks."""
        return replace(self, speak=replace(self.speak, speak_before_query=True))

    def __post_init__(self) -> None:
        """Raise ``OptionError`` for invalid values."""
        if self.window is not None and self.window < 1:
            raise OptionError(f"window must be at least 1 frame, or none, got {self.window}")
        if self.profile not in ("fixed", "paper"):
            raise OptionError(f"profile must be fixed or paper, got {self.profile!r}")
        if self.text_tokens < 64:
            raise OptionError(f"text_tokens must be at least 64, got {self.text_tokens}")

    def to_dict(self) -> dict[str, Any]:
        """Return the options under their public names: those of journals and of the settings of predictions."""
        return {
            "speak": self.speak.to_dict(),
            "decode": self.decode.to_dict(),
            "keep_replies": self.keep_replies,
            "profile": self.profile,
            "window": self.window,
            "text_tokens": self.text_tokens,
            "system_prompt": self.system_prompt,
            "adapter": self.adapter,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SessionOptions:
        """Build options from their public names. Raises ``KeyError`` if one is missing; unknown names are ignored."""
        return cls(
            speak=SpeakOptions.from_dict(values["speak"]),
            decode=DecodeOptions.from_dict(values["decode"]),
            keep_replies=values["keep_replies"],
            profile=values["profile"],
            window=values["window"],
            text_tokens=values["text_tokens"],
            system_prompt=values["system_prompt"],
            adapter=values["adapter"],
        )
