"""Default session and task options for a model, and the capacity of a session's slot."""

from __future__ import annotations

from dataclasses import replace

from mmduet.errors import OptionError
from mmduet.model import DuetConfig, Recommended
from mmduet.options import DecodeOptions, Profile, SessionOptions, SpeakOptions
from mmduet.tasks.base import ModelDefaults, RunConfig

PAPER_MAX_NEW_TOKENS = 200
REPLY_OVERHEAD_TOKENS = 32  # upper bound for the header and the end of a reply


def recommended_options(recommended: Recommended, profile: Profile = "fixed") -> SessionOptions:
    """Return the session options that a model recommends. The session is silent until its first query.

    Under ``paper``: at most 200 tokens per reply, no window, no minimum interval, and replies before the first query.
    """
    paper = profile == "paper"
    interval = 0.0 if paper else recommended.min_interval
    return SessionOptions(
        speak=SpeakOptions.parse(
            recommended.speak, recommended.score_heads, min_interval=interval, speak_before_query=paper
        ),
        decode=DecodeOptions(max_new_tokens=PAPER_MAX_NEW_TOKENS if paper else recommended.max_new_tokens),
        window=None if paper else recommended.window,
        profile=profile,
    )


def model_defaults(recommended: Recommended) -> ModelDefaults:
    """Return the defaults that tasks use for a model."""
    return ModelDefaults(recommended.fps, recommended.query, recommended_options(recommended).speak)


def task_options(recommended: Recommended, run_config: RunConfig) -> SessionOptions:
    """Return the session options for a task."""
    options = replace(recommended_options(recommended, run_config.profile), speak=run_config.speak)
    tokens = options.decode.max_new_tokens if run_config.max_new_tokens is None else run_config.max_new_tokens
    return replace(options, decode=replace(options.decode, max_new_tokens=tokens))


def slot_tokens(config: DuetConfig, options: SessionOptions) -> int:
    """Return the capacity of a session's slot: text, window and one reply, and a quarter more so that moves are rare.

    Without a window it is the model's number of positions. Raise ``OptionError`` if the model has too few positions.
    """
    max_positions = config.text.max_positions
    if options.window is None:
        return max_positions
    context = options.text_tokens + (options.window + 1) * config.frame_tokens
    capacity = (context + options.decode.max_new_tokens + REPLY_OVERHEAD_TOKENS) * 5 // 4
    if capacity > max_positions:
        raise OptionError(
            f"a window of {options.window} frames and replies of {options.decode.max_new_tokens} tokens need {capacity} "
            f"positions, but {config.name} has {max_positions}; use a smaller window or shorter replies"
        )
    return capacity
