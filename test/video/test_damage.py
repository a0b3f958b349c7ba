"""Damaged frames are skipped and reported; truncation is reported on evidence only; intact files are never called damaged."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from video_files import greys, make, packets, picture

from mmduet.errors import CorruptVideoError, NoDecoderError, VideoError
from mmduet.spans import Span
from mmduet.video import Damage, VideoFile, open_frames

NOISE = random.Random(0).randbytes(5000)


def read(path: Path) -> tuple[list[float], Damage]:
    file = VideoFile(path)
    return [frame.time for frame in file.decode()], file.damage


def write_packets(path: Path, times: list[float], last_seconds: float, options: dict[str, str] | None = None) -> Path:
    """Write pictures at ``times`` of which the last one is displayed for ``last_seconds``."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "0", **(options or {})})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        encoded = []
        for k, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(k, 48, 64), "rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            encoded += stream.encode(frame)
        encoded += stream.encode(None)
        for packet, following in zip(encoded, [*times[1:], times[-1] + last_seconds], strict=True):
            packet.duration = round((following - float((packet.pts or 0) * packet.time_base)) / packet.time_base)
        container.mux(encoded)
    return path


# intact files


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
@pytest.mark.parametrize("last_seconds", [0.02, 9.0])
def test_the_last_frame_is_displayed_for_its_own_duration(tmp_path: Path, name: str, last_seconds: float) -> None:
    path = write_packets(tmp_path / name, [k / 10 for k in range(11)], last_seconds)
    reader = open_frames(path, 2, strict=True)
    assert [frame.time for frame in reader] == pytest.approx([0.0, 0.5, 1.0])
    assert not reader.damage
    assert reader.duration == pytest.approx(1 + last_seconds, abs=0.1)
    assert reader.last_frame_end == pytest.approx(1 + last_seconds, abs=2e-3)


CONTAINERS = {
    "mp4": ("a.mp4", {}), "mp4, index first": ("a.mp4", {"options": {"movflags": "faststart"}}),
    "fragmented": ("a.mp4", {"options": {"movflags": "frag_keyframe+empty_moov"}}), "mkv": ("a.mkv", {}),
    "mkv without durations": ("a.mkv", {"options": {"live": "1"}}), "webm": ("a.webm", {"codec": "libvpx-vp9"}),
    "ts": ("a.ts", {}), "avi": ("a.avi", {"codec": "mpeg4"}), "flv": ("a.flv", {}), "mov": ("a.mov", {}),
    "gif": ("a.gif", {"codec": "gif", "pix_fmt": "rgb8"}), "mpg": ("a.mpg", {"codec": "mpeg2video"}),
    "wmv": ("a.wmv", {"codec": "wmv2"}), "raw": ("a.h264", {}), "y4m": ("a.y4m", {"codec": "rawvideo"}),
    "apng": ("a.apng", {"codec": "apng", "pix_fmt": "rgb24"}), "ivf": ("a.ivf", {"codec": "libvpx"}),
    "webp": ("a.webp", {"codec": "libwebp_anim"}), "nut": ("a.nut", {"codec": "mpeg4"}),
}  # fmt: skip


@pytest.mark.parametrize("container", CONTAINERS)
def test_an_intact_file_is_not_damaged(tmp_path: Path, container: str) -> None:
    name, options = CONTAINERS[container]
    codec = options.get("codec", "libx264")
    for reorder in ("0", "2") if codec in ("libx264", "mpeg4", "mpeg2video") else ("",):
        codec_options = {"g": "10"} | ({"bf": reorder} if reorder else {})
        times, damage = read(make(tmp_path / name, 40, codec_options=codec_options, **options))
        assert (len(times), damage) == (40, Damage())
        assert times == sorted(times)


CUT = {
    "mp4": ("a.mp4", {"options": {"movflags": "faststart"}}), "mkv": ("a.mkv", {}), "ts": ("a.ts", {}),
    "fragmented": CONTAINERS["fragmented"], "mkv without durations": CONTAINERS["mkv without durations"],
    "webm": CONTAINERS["webm"], "flv": ("a.flv", {}), "avi": ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "gif": CONTAINERS["gif"], "y4m": CONTAINERS["y4m"], "apng": CONTAINERS["apng"], "ivf": CONTAINERS["ivf"],
    "webp": CONTAINERS["webp"],
}  # fmt: skip


@pytest.mark.parametrize("container", CUT)
@pytest.mark.parametrize("part", [0.2, 0.5, 0.81, 0.97])
def test_truncation_is_reported(tmp_path: Path, container: str, part: float) -> None:
    name, options = CUT[container]
    path = make(tmp_path / name, 60, codec_options={"g": "10"}, **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    times, damage = read(path)
    assert damage.truncated_at == pytest.approx(times[-1] + 1 / 25, abs=2e-3)
    assert (damage.skipped, damage.spans) == (0, ())
    assert 0.4 * part * 60 < len(times) <= 60
    with pytest.raises(CorruptVideoError, match="is cut off at"):
        list(VideoFile(path, strict=True).decode())


@pytest.mark.parametrize("container", ["wmv", "nut", "mpg"])
def test_a_last_frame_that_cannot_be_decoded_is_truncated_in_formats_without_an_end(
    tmp_path: Path, container: str
) -> None:
    name, options = CONTAINERS[container]
    path = make(tmp_path / name, 60, codec_options={"g": "10"}, **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    times, damage = read(path)
    assert damage == Damage(truncated_at=pytest.approx(times[-1] + 1 / 25, abs=2e-3))


@pytest.mark.parametrize("container", ["gif", "apng"])
def test_what_is_missing_from_an_animation_is_reported(tmp_path: Path, container: str) -> None:
    name, options = CONTAINERS[container]
    path = make(tmp_path / name, 60, codec_options={}, **options)
    data = path.read_bytes()
    for part in (0.3, 0.5, 0.7):
        start = int(len(data) * part)
        path.write_bytes(data[:start] + NOISE[:1500] + data[start + 1500 :])
        times, damage = read(path)
        assert 0 < len(times) < 60
        assert damage


@pytest.mark.parametrize("cut", [20, 200, 600])
def test_a_file_that_is_cut_within_its_index_is_not_called_empty(tmp_path: Path, cut: int) -> None:
    path = make(tmp_path / "a.mp4", options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: data.find(b"moov") + cut])
    with pytest.raises(CorruptVideoError, match="cut off before its index"):
        VideoFile(path)


def test_lost_first_fragments_are_not_called_an_empty_video(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", 60, **CONTAINERS["fragmented"][1])
    data = path.read_bytes()
    start = data.find(b"moof") - 4
    path.write_bytes(data[:start] + NOISE[:400] + data[start + 400 :])
    with pytest.raises(CorruptVideoError, match="cut off or overwritten"):
        VideoFile(path)


# damage in the middle


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
@pytest.mark.parametrize("reorder", ["0", "2"])
def test_a_damaged_frame_is_skipped_and_reported(tmp_path: Path, name: str, reorder: str) -> None:
    path = make(tmp_path / name, 60, codec_options={"g": "60", "bf": reorder, "b-adapt": "0", "sc_threshold": "0"})
    position, size, pts = packets(path)[31]
    data = bytearray(path.read_bytes())
    data[position + 4 : position + size] = bytes(size - 4)
    path.write_bytes(data)
    with av.open(str(path)) as container:
        lost = float(pts * (container.streams.video[0].time_base or 0))
    times, damage = read(path)
    assert damage.skipped >= 1
    assert damage.truncated_at is None
    (span,) = damage.spans
    assert span.start - 1e-3 <= lost < span.end
    assert span.end - span.start < 0.5
    assert times == pytest.approx(
        [k / 25 for k in range(60) if not span.start - 0.01 < k / 25 < span.end - 0.01], abs=2e-3
    )
    assert damage.describe().startswith(f"{damage.skipped} damaged frame")
    reader = open_frames(path, 5)
    assert [frame.index for frame in reader] == list(range(12))
    assert reader.damage == damage
    with pytest.raises(CorruptVideoError, match=r"is damaged after \d\d frames"):
        list(VideoFile(path, strict=True).decode())


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.flv"])
@pytest.mark.parametrize("gop", [60, 20])
def test_only_a_partly_damaged_key_frame_is_skipped(tmp_path: Path, name: str, gop: int) -> None:
    path = make(tmp_path / name, 60, (120, 160), codec_options={"g": str(gop), "bf": "0", "sc_threshold": "0"})
    damaged = 20 if gop == 20 else 0
    position, size, _ = packets(path)[damaged]
    data = bytearray(path.read_bytes())
    data[position + size // 3 : position + size // 3 + 60] = NOISE[:60]
    path.write_bytes(data)
    times, damage = read(path)
    assert damage == Damage(1, (pytest.approx(Span(damaged / 25, (damaged + 1) / 25), abs=2e-3),))
    assert times == pytest.approx([k / 25 for k in range(60) if k != damaged], abs=2e-3)


def test_frames_that_depend_on_a_lost_key_frame_are_skipped_too(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", 60, codec_options={"g": "20", "bf": "0", "sc_threshold": "0"})
    position = packets(path)[20][0]
    data = bytearray(path.read_bytes())
    data[position : position + 4] = bytes([255] * 4)  # the length of its first unit
    path.write_bytes(data)
    times, damage = read(path)
    assert damage.skipped == 20
    assert damage.spans == (pytest.approx(Span(0.8, 1.6)),)
    assert len(greys(path)) == 40
    assert times == pytest.approx([k / 25 for k in (*range(20), *range(40, 60))])


def test_times_count_from_a_damaged_first_frame(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", 40, codec_options={"g": "10", "bf": "0", "sc_threshold": "0"})
    position, size, _ = packets(path)[0]
    data = bytearray(path.read_bytes())
    data[position + 4 : position + size] = bytes(size - 4)
    path.write_bytes(data)
    times, damage = read(path)
    assert times == pytest.approx([k / 25 for k in range(10, 40)], abs=2e-3)
    assert damage.skipped == 10
    assert damage.spans == (pytest.approx(Span(0.0, 0.4), abs=2e-3),)


@pytest.mark.parametrize("container", ["mp4", "ts", "mkv", "mkv without durations", "flv", "mpg", "avi"])
@pytest.mark.parametrize("kind", ["zeros", "noise", "hole"])
def test_a_damaged_part_is_skipped(tmp_path: Path, container: str, kind: str) -> None:
    name, options = CONTAINERS[container]
    path = make(tmp_path / name, 100, codec_options={"g": "10", "bf": "0"}, **(options or {}))
    data = path.read_bytes()
    middle = len(data) // 2 // 188 * 188
    part = {"zeros": bytes(len(NOISE)), "noise": NOISE, "hole": b""}[kind]
    if kind == "hole" and container in ("mp4", "avi"):  # the index is at the end and no longer fits
        return
    path.write_bytes(data[:middle] + part + data[middle + len(NOISE) :])
    times, damage = read(path)
    assert 60 < len(times) < 100
    assert times == sorted(times)
    assert times[-1] == pytest.approx(99 / 25, abs=0.05)
    assert damage.skipped >= 1
    assert all(1 < span.start < span.end < 4 for span in damage.spans)


def test_a_file_without_any_good_frame_is_an_error(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", 20, codec_options={"g": "5", "bf": "0"})
    data = bytearray(path.read_bytes())
    for position, size, _ in packets(path):
        data[position : position + size] = bytes(size)
    path.write_bytes(data)
    with pytest.raises(CorruptVideoError, match="no frame can be decoded"):
        VideoFile(path)


# streams


@pytest.mark.parametrize(("name", "old", "codec"), [("a.mp4", b"avc1", "zzz1"), ("a.mov", b"avc1", "zzz1")])
def test_a_codec_without_decoder_is_named(tmp_path: Path, name: str, old: bytes, codec: str) -> None:
    path = make(tmp_path / name, 5)
    path.write_bytes(path.read_bytes().replace(old, codec.encode()))
    with pytest.raises(NoDecoderError, match=f"no decoder for codec {codec}"):
        VideoFile(path)


@pytest.mark.parametrize(
    ("name", "encoder", "old", "codec"),
    [
        ("a.mkv", "libx264", b"V_MPEG4/ISO/AVC", "V_ZPEG4/ISO/ZZZ"), ("a.avi", "mpeg4", b"FMP4", "Z-4!"),
        ("a.ivf", "libvpx", b"VP80", "ZZ80"), ("a.wmv", "wmv2", b"WMV2", "ZZZ2"), ("a.mov", "libx264", b"avc1", "z-z "),
    ],
)  # fmt: skip
def test_codecs_without_decoder_are_named_in_other_containers(
    tmp_path: Path, name: str, encoder: str, old: bytes, codec: str
) -> None:
    path = make(tmp_path / name, 5, codec=encoder)
    path.write_bytes(path.read_bytes().replace(old, codec.encode()))
    with pytest.raises(NoDecoderError, match=f"no decoder for codec {re.escape(codec)};"):
        VideoFile(path)


def test_a_codec_that_cannot_be_named_is_described(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", 5)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"\0zz1"))
    with pytest.raises(NoDecoderError, match="no decoder for the codec of its video stream;"):
        VideoFile(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mov"])
@pytest.mark.parametrize(
    ("sizes", "default", "selected"),
    [(((64, 64), (320, 240)), None, 1), (((320, 240), (64, 64)), None, 0), (((160, 120), (200, 150)), 0, 0)],
)
def test_the_default_or_largest_stream_is_read(
    tmp_path: Path, name: str, sizes: tuple[tuple[int, int], ...], default: int | None, selected: int
) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=10) for _ in sizes]
        for stream, (width, height) in zip(streams, sizes, strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if default is not None:
            streams[default].disposition = av.stream.Disposition.default
        for k in range(5):
            for stream, (width, height) in zip(streams, sizes, strict=True):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(k, height, width), "rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    if name == "a.ts" and default is not None:
        selected = 1  # MPEG-TS has no default
    file = VideoFile(path)
    assert (file.info.width, file.info.height) == sizes[selected]
    assert len(list(file.decode())) == 5


# exceptions of the library


class Stage:
    """A function of PyAV's container that raises ``RuntimeError`` instead."""

    def __init__(self, *_: object, **__: object) -> None:
        raise RuntimeError("a fault inside the library")


class FaultyContainer:
    """An open container of which one function is faulty."""

    def __init__(self, container: av.container.InputContainer, function: str) -> None:
        self._container, self._function = container, function

    def __getattr__(self, name: str) -> object:
        return Stage if name == self._function else getattr(self._container, name)

    def __enter__(self) -> FaultyContainer:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()


@pytest.mark.parametrize("stage", ["open", "demux", "streams", "format", "start_time"])
def test_exceptions_of_the_library_become_errors_that_name_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    path = make(tmp_path / "a.mp4", 5)
    original: Callable[..., av.container.InputContainer] = av.open

    def faulty_open(*arguments: object, **options: object) -> object:
        if stage == "open":
            raise RuntimeError("a fault inside the library")
        return FaultyContainer(original(*arguments, **options), stage)

    monkeypatch.setattr(av, "open", faulty_open)
    with pytest.raises(VideoError, match=r"a\.mp4"):
        VideoFile(path)


def test_a_frame_that_cannot_be_converted_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmduet.video.reader import FrameReader
    from mmduet.video.video_file import DecodedFrame

    class Unconvertible(DecodedFrame):
        def to_rgb(self) -> np.ndarray:
            if self.index == 10:
                raise RuntimeError("a fault inside the library")
            return super().to_rgb()

    class FaultyFile(VideoFile):
        def decode(self, sampler=None):
            return (Unconvertible(f.index, f.time, f.av_frame, f.duration) for f in super().decode(sampler))

    path = make(tmp_path / "a.mp4", 20)
    reader = FrameReader(FaultyFile(path), 5, "fixed", None)
    assert [frame.decoded_index for frame in reader] == [0, 5, 15]
    assert reader.damage == Damage(1, (pytest.approx(Span(0.4, 0.44)),))
    with pytest.raises(CorruptVideoError, match="after 10 frames"):
        list(FrameReader(FaultyFile(path, strict=True), 5, "fixed", None))


# animated WebP


def write_webp(path: Path, durations_ms: list[int]) -> Path:
    images = [Image.fromarray(np.full((48, 64, 3), 20 * k, np.uint8)) for k in range(len(durations_ms))]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations_ms, lossless=True)
    return path


def test_an_animated_webp_is_a_video(tmp_path: Path) -> None:
    path = write_webp(tmp_path / "a.webp", [100, 100, 300, 100, 1000])
    file = VideoFile(path, strict=True)
    assert file.info.duration == pytest.approx(1.6)
    frames = list(file)
    assert [frame.time for frame in frames] == pytest.approx([0.0, 0.1, 0.2, 0.5, 0.6])
    assert [int(frame.image.mean()) for frame in frames] == [0, 20, 40, 60, 80]
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(VideoError, match=r"a\.webp"):
        VideoFile(path)


def test_an_animated_avif_is_a_video(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    images = [Image.fromarray(np.full((48, 64, 3), 40 * k, np.uint8)) for k in range(4)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=200)
    frames = list(VideoFile(path, strict=True))
    assert [frame.time for frame in frames] == pytest.approx([0.0, 0.2, 0.4, 0.6])
    images[0].save(path)
    assert len(list(VideoFile(path))) == 1
