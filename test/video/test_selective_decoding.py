"""Sampled frames are the same whether every frame is decoded or only what they need."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from hls_files import write_hls
from video_files import make, packets

from mmduet.errors import CorruptVideoError, OptionError
from mmduet.events import Frame
from mmduet.video import open_frames, packet_runs, selective_decoding
from mmduet.video.decoder_threads import decoder_threads
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
        "a.mp4", {"codec": "libx265", "codec_options": {"x265-params": "keyint=12:min-keyint=12:bframes=4:log-level=none"}},
    ),
    "mp4, hevc, layers": (
        "a.mp4", {"codec": "libx265", "codec_options": {"x265-params": "keyint=12:temporal-layers=3:bframes=4:log-level=none"}},
    ),
    "webm, vp9": ("a.webm", {"codec": "libvpx-vp9", "codec_options": {"g": "12", "cpu-used": "8"}}),
    "webm, vp8": (
        "a.webm", {"codec": "libvpx", "codec_options": {"g": "12", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "9"}},
    ),
    "mp4, av1": ("a.mp4", {"codec": "libsvtav1", "codec_options": {"g": "12", "preset": "12"}}),
    "ts": ("a.ts", {"codec_options": X264}),
    "flv": ("a.flv", {"codec_options": X264}),
    "mov, mjpeg": ("a.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "codec_options": {}}),
    "mov, prores": ("a.mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "codec_options": {}}),
    "mov, png": ("a.mov", {"codec": "png", "pix_fmt": "rgb24", "codec_options": {}}),
    "avi, mjpeg": ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "codec_options": {}}),
    "avi, mpeg4": ("a.avi", {"codec": "mpeg4", "codec_options": {"g": "12", "bf": "2"}}),
    "mpg": ("a.mpg", {"codec": "mpeg2video", "codec_options": {"g": "12", "bf": "2"}}),
    "raw": ("a.h264", {"codec_options": X264}),
    "gif": ("a.gif", {"codec": "gif", "pix_fmt": "rgb8", "codec_options": {}}),
    "webp": ("a.webp", {"codec": "libwebp_anim", "codec_options": {}}),
    "ivf": ("a.ivf", {"codec": "libvpx-vp9", "codec_options": {"g": "12", "cpu-used": "8"}}),
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


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fps", [0.7, 3.7])
def test_sampled_frames_are_those_of_a_full_decode(file_named: Callable[[str], Path], name: str, fps: float) -> None:
    check_equal(file_named(name), fps)


@pytest.mark.parametrize("name", FILES)
def test_few_packets_are_decoded_for_few_frames(file_named: Callable[[str], Path], name: str) -> None:
    _, reader = read(file_named(name), 0.7)
    assert (reader.packets_decoded < COUNT) == (name not in DECODED_IN_FULL)
    _, reader = read(file_named(name), 0.7, decodes_all=True)
    assert reader.packets_decoded >= COUNT or name == "webp"


@pytest.mark.parametrize("name", ["mp4", "mkv, variable rate", "mp4, hevc, open groups", "webm, vp9"])
def test_the_paper_profile_selects_the_same_frames(file_named: Callable[[str], Path], name: str) -> None:
    for fps in (0.7, 3.3):
        check_equal(file_named(name), fps, "paper")


def test_a_group_is_decoded_up_to_its_last_selected_frame(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", 60, codec_options={"g": "20", "bf": "0", "sc_threshold": "0"})
    frames, reader = read(path, 0.5)
    assert [frame.decoded_index for frame in frames] == [0, 50]
    assert reader.packets_decoded == 1 + 11  # of the first group the key frame, of the third those up to frame 50


def test_frames_on_which_no_other_depends_are_not_decoded(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", 61, codec_options=X264 | {"g": "100", "bf": "3", "b-pyramid": "none"})
    _, reader = read(path, 25 / 60)  # frames 0 and 60
    assert 16 <= reader.packets_decoded <= 20  # every fourth frame, and the encoder's last ones


def test_reading_ends_with_the_last_frame_that_is_asked_for(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", 60, codec_options={"g": "20", "bf": "0", "sc_threshold": "0"})
    frames, reader = read(path, 5, max_frames=3)
    assert len(frames) == 3
    assert reader.packets_decoded < 20
    assert reader.read_duration is None


def test_a_playlist_is_sampled_as_one_video(tmp_path: Path) -> None:
    check_equal(write_hls(tmp_path / "hls", 4), 0.6)
    check_equal(
        write_hls(tmp_path / "fmp4", 4, hls_segment_type="fmp4", hls_segment_filename=str(tmp_path / "fmp4/s%d.m4s")),
        0.6,
    )


def test_joined_recordings_are_sampled_as_one_video(tmp_path: Path) -> None:
    parts = [make(tmp_path / f"{k}.ts", 30, codec_options=X264).read_bytes() for k in range(3)]
    path = tmp_path / "all.ts"
    path.write_bytes(b"".join(parts))
    check_equal(path, 0.9)


def test_a_trimmed_file_does_not_show_its_hidden_frames(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", 50, codec_options=X264 | {"g": "50"})
    with av.open(str(path)) as source, av.open(str(tmp_path / "cut.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                shift = round(0.4 / packet.time_base)
                packet.pts, packet.dts, packet.stream = (packet.pts or 0) - shift, (packet.dts or 0) - shift, stream
                target.mux(packet)
    check_equal(tmp_path / "cut.mp4", 3)


# --- damage -----------------------------------------------------------------------------------------------------------


def damage_packet(path: Path, pts_order: int) -> None:
    """Overwrite the data of the packet whose frame is shown at a place."""
    position, size, _ = sorted(packets(path), key=lambda packet: packet[2])[pts_order]
    data = bytearray(path.read_bytes())
    data[position + 4 : position + size] = bytes(size - 4)
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
@pytest.mark.parametrize("place", [0, 20, 25, 30])
def test_damage_in_what_is_decoded_is_reported_as_by_a_full_decode(tmp_path: Path, name: str, place: int) -> None:
    path = make(tmp_path / name, 60, codec_options={"g": "20", "bf": "0", "sc_threshold": "0"})
    damage_packet(path, place)
    check_equal(path, 25 / 30)  # frames 0 and 30, or else the next good one


def test_damage_in_what_is_not_decoded_is_reported_if_everything_is_decoded(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", 60, codec_options={"g": "20", "bf": "0", "sc_threshold": "0"})
    damage_packet(path, 25)
    frames, reader = read(path, 0.5)
    assert ([frame.decoded_index for frame in frames], bool(reader.damage)) == ([0, 50], False)
    _, reader = read(path, 0.5, decodes_all=True)
    assert reader.damage.skipped >= 1
    with pytest.raises(CorruptVideoError, match="is damaged after"):
        read(path, 0.5, strict=True)


@pytest.mark.parametrize("name", ["mp4, fragmented", "mkv", "ts", "flv", "webm, vp9", "ivf"])
@pytest.mark.parametrize("share", [0.3, 0.77, 0.95])
def test_truncation_is_reported_as_by_a_full_decode(
    tmp_path: Path, file_named: Callable[[str], Path], name: str, share: float
) -> None:
    whole = file_named(name)
    path = tmp_path / whole.name
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    check_equal(path, 0.7)


@pytest.mark.parametrize("name", ["mkv", "ts", "flv"])
def test_a_hole_in_a_group_that_is_not_decoded_is_reported(
    tmp_path: Path, file_named: Callable[[str], Path], name: str
) -> None:
    whole = file_named(name)
    data, path = whole.read_bytes(), tmp_path / whole.name
    places = sorted(position for position, _, _ in packets(whole))
    start, end = places[14] // 188 * 188, places[18] // 188 * 188  # between frames 12 and 24, of which none is selected
    path.write_bytes(data[:start] + data[end:])
    check_equal(path, 25 / 36)
    assert read(path, 25 / 36)[1].damage


@pytest.mark.parametrize("threads", [1, 2, 64])
def test_the_number_of_threads_does_not_change_frames(file_named: Callable[[str], Path], threads: int) -> None:
    frames, _ = read(file_named("mp4"), 3, threads=threads)
    expected, _ = read(file_named("mp4"), 3)
    assert all(np.array_equal(frame.image, other.image) for frame, other in zip(frames, expected, strict=True))


def test_decoder_threads_are_limited_by_the_cores() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert decoder_threads() == 1
    assert decoder_threads(2) == min(2, cores)
    assert decoder_threads(1000) == cores
    with pytest.raises(OptionError, match="decoder threads must be at least 1"):
        decoder_threads(0)


@pytest.mark.parametrize("name", ["mp4, one group", "mp4, hevc, open groups"])
@pytest.mark.parametrize("fps", [2, 11.3])
def test_a_group_that_is_too_long_for_memory_is_decoded_in_full(
    file_named: Callable[[str], Path], name: str, fps: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packet_runs, "MAX_RUN_PACKETS", 20)
    monkeypatch.setattr(selective_decoding, "MAX_RUN_PACKETS", 20)
    check_equal(file_named(name), fps)
