"""Read a screen of this machine with FFmpeg's capture devices."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import av
from av.container import InputContainer

from mmduet.errors import SourceError
from mmduet.video.connection import ContainerConnection
from mmduet.video.demuxing import error_reason
from mmduet.video.live import LiveVideo, RetryCallback

NAME = "screen"
CAPTURE_FPS = "12"  # images that are captured per second; sampling at 1, 2, 3, 4, 6 or 12 fps is even


@dataclass(frozen=True)
class CaptureDevice:
    """How FFmpeg captures a screen: the input format, the name of the input, and the format's options."""

    format: str
    input: str
    options: dict[str, str]


def is_screen(name: str) -> bool:
    """Return whether ``name`` is a screen's: ``screen``, or ``screen:NAME`` with a name that FFmpeg's device takes."""
    return name == NAME or name.startswith(f"{NAME}:")


def open_screen(name: str, on_retry: RetryCallback = lambda reason, pause: None) -> LiveVideo:
    """Open a screen and wait for its first image. Raises ``SourceError`` if it cannot be captured."""
    device = find_device(name, sys.platform)
    return LiveVideo(name, lambda: ContainerConnection(name, lambda: _open(name, device)), on_retry=on_retry)


def find_device(name: str, platform: str) -> CaptureDevice:
    """Return the device that captures a screen on a ``platform``, named as by ``sys.platform``.

    Raises:
        SourceError: The platform, or its display server, has no screen that FFmpeg can capture.
    """
    chosen = name.partition(":")[2]
    rate = {"framerate": CAPTURE_FPS}
    if platform == "darwin":
        screen = chosen or "Capture screen 0"
        return CaptureDevice("avfoundation", f"{screen}:none", {**rate, "capture_cursor": "1", "pixel_format": "nv12"})
    if platform == "win32":
        return CaptureDevice("gdigrab", chosen or "desktop", rate)
    return CaptureDevice("x11grab", chosen or _default_display(), rate)


def _default_display() -> str:
    """Return the X display of this process."""
    if os.environ.get("WAYLAND_DISPLAY"):
        raise SourceError(
            f"{NAME} cannot be captured under Wayland, which hides other windows; log in with an X11 session, or name the "
            f"display of an X server as in {NAME}::0"
        )
    display = os.environ.get("DISPLAY")
    if not display:
        raise SourceError(
            f"{NAME} cannot be captured: the variable DISPLAY names no X display; run this in a desktop session, or name "
            f"the display as in {NAME}::0"
        )
    return display


def _open(name: str, device: CaptureDevice) -> InputContainer:
    try:
        return av.open(device.input, "r", format=device.format, options=device.options)
    except (av.FFmpegError, ValueError) as error:  # ValueError: this build of FFmpeg lacks the device
        raise SourceError(
            f"{name} cannot be captured ({error_reason(error)}); check that {device.format} can open {device.input!r}, and "
            "that this program may record the screen"
        ) from error
