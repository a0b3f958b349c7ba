"""Settings of a session: how an update changes them and how they are reported to the client."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mmduet.errors import OptionError, ProtocolError
from mmduet.options import SessionOptions, SpeakOptions
from mmduet.protocol.session_update import SessionUpdate
from mmduet.protocol.wire import ClientModel, truncate
from mmduet.video.sampling import check_rate

NULLABLE = frozenset({"fps", "window", "adapter", "max_frame_age"})  # settings of ``duet`` for which null is a value
FIXED_AFTER_FIRST_INPUT = ("instructions", "max_output_tokens", "profile", "keep_replies", "window", "adapter")
OUTSIDE_DUET = ("instructions", "max_output_tokens")


@dataclass(frozen=True)
class SessionSettings:
    """Options for the engine, and how frames are sampled and reported.

    Attributes:
        model: Name of the model, fixed for the session.
        options: Options that the engine's session is opened with.
        fps: Rate at which frames are sampled; None accepts every frame.
        scores: Whether ``input_frame.scored`` includes the scores of both heads.
        ack: Whether every scored frame is reported, rather than only frames that trigger a reply.
        max_frame_age: Seconds after which a queued frame is dropped; None keeps frames however old they are.
        thumbnails: Whether small images of the frames of a source are sent.
    """

    model: str
    options: SessionOptions
    fps: float | None
    scores: bool = True
    ack: bool = True
    max_frame_age: float | None = None
    thumbnails: bool = False

    def with_update(self, update: SessionUpdate, *, started: bool) -> SessionSettings:
        """Return the settings after ``update``; ``started`` means that the session has received input.

        Raises ``ProtocolError`` for invalid values, and for settings that cannot change after the first input.
        """
        if update.model is not None and update.model != self.model:
            reason = f"this session uses {self.model!r}; open another session for a different model"
            raise _invalid_value("session.model", update.model, reason)
        changes = _changes(self, update)
        if started:
            _check_fixed(self.to_flat_dict(), changes)
        try:
            return _apply(self, changes)
        except OptionError as error:
            raise ProtocolError(str(error), "invalid_value", param="session.duet") from error

    def to_flat_dict(self) -> dict[str, Any]:
        """Return every setting by its wire name; those of ``speak`` have the prefix ``speak.``."""
        options = self.options
        speak = {f"speak.{name}": value for name, value in options.speak.to_dict().items()}
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
            "max_frame_age": self.max_frame_age,
            "thumbnails": self.thumbnails,
            **speak,
        }

    def to_wire(self) -> dict[str, Any]:
        """Return the settings as ``session.created`` and ``session.updated`` report them."""
        flat = self.to_flat_dict()
        speak = {name.removeprefix("speak."): flat.pop(name) for name in list(flat) if name.startswith("speak.")}
        outer = {name: flat.pop(name) for name in OUTSIDE_DUET}
        return {"model": self.model, **outer, "duet": {**flat, "speak": speak}}


def _changes(settings: SessionSettings, update: SessionUpdate) -> dict[str, Any]:
    """Return what the update sets, under the names of ``to_flat_dict``. A null is ignored unless it is a value."""
    parts: list[tuple[str, ClientModel]] = [("", update), ("", update.duet), ("speak.", update.duet.speak)]
    given = {
        prefix + name: getattr(part, name)
        for prefix, part in parts
        for name in part.model_fields_set
        if getattr(part, name) is not None or (not prefix and name in NULLABLE)
    }
    known = settings.to_flat_dict()
    return {name: value for name, value in given.items() if name in known}


def _check_fixed(current: dict[str, Any], changes: dict[str, Any]) -> None:
    for name in FIXED_AFTER_FIRST_INPUT:
        if name in changes and changes[name] != current[name]:
            path = name if name in OUTSIDE_DUET else f"duet.{name}"
            reason = "it is fixed by the first input; set it before that, or open another session"
            raise _invalid_value(f"session.{path}", changes[name], reason)


def _apply(settings: SessionSettings, changes: dict[str, Any]) -> SessionSettings:
    flat = settings.to_flat_dict() | changes
    check_rate("fps", flat["fps"])
    before = settings.options
    options = replace(
        before,
        speak=SpeakOptions.from_dict({name: flat[f"speak.{name}"] for name in before.speak.to_dict()}),
        decode=replace(before.decode, max_new_tokens=flat["max_output_tokens"]),
        keep_replies=flat["keep_replies"],
        profile=flat["profile"],
        window=flat["window"],
        adapter=flat["adapter"],
        system_prompt=flat["instructions"],
    )
    own = {name: flat[name] for name in ("fps", "scores", "ack", "max_frame_age", "thumbnails")}
    return replace(settings, options=options, **own)


def _invalid_value(param: str, value: Any, reason: str) -> ProtocolError:
    return ProtocolError(f"{param} ({truncate(value)}) cannot be set: {reason}", "invalid_value", param=param)
