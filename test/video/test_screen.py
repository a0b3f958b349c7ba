"""Which capture device is used for a screen on each platform; test/cli/test_live_sources.py captures a real one."""

from __future__ import annotations

import pytest

from mmduet.errors import SourceError
from mmduet.video.screen import find_device, is_screen


@pytest.mark.parametrize(
    ("name", "platform", "device"),
    [
        ("screen", "linux", ("x11grab", ":5")),
        ("screen::1.0", "linux", ("x11grab", ":1.0")),
        ("screen", "darwin", ("avfoundation", "Capture screen 0:none")),
        ("screen:Capture screen 1", "darwin", ("avfoundation", "Capture screen 1:none")),
        ("screen", "win32", ("gdigrab", "desktop")),
        ("screen:title=Player", "win32", ("gdigrab", "title=Player")),
    ],
)
def test_the_device_depends_on_the_platform(
    monkeypatch: pytest.MonkeyPatch, name: str, platform: str, device: tuple[str, str]
) -> None:
    monkeypatch.setenv("DISPLAY", ":5")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    found = find_device(name, platform)
    assert (found.format, found.input) == device


def test_wayland_is_explained_unless_a_display_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    with pytest.raises(SourceError, match="under Wayland"):
        find_device("screen", "linux")
    assert find_device("screen::0", "linux").input == ":0"


def test_a_file_is_not_taken_for_a_screen() -> None:
    assert is_screen("screen")
    assert not any(map(is_screen, ("screen.mp4", "./screen", "screens")))
