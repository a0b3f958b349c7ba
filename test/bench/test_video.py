"""The measurement of decoding returns what each mode has read."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest
from video_files import make

from mmduet.bench.video import SyntheticVideo, VideoBenchOptions, measure_decoding, synthetic_video
from mmduet.cli.main import main
from mmduet.errors import OptionError, VideoNotFoundError


def test_every_mode_reads_its_frames(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", 60, (120, 160), codec_options={"g": "20", "bf": "0", "sc_threshold": "0"})
    done: list[tuple[int, int]] = []
    result = measure_decoding(path, VideoBenchOptions(2, 32, 2), lambda *counts: done.append(counts))
    modes = result.modes
    assert (result.codec, result.width, result.height, result.duration) == ("h264", 160, 120, pytest.approx(2.4))
    assert {name: mode.frames for name, mode in modes.items()} == {
        "codec": 60, "all": 60, "decode_all": 5, "sampled": 5, "converted": 5, "letterboxed": 5, "sparse": 1,
    }  # fmt: skip
    assert modes["codec"].packets == modes["all"].packets == modes["decode_all"].packets == 60
    assert modes["sampled"].packets == modes["letterboxed"].packets == 14 + 19 + 11  # up to frames 13, 38 and 50
    assert modes["sparse"].packets == 1
    assert done == [(k, 14) for k in range(1, 15)]
    assert modes["codec"].ratio == 1


def test_a_made_video_has_its_size_duration_and_groups() -> None:
    with synthetic_video(SyntheticVideo(width=96, height=64, seconds=1, group=5)) as path:
        result = measure_decoding(path, VideoBenchOptions(rounds=1, threads=1))
        with av.open(str(path)) as container:
            keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert (result.width, result.height, result.duration) == (96, 64, 1)
    assert keys == [k % 5 == 0 for k in range(25)]


def test_invalid_options_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="fps must be a number above 0"):
        VideoBenchOptions(fps=0)
    with pytest.raises(OptionError, match="rounds must be at least 1"):
        VideoBenchOptions(rounds=0)
    with pytest.raises(OptionError, match="the size must be even and at least 16, got 97x64"):
        SyntheticVideo(width=97, height=64)
    with (
        pytest.raises(OptionError, match="cannot be made with libnothing"),
        synthetic_video(SyntheticVideo("libnothing", 96, 64, 1)),
    ):
        pass
    with pytest.raises(VideoNotFoundError):
        measure_decoding(tmp_path / "nope.mp4", VideoBenchOptions())


def test_the_command_prints_and_writes_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--make", "--resolution", "96x64", "--seconds", "1", "--rounds", "1", "--size", "32"]
    monkeypatch.setattr("sys.argv", ["mmduet", "bench", "video", *options, "--json", str(tmp_path / "a.json")])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert "h264 96x64 at 25 fps, 1.00 s" in capsys.readouterr().out
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["modes"]["letterboxed"]["frames"] == 2
