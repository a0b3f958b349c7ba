"""Sampled frames are the same whether every frame is decoded or only what they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import make

from mmduet.events import Frame
from mmduet.video import open_frames
from mmduet.video.decoding import Decoder
from mmduet.video.reader import FrameReader, Profile

COUNT = 72
X264 = {"g": "12", "bf": "2", "b-adapt": "0", "sc_threshold": "0"}
FILES: dict[str, tuple[str, dict[str, object]]] = {
    "mp4": ("a.mp4", {"codec_options": X264}),
    "mp4, fragmented": ("a.mp4", {"codec_options": X264, "options": {"movflags": "frag_keyframe+empty_moov"}}),
    "mp4, one group": ("a.mp4", {"codec_options": X264 | {"g": "500"}}),
    "mp4, pyramid": ("a.mp4", {"codec_options": X264 | {"bf": "5", "b-pyramid": "normal", "refs": "4"}}),
    "mp4, open groups": ("a.mp4", {"codec_options": X264 | {"x264-params": "open-gop=1"}}),
    "mp4, intra refresh": ("a.mp4", {"codec_options": X264 | {"intra-refresh": "1"}}),
    "mp4, slices": ("a.mp4", {"codec_options": X264 | {"slices": "3"}}),
    "mp4, later start": ("a.mp4", {"codec_options": X264, "times_ms": [5000 + 40 * k for k in range(COUNT)]}),
    "mkv": ("a.mkv", {"codec_options": X264}),
    "mkv, variable rate": ("a.mkv", {"codec_options": X264, "times_ms": [40 * k + (k // 20) * 900 for k in range(COUNT)]}),
    "mkv, hevc": ("a.mkv", {"codec": "libx265", "codec_options": {"x265-params": "keyint=12:log-level=none"}}),
    "mp4, hevc, open groups": (
        "a.mp4", {"codec": "libx265", "codec_options": {"x265-params": "keyint=12:min-keyint=12:open-gop=1:bframes=4:log-level=none"}},
    ),
    "mp4, hevc, layers": (
        "a.mp4", {"codec": "libx265", "codec_options": {"x265-params": "keyint=12:temporal-layers=3:bframes=4:log-level=none"}},
    ),
    "webm, vp9": ("a.webm", {"codec": "libvpx-vp9", "codec_options": {"g": "12", "b": "300000"}}),
    "webm, vp8": ("a.webm", {"codec": "libvpx", "codec_options": {"g": "12", "b": "300000", "auto-alt-ref": "1", "lag-in-frames": "9"}}),
    "mp4, av1": ("a.mp4", {"codec": "libsvtav1", "codec_options": {"g": "12", "preset": "12"}}),
    "ts": ("a.ts", {"codec_options": X264}),
    "flv": ("a.flv", {"codec_options": X264}),
    "mov, mjpeg": ("a.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "codec_options": {}}),
    "avi, mjpeg": ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "codec_options": {}}),
    "avi, mpeg4": ("a.avi", {"codec": "mpeg4", "codec_options": {"g": "12", "bf": "2"}}),
    "mpg": ("a.mpg", {"codec": "mpeg2video", "codec_options": {"g": "12", "bf": "2"}}),
    "raw": ("a.h264", {"codec_options": X264}),
    "gif": ("a.gif", {"codec": "gif", "pix_fmt": "rgb8", "codec_options": {}}),
    "webp": ("a.webp", {"codec": "libwebp_anim", "codec_options": {}}),
    "ivf": ("a.ivf", {"codec": "libvpx-vp9", "codec_options": {"g": "12"}}),
    "nut": ("a.nut", {"codec_options": X264}),
}  # fmt: skip
DECODED_IN_FULL = {"webm, vp8", "avi, mpeg4", "mpg", "raw", "gif"}
"""Files whose packets are not understood well enough to skip any. Animated WebP is not decoded packet by packet."""


@pytest.fixture(scope="module")
def file_named(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("files")

    def get(name: str) -> Path:
        file, options = FILES[name]
        path = folder / name.replace(", ", "-") / file
        if not path.exists():
            path.parent.mkdir()
            make(path, COUNT, (96, 128), **options)  # type: ignore[arg-type]
        return path

    return get


def read(path: Path, fps: float, profile: Profile = "fixed", **options: object) -> tuple[list[Frame], FrameReader]:
    reader = open_frames(path, fps, profile, **options)  # type: ignore[arg-type]
    return list(reader), reader


def check_equal(path: Path, fps: float, profile: Profile = "fixed") -> None:
    frames, reader = read(path, fps, profile)
    expected, full = read(path, fps, profile, decodes_all=True)
    places = [(frame.index, frame.time, frame.decoded_index) for frame in frames]
    assert places == [(frame.index, frame.time, frame.decoded_index) for frame in expected]
    assert all(np.array_equal(frame.image, other.image) for frame, other in zip(frames, expected, strict=True))
    assert (reader.damage, reader.duration, reader.last_frame_end) == (full.damage, full.duration, full.last_frame_end)
    assert reader.read_duration == full.read_duration


@contextmanager
def counted_packets(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count the packets that are decoded."""
    count = [0]
    selected, every = Decoder.decode_strictly, Decoder.decode

    def decode_strictly(self: Decoder, given: list[av.Packet]) -> Iterator[av.VideoFrame]:
        count[0] += len(given)
        return selected(self, given)

    def decode(self: Decoder, packet: object) -> object:
        count[0] += 1
        return every(self, packet)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "decode_strictly", decode_strictly)
        patch.setattr(Decoder, "decode", decode)
        yield count


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fps", [0.7, 2, 11.3])
def test_sampled_frames_are_those_of_a_full_decode(
    file_named: Callable[[str], Path], name: str, fps: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_named(name)
    check_equal(path, fps)
    if fps == 0.7:
        with counted_packets(monkeypatch) as count:
            read(path, fps)
        assert (count[0] >= COUNT) == (name in DECODED_IN_FULL)
