"""Frozen options of a session and of the engine, checked when they are made; plain values, no behaviour."""

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
    """When to speak. ``heads`` are added up; ``threshold`` fires when the sum of a frame exceeds ``value``, ``sum`` when the
    sum over frames since it last fired does."""

    policy: PolicyName = "threshold"
    value: float = 0.5
    heads: tuple[str, ...] = ("informative",)
    min_interval: float = 0.0  # seconds of silence after a reply's frame
    repeat_window: float = 0.0  # seconds in which the same words are not said again; 0: said as often as decided
    at_end: bool = False  # speak once more after the last frame, where something was asked
    speak_before_query: bool = True  # also speak before anything has been asked

    def __post_init__(self) -> None:
        """Refuse what no policy can use."""
        if self.policy not in ("threshold", "sum", "never"):
            raise OptionError(f"speak policy is {self.policy!r}; use threshold:VALUE, sum:VALUE or never")
        unknown = [h for h in self.heads if h not in HEAD_NAMES]
        if unknown or not self.heads:
            raise OptionError(
                f"score heads are {','.join(self.heads) or 'none'}; use one or more of {', '.join(HEAD_NAMES)}"
            )
        if not self.value >= 0:  # NaN is refused too
            raise OptionError(f"speak value is {self.value}; use a number from 0 up")
        if not (self.min_interval >= 0 and self.repeat_window >= 0):
            raise OptionError(
                f"min_interval {self.min_interval}, repeat_window {self.repeat_window}: both are seconds; use numbers from 0 up"
            )

    @classmethod
    def parse(cls, text: str, heads: tuple[str, ...] = ("informative",), **rest: Any) -> SpeakOptions:
        """From the command line's form: ``threshold:0.5``, ``sum:2``, ``never``."""
        name, _, value = text.partition(":")
        if name == "never" and not value:
            return cls("never", 0.0, heads, **rest)
        if name not in ("threshold", "sum"):
            raise OptionError(f"speak policy is {text!r}; use threshold:VALUE, sum:VALUE or never")
        try:
            number = float(value)
        except ValueError:
            raise OptionError(f"speak policy is {text!r}; {value!r} is not a number") from None
        return cls("threshold" if name == "threshold" else "sum", number, heads, **rest)

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
        """With what was given on a command line (``sum:2``; ``informative,relevance``) in place of its own."""
        revised = self
        if policy is not None:
            parsed = SpeakOptions.parse(policy)
            revised = replace(revised, policy=parsed.policy, value=parsed.value)
        if heads is not None:
            revised = replace(revised, heads=tuple(head.strip() for head in heads.split(",") if head.strip()))
        return revised


def parse_window(text: str, fps: float) -> int | None:
    """Frames in view from ``24`` (frames), ``6s`` (seconds at ``fps``, rounded up) or ``none`` (all of them).

    Raises ``OptionError`` for any other text.
    """
    if text.lower() == "none":
        return None
    try:
        return math.ceil(float(text[:-1]) * fps - 1e-9) if text.lower().endswith("s") else int(text)
    except (ValueError, OverflowError):
        raise OptionError(
            f"window is {text!r}; use a number of frames, seconds as in 6s, or none to keep every frame"
        ) from None


@dataclass(frozen=True)
class DecodeOptions:
    """How replies are written. ``temperature`` 0 is greedy."""

    max_new_tokens: int = 200
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0  # counts within one reply only
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled from."""
        if self.max_new_tokens < 1:
            raise OptionError(f"max_new_tokens is {self.max_new_tokens}; use 1 or more")
        if not (
            (self.temperature == 0 or self.temperature >= 0.01) and 0 < self.top_p <= 1 and self.repetition_penalty > 0
        ):
            raise OptionError(
                f"temperature {self.temperature}, top_p {self.top_p}, repetition_penalty {self.repetition_penalty}: "
                "use temperature 0 or from 0.01 up, 0 < top_p <= 1, penalty > 0"
            )

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
    """Everything a session is opened with. ``window`` counts frames; None keeps every frame until the slot is full."""

    speak: SpeakOptions = field(default_factory=SpeakOptions)
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    keep_replies: bool = False
    profile: Profile = "fixed"
    window: int | None = None
    text_tokens: int = 512  # room for the system turn, queries and context that stay in view
    system_prompt: str | None = None  # None: the format's own
    adapter: str | None = None  # one that the model keeps apart; None: the model as it is

    def without_query(self) -> SessionOptions:
        """For a session without a single query: it need not wait for one before it speaks."""
        return replace(self, speak=replace(self.speak, speak_before_query=True))

    def __post_init__(self) -> None:
        """Refuse windows that hold nothing and profiles that do not exist."""
        if self.window is not None and self.window < 1:
            raise OptionError(f"window is {self.window} frames; use 1 or more, or none")
        if self.profile not in ("fixed", "paper"):
            raise OptionError(f"profile is {self.profile!r}; use fixed or paper")
        if self.text_tokens < 64:
            raise OptionError(f"text_tokens is {self.text_tokens}; use 64 or more")

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
