"""Support for command line tests: run commands in this process, write test videos and check output files."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from fractions import Fraction
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
from PIL import Image

from mmduet.cli.main import main
from mmduet.video import VideoWriter

SECONDS = 3.0
MODEL = ("--model", "random:tiny")
TALKING = (*MODEL, "--fps", "4", "--speak", "sum:1", "--max-new-tokens", "4")
CUE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} --> \d\d:\d\d:\d\d\.\d{3}")


def write_video(path: Path, seconds: float, fps: float = 8.0) -> Path:
    """Write a video of noise. It compresses badly, so truncating the file truncates the frames."""
    generator = np.random.default_rng(0)
    with VideoWriter(path, 64, 48, fps, gop=4) as writer:
        for _ in range(round(seconds * fps)):
            writer.write(generator.integers(0, 255, (48, 64, 3), np.uint8))
    return path


def write_late_video(path: Path, seconds: float, delay: float) -> Path:
    """Write a video of noise at 8 fps that starts ``delay`` seconds after its sound."""
    generator = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=8)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for k in range(round((seconds + delay) * 16000 / 1024)):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            samples.sample_rate, samples.pts = 16000, 1024 * k
            container.mux(sound.encode(samples))
        for k in range(round(seconds * 8)):
            frame = av.VideoFrame.from_ndarray(generator.integers(0, 255, (48, 64, 3), np.uint8), "rgb24")
            frame.pts, frame.time_base = round(1000 * (delay + k / 8)), Fraction(1, 1000)
            container.mux(video.encode(frame))
        for stream in (video, sound):
            container.mux(stream.encode(None))
    return path


class Terminal(StringIO):
    """A text stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


class CommandResult(NamedTuple):
    """Exit status and output of a command."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Command = Callable[..., CommandResult]


def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *first: object) -> Command:
    """Return a function that runs ``mmduet`` with ``first`` and then its own arguments."""

    def command(*arguments: object) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["mmduet", *map(str, (*first, *arguments))])
        with pytest.raises(SystemExit) as caught:
            main()
        return CommandResult(caught.value.code if isinstance(caught.value.code, int) else 0, *capsys.readouterr())

    return command


def read_events(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def of_type(events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == name]


def check_subtitles(path: Path) -> int:
    """Check that a file is valid WebVTT; return its number of cues."""
    head, *cues = path.read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    assert head == "WEBVTT"
    for cue in cues:
        timing, *payload = cue.splitlines()
        assert CUE.fullmatch(timing)
        start, end = timing.split(" --> ")
        assert start < end
        assert payload
        assert all(line.strip() and "<" not in line and ">" not in line for line in payload)
    return len(cues)


def check_plot(path: Path) -> None:
    """Check that a file is a PNG of the expected size with something drawn on it."""
    with Image.open(path) as image:
        image.load()
        assert (image.format, image.width) == ("PNG", 1800)
        assert 600 < image.height < 6000
        assert np.asarray(image.convert("L")).std() > 5
