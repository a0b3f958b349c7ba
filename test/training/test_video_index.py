"""The video index: the times of every frame that the reader returns, problems of broken files, and the cache."""

from __future__ import annotations

import json
import os
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from video_files import make

from mmduet.errors import OptionError, TrainingError
from mmduet.training.video_index import VideoIndex, pack_times, sample_times, unpack_times
from mmduet.video import open_frames
from mmduet.video.sampling import FrameSampler

COUNT = 60
X264 = {"g": "12", "bf": "2"}
VARIABLE = [40 * k + (k // 15) * 900 + (k % 3) * 7 for k in range(COUNT)]  # milliseconds
FILES: dict[str, tuple[str, dict[str, object]]] = {
    "constant rate": ("a.mp4", {"codec_options": X264}),
    "fractional rate": ("a.mp4", {"codec_options": X264, "times_ms": [round(k * 1001 / 24) for k in range(COUNT)]}),
    "variable rate": ("a.mkv", {"codec_options": X264, "times_ms": VARIABLE}),
    "later start": ("a.mp4", {"codec_options": X264, "times_ms": [5000 + 40 * k for k in range(COUNT)]}),
    "decoded in full": ("a.webm", {"codec": "libvpx", "codec_options": {"cpu-used": "8"}}),
}
RATES = (0.3, 0.5, 1.0, 2.0, 3.7, 10.0, 100.0)


@pytest.mark.parametrize("name", FILES)
def test_times_are_those_that_the_reader_returns(tmp_path: Path, name: str) -> None:
    file, options = FILES[name]
    path = make(tmp_path / file, count=COUNT, **options)
    index = VideoIndex.scan({"v": path})
    assert index.problems("v") == ()
    for fps in RATES:
        reader = open_frames(path, fps)
        times = [frame.time for frame in reader]
        assert index.frames("v", fps).tolist() == times
        assert index.frames("v", fps, 3).tolist() == times[:3]
    every = open_frames(path, None)
    last = list(every)[-1]
    assert index.duration("v") == pytest.approx(every.last_frame_end)
    assert index.duration("v") > last.time


intervals = st.lists(st.sampled_from([0.0, 1e-7, 0.01, 1 / 30, 1001 / 30000, 0.5, 2.3]), min_size=1, max_size=40)


@given(intervals, st.sampled_from([0.1, 0.5, 1.0, 1.5, 2.0, 7.3, 25.0, 29.97]))
def test_sampling_equals_that_of_the_reader_frame_by_frame(steps: list[float], fps: float) -> None:
    times = list(accumulate(steps, initial=0.0))
    sampler = FrameSampler(fps)
    assert sample_times(np.array(times), fps).tolist() == [time for time in times if sampler.accept(time)]


@given(st.lists(st.integers(0, 90_000), max_size=80), st.sampled_from([1000, 15360, 24000, 30000, 90000, 600]))
def test_times_are_packed_without_loss(steps: list[int], rate: int) -> None:
    times = [ticks / rate for ticks in accumulate(steps)]
    assert unpack_times(*reversed(pack_times(times))).tolist() == times


def test_times_of_no_time_base_are_packed_without_loss() -> None:
    times = np.sort(np.random.default_rng(0).random(100) * 1e3).tolist()
    rate, text = pack_times(times)
    assert rate == 0
    assert unpack_times(text, rate).tolist() == times


def test_packed_times_are_small() -> None:
    _, text = pack_times([round(k * 1001 / 30) / 1000 for k in range(100_000)])
    assert len(text) < 10_000


def test_broken_files_are_reported_and_have_no_frames(tmp_path: Path) -> None:
    good = make(tmp_path / "good.mp4", count=20)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(good.read_bytes()[:-400])
    (tmp_path / "text.mp4").write_text("hello")
    videos = {"good": good, "text": tmp_path / "text.mp4", "missing": tmp_path / "no.mp4", "cut": cut}
    index = VideoIndex.scan(videos)
    assert index.problems("good") == ()
    for name in ("text", "missing"):
        assert index.frames(name, 1.0).tolist() == []
        assert index.duration(name) == 0.0
        assert len(index.problems(name)) == 1
    assert "no.mp4 does not exist" in index.problems("missing")[0]
    assert "cut.mp4" in index.problems("cut")[0]
    with pytest.raises(TrainingError, match="'other' is not in the index"):
        index.frames("other", 1.0)
    assert "good" in index
    assert "other" not in index


def test_a_scan_is_cached_until_the_file_changes(tmp_path: Path) -> None:
    cache, path = tmp_path / "cache" / "index.json", make(tmp_path / "a.mp4", count=20)
    seen: list[tuple[int, int]] = []

    def scan() -> VideoIndex:
        seen.clear()
        return VideoIndex.scan({"v": path}, cache, progress=lambda done, total: seen.append((done, total)))

    first = scan()
    assert seen == [(0, 1), (1, 1)]
    expected = first.frames("v", 5.0).tolist()
    content = path.read_bytes()
    state = path.stat()
    path.write_bytes(bytes(len(content)))  # same size and time: it must not be read again
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    again = scan()
    assert seen == [(1, 1)]
    assert again.frames("v", 5.0).tolist() == expected
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert scan().problems("v")
    assert seen == [(0, 1), (1, 1)]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 0, "videos": {}}', '{"version": 1, "videos": {"PATH": {}}}']
)
def test_a_cache_that_cannot_be_read_is_rebuilt(tmp_path: Path, content: str) -> None:
    cache, path = tmp_path / "index.json", make(tmp_path / "a.mp4", count=20)
    cache.write_text(content.replace("PATH", str(path)))
    assert VideoIndex.scan({"v": path}, cache).duration("v") > 0
    assert str(path) in json.loads(cache.read_text())["videos"]


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = make(tmp_path / "a.mp4", count=5)
    with pytest.raises(OptionError, match=r"file.*cannot be written"):
        VideoIndex.scan({"v": path}, tmp_path / "file" / "index.json")


def test_workers_give_the_same_index(tmp_path: Path) -> None:
    videos = {f"{k}": make(tmp_path / f"{k}.mp4", count=5 + k) for k in range(3)} | {"no": tmp_path / "no.mp4"}
    alone, parallel = VideoIndex.scan(videos), VideoIndex.scan(videos, workers=2)
    for name in videos:
        assert parallel.frames(name, 8.0).tolist() == alone.frames(name, 8.0).tolist()
        assert parallel.problems(name) == alone.problems(name)
