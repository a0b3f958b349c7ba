"""Options are validated when they are created; messages name the option, what is expected and the value."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mmduet.errors import OptionError
from mmduet.options import DecodeOptions, SessionOptions, SpeakOptions, parse_window


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpeakOptions("maybe"), "speak policy must be threshold, sum or never, got 'maybe'"),  # type: ignore[arg-type]
        (lambda: SpeakOptions(heads=()), "score heads must be one or more of informative, relevance, got none"),
        (lambda: SpeakOptions(value=float("nan")), "speak value must be at least 0, got nan"),
        (
            lambda: SpeakOptions(min_interval=-1),
            "min_interval must be at least 0 seconds, got -1",
        ),
        (
            lambda: SpeakOptions.parse("loud"),
            "speak policy must be threshold:VALUE, sum:VALUE or never, got 'loud'",
        ),
        (
            lambda: SpeakOptions.parse("sum:two"),
            "speak policy 'sum:two': 'two' is not a number; use for example sum:0.5",
        ),
        (
            lambda: parse_window("wide", 2.0),
            "window must be a number of frames, seconds as in 6s, or none to keep every frame, got 'wide'",
        ),
        (lambda: DecodeOptions(max_new_tokens=0), "max_new_tokens must be at least 1, got 0"),
        (lambda: DecodeOptions(temperature=0.001), "temperature must be 0 or at least 0.01, got 0.001"),
        (lambda: DecodeOptions(top_p=0.0), "top_p must be above 0 and at most 1, got 0.0"),
        (lambda: DecodeOptions(repetition_penalty=float("nan")), "repetition_penalty must be above 0, got nan"),
        (lambda: SessionOptions(window=0), "window must be at least 1 frame, or none, got 0"),
        (lambda: SessionOptions(profile="loose"), "profile must be fixed or paper, got 'loose'"),  # type: ignore[arg-type]
        (lambda: SessionOptions(text_tokens=63), "text_tokens must be at least 64, got 63"),
    ],
)
def test_invalid_options_are_rejected(make: Callable[[], object], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(("text", "frames"), [("24", 24), ("6s", 15), ("0.9S", 3), ("none", None), ("None", None)])
def test_window_is_parsed_from_frames_or_seconds(text: str, frames: int | None) -> None:
    assert parse_window(text, 2.5) == frames
