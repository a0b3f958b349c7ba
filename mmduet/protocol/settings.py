"""Knows what a client may set of a session, how an update changes it, and how it is told back; no session, no model."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from pydantic import Field

from mmduet.errors import OptionError, ProtocolError
from mmduet.options import SessionOptions
from mmduet.protocol.wire import Received
from mmduet.video.sampling import check_rate

MOST_FPS = 240.0


class SpeakUpdate(Received):
    """When to speak: what is left out stays as it was."""

    policy: Literal["threshold", "sum", "never"] | None = None
    value: float | None = None
    heads: tuple[Literal["informative", "relevance"], ...] | None = None
    min_interval: float | None = None
    repeat_window: float | None = None
    at_end: bool | None = None
    unasked: bool | None = None


class DuetUpdate(Received):
    """What Realtime has no words for. ``window`` null keeps every frame; ``fps`` null takes every frame that is sent."""

    fps: float | None = Field(default=None, gt=0, le=MOST_FPS)
    speak: SpeakUpdate = SpeakUpdate()
    keep_replies: bool | None = None
    profile: Literal["fixed", "paper"] | None = None
    window: int | None = None
    adapter: str | None = None
    scores: bool | None = None
    ack: bool | None = None


class SessionUpdate(Received):
    """The ``session`` of ``session.update``: what is left out stays as it was."""

    type: Literal["realtime"]
    model: str | None = None
    instructions: str | None = None
    output_modalities: tuple[Literal["text"], ...] | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    duet: DuetUpdate = DuetUpdate()


NULL_MEANS_SOMETHING = frozenset({"fps", "window", "adapter"})
FIXED_BY_THE_FIRST_INPUT = ("instructions", "max_output_tokens", "profile", "keep_replies", "window", "adapter")


@dataclass(frozen=True)
class Settings:
    """A session as it is set: what the engine is opened with, and how frames are taken and told."""

    model: str
    options: SessionOptions
    fps: float | None
    scores: bool = True  # tell the heads' scores of every frame
    ack: bool = True  # tell of every frame that it was scored, not only of those that set off a reply

    def updated(self, update: SessionUpdate, *, started: bool) -> Settings:
        """With what ``update`` sets. Raises ``ProtocolError`` for what cannot be, or not any more once frames have come."""
        if update.model is not None and update.model != self.model:
            raise _invalid(
                "session.model", update.model, f"this session speaks with {self.model!r}; connect anew for another"
            )
        changed = _changes(self, update)
        if started:
            _refuse_fixed(self.flat(), changed)
        try:
            return _applied(self, changed)
        except OptionError as error:
            raise ProtocolError(str(error), "invalid_value", param="session.duet") from error

    def flat(self) -> dict[str, Any]:
        """Every setting by its name on the wire, those of ``speak`` prefixed with ``speak.``."""
        options = self.options
        speak = {f"speak.{f.name}": getattr(options.speak, f.name) for f in fields(options.speak)}
        return {
            "instructions": options.system_prompt,
            "max_output_tokens": options.decode.max_new_tokens,
            "fps": self.fps,
            "keep_replies": options.keep_replies,
            "profile": options.profile,
            "window": options.window,
            "adapter": options.adapter,
            "scores": self.scores,
            "ack": self.ack,
            **speak,
        }

    def told(self) -> dict[str, Any]:
        """The settings as ``session.created`` and ``session.updated`` tell them."""
        flat = self.flat()
        speak = {name.removeprefix("speak."): flat.pop(name) for name in list(flat) if name.startswith("speak.")}
        outer = {name: flat.pop(name) for name in ("instructions", "max_output_tokens")}
        return {"model": self.model, **outer, "duet": {**flat, "speak": speak}}


def _changes(settings: Settings, update: SessionUpdate) -> dict[str, Any]:
    """What the update sets, by name as in ``Settings.flat``; a null counts where it means something."""
    parts: list[tuple[str, Received]] = [("", update), ("", update.duet), ("speak.", update.duet.speak)]
    given = {
        prefix + name: getattr(part, name)
        for prefix, part in parts
        for name in part.model_fields_set
        if getattr(part, name) is not None or (not prefix and name in NULL_MEANS_SOMETHING)
    }
    known = settings.flat()
    return {name: value for name, value in given.items() if name in known}


def _refuse_fixed(now: dict[str, Any], changed: dict[str, Any]) -> None:
    for name in FIXED_BY_THE_FIRST_INPUT:
        if name in changed and changed[name] != now[name]:
            place = name if name in ("instructions", "max_output_tokens") else f"duet.{name}"
            raise _invalid(
                f"session.{place}", changed[name], "it is fixed by the first input; set it before, or connect anew"
            )


def _applied(settings: Settings, changed: dict[str, Any]) -> Settings:
    flat = settings.flat() | changed
    check_rate("fps", flat["fps"])
    before = settings.options
    speak = replace(before.speak, **{f.name: flat[f"speak.{f.name}"] for f in fields(before.speak)})
    options = replace(
        before,
        speak=speak,
        decode=replace(before.decode, max_new_tokens=flat["max_output_tokens"]),
        keep_replies=flat["keep_replies"],
        profile=flat["profile"],
        window=flat["window"],
        adapter=flat["adapter"],
        system_prompt=flat["instructions"],
    )
    return replace(settings, options=options, fps=flat["fps"], scores=flat["scores"], ack=flat["ack"])


def _invalid(param: str, value: Any, why: str) -> ProtocolError:
    return ProtocolError(f"{param} ({value!r}) cannot be set: {why}", "invalid_value", param=param)
