"""The protocol's page is what the messages say."""

from __future__ import annotations

from pathlib import Path

from mmduet.protocol.docs import render

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `make docs`"


def test_every_event_has_a_section() -> None:
    text = render()
    for name in (
        "session.update",
        "input_frame.append",
        "input_frame.scored",
        "response.output_text.delta",
        "session.closed",
    ):
        assert text.count(f"### `{name}`\n") == 1
    for name in ("DuetUpdate", "SpeakUpdate", "Session", "Limits"):
        assert text.count(f"### {name}\n") == 1
