"""Files of which a part was overwritten, zeroed or cut out: no frame is lost without being reported."""

from __future__ import annotations

import random
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import make, packets

from mmduet.errors import VideoError
from mmduet.spans import Span
from mmduet.video import Damage, VideoFile

COUNT = 60
CLUSTERS = {"cluster_time_limit": "400"}
FILES = {
    "mkv": ("a.mkv", {}), "mkv of clusters": ("a.mkv", {"options": CLUSTERS}),
    "mkv with cues first": ("a.mkv", {"options": CLUSTERS | {"reserve_index_space": "2000"}}),
    "mkv without lengths": ("a.mkv", {"options": {"live": "1"}}), "webm": ("a.webm", {"codec": "libvpx"}),
    "mp4": ("a.mp4", {"options": {"movflags": "faststart"}}),
    "fragmented": ("a.mp4", {"options": {"movflags": "frag_keyframe+empty_moov"}}),
    "ts": ("a.ts", {}), "avi": ("a.avi", {"codec": "mpeg4"}), "flv": ("a.flv", {}),
}  # fmt: skip


def read(path: Path) -> tuple[list[float], Damage]:
    file = VideoFile(path)
    return [frame.time for frame in file.decode()], file.damage


def damaged(data: bytes, seed: int) -> bytes:
    """Return the data with one part of a random length lost."""
    source = random.Random(seed)
    start = source.randrange(len(data))
    part = data[start : start + source.choice([1, 4, 20, 200, 1500, len(data) // 5])]
    new = source.choice([b"", bytes(len(part)), source.randbytes(len(part))])
    return data[:start] + new + data[start + len(part) :]


@pytest.mark.parametrize("container", FILES)
def test_no_frame_is_lost_silently(tmp_path: Path, container: str) -> None:
    name, options = FILES[container]
    codec_options = {"g": "12", "bf": "2"} if "codec" not in options else {"g": "12"}
    data = make(tmp_path / f"whole-{name}", COUNT, codec_options=codec_options, **options).read_bytes()
    assert read(tmp_path / f"whole-{name}") == ([pytest.approx(k / 25, abs=2e-3) for k in range(COUNT)], Damage())
    silent, played = [], 0
    for seed in range(12):
        path = tmp_path / name
        path.write_bytes(damaged(data, seed))
        try:
            times, damage = read(path)
        except VideoError:  # nothing can be decoded
            continue
        played += 1
        if len(times) < COUNT and not damage:
            silent.append(seed)
        assert times[-1] < COUNT / 25 + 0.5
        # After a loss FFmpeg may output two frames late; they have been recorded as lost before.
        assert len(times) + damage.skipped <= COUNT + 2, f"seed {seed}: frames are counted twice"
    assert played > 5
    assert silent == []


def test_a_demuxer_that_gives_up_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "12"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for k in range(80):
            image = np.full((120, 160, 3), 60, np.uint8)
            image[20:50, 4 * k % 140 :][:, :20] = 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    middle = len(data) // 2
    for seed in range(20):
        path.write_bytes(data[:middle] + np.random.default_rng(seed).bytes(1500) + data[middle + 1500 :])
        times, damage = read(path)
        assert 20 < len(times) < 80
        assert damage


def test_a_lost_b_frame_is_reported(tmp_path: Path) -> None:
    path = make(tmp_path / "a.flv", 60, codec_options={"g": "60", "bf": "2", "b-adapt": "0", "sc_threshold": "0"})
    found = packets(path)
    lost = next(k for k in range(30, 60) if found[k][2] < found[k - 1][2] and found[k][2] < found[k + 1][2])
    position, _, _ = found[lost]
    data = bytearray(path.read_bytes())
    data[position + 11 : position + 16] = bytes(5)  # without a codec, so that the demuxer skips the tag
    path.write_bytes(data)
    times, damage = read(path)
    (span,) = damage.spans
    assert damage.skipped == 60 - len(times) == 1
    assert span.start == pytest.approx(next(k / 25 for k in range(60) if abs(times[k] - k / 25) > 0.02), abs=2e-3)


def test_a_lost_beginning_is_reported(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", 60, codec_options={"g": "20", "bf": "0"}, options=CLUSTERS)
    first, data = packets(path)[0][0], bytearray(path.read_bytes())
    data[first - 30 : first + 100] = bytes(130)
    path.write_bytes(data)
    times, damage = read(path)
    assert times[0] > 0.1
    assert damage == Damage(round(times[0] * 25), (pytest.approx(Span(0.0, times[0]), abs=2e-3),))


def test_frames_lost_from_an_avi_file_are_counted_once(tmp_path: Path) -> None:
    path = make(tmp_path / "a.avi", COUNT, codec="mpeg4", codec_options={"g": "12"})
    start, stop, data = packets(path)[24][0] - 8, packets(path)[36][0] - 8, bytearray(path.read_bytes())
    data[start:stop] = bytes(stop - start)
    path.write_bytes(data)
    times, damage = read(path)
    assert len(times) == COUNT - 12
    assert damage == Damage(12, (pytest.approx(Span(24 / 25, 36 / 25)),))
