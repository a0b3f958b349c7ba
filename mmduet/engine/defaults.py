"""What follows from a model's description: session options, for tasks as well, and the room that a session takes."""

from __future__ import annotations

from dataclasses import replace

from mmduet.errors import OptionError
from mmduet.model import DuetConfig, Recommended
from mmduet.options import DecodeOptions, Profile, SessionOptions, SpeakOptions
from mmduet.tasks.base import ModelDefaults, RunConfig

PAPER_TOKENS = 200
REPLY_HEADER = 32  # tokens of slack for a reply's header and closing


def recommended_options(recommended: Recommended, profile: Profile = "fixed") -> SessionOptions:
    """What ``best`` recommends, silent until something is asked.

    Under ``paper`` with the paper's 200 tokens a reply, without window, minimum interval and that silence, which it did not
    have.
    """
    paper = profile == "paper"
    interval = 0.0 if paper else recommended.min_interval
    return SessionOptions(
        speak=SpeakOptions.parse(
            recommended.speak, recommended.score_heads, min_interval=interval, speak_before_query=paper
        ),
        decode=DecodeOptions(max_new_tokens=PAPER_TOKENS if paper else recommended.max_new_tokens),
        window=None if paper else recommended.window,
        profile=profile,
    )


def model_defaults(best: Recommended) -> ModelDefaults:
    """Return the defaults that tasks use for a model."""
    return ModelDefaults(best.fps, best.query, recommended_options(best).speak)


def task_options(recommended: Recommended, setting: RunConfig) -> SessionOptions:
    """How a session is opened for a task."""
    options = replace(recommended_options(recommended, setting.profile), speak=setting.speak)
    tokens = options.decode.max_new_tokens if setting.max_new_tokens is None else setting.max_new_tokens
    return replace(options, decode=replace(options.decode, max_new_tokens=tokens))


def slot_tokens(config: DuetConfig, options: SessionOptions) -> int:
    """Capacity of a session's slot: text + window + one reply, and a quarter more so that moves are rare.

    Without a window it is every position the model has. Raises ``OptionError`` where those do not suffice.
    """
    longest = config.text.max_positions
    if options.window is None:
        return longest
    kept = options.text_tokens + (options.window + 1) * config.frame_tokens
    capacity = (kept + options.decode.max_new_tokens + REPLY_HEADER) * 5 // 4
    if capacity > longest:
        raise OptionError(
            f"a window of {options.window} frames needs {capacity} positions, {config.name} has {longest}; use a smaller window"
        )
    return capacity
