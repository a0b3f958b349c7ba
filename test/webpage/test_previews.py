"""Previews: what browsers play is served as it is, everything else is transcoded in the background."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from container_files import intact
from live_server import RunningServer, wait_for
from page_server import run_page_server
from page_visitor import HTTP, Visitor, error_code
from video_files import greys, make

from mmduet.video import VideoFile
from mmduet.webpage import background
from mmduet.webpage.background import BackgroundWorker, JobStoppedError, StopSignal
from mmduet.webpage.disk_budget import DiskBudget, DiskShare
from mmduet.webpage.playback import browser_media_type
from mmduet.webpage.preview import Preview
from mmduet.webpage.transcoding import write_preview
from mmduet.webpage.upload_check import UploadedVideo


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with run_page_server(temporary=tmp_path_factory.mktemp("page"), max_uploads_per_visitor=30) as server:
        yield server


@pytest.fixture(scope="module")
def visitor(server: RunningServer) -> Visitor:
    return Visitor(server)


def preview_of(folder: Path, source: Path) -> Path:
    """Write the preview of a video and return it."""
    target = folder / "preview.mp4"
    write_preview(source, target, lambda time: None)
    return target


# what browsers play


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "media_type"),
    [
        ("v.mp4", "libx264", "yuv420p", "video/mp4"),
        ("v.mp4", "libx264", "yuv444p", None),
        ("v.mp4", "libx264", "yuv420p10le", None),
        ("v.mp4", "mpeg4", "yuv420p", None),
        ("v.mov", "libx264", "yuv420p", None),
        ("v.mkv", "libx264", "yuv420p", None),
        ("v.ts", "libx264", "yuv420p", None),
        ("v.webm", "libvpx", "yuv420p", "video/webm"),
        ("v.webm", "libvpx-vp9", "yuv420p", "video/webm"),
        ("v.mkv", "libvpx", "yuv420p", None),
    ],
)
def test_container_codec_and_pixels_decide(
    name: str, codec: str, pix_fmt: str, media_type: str | None, tmp_path: Path
) -> None:
    path = make(tmp_path / name, count=3, codec=codec, pix_fmt=pix_fmt, codec_options={})
    assert browser_media_type(path) == media_type


def test_sound_that_browsers_do_not_play_needs_a_copy(tmp_path: Path) -> None:
    for codec, media_type in (("aac", "video/mp4"), ("ac3", None)):
        path = tmp_path / f"{codec}.mp4"
        with av.open(str(path), "w") as container:
            video, sound = container.add_stream("libx264", 10), container.add_stream(codec, 48000)
            video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
            container.mux(video.encode(None))
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
            frame.sample_rate = 48000
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
        assert browser_media_type(path) == media_type


# the copy


def test_a_preview_keeps_images_and_times_of_a_variable_rate(tmp_path: Path) -> None:
    times = [0, 40, 80, 500, 540, 2000, 2033, 2100]
    source = make(tmp_path / "v.mkv", count=8, size=(48, 64), times_ms=times, codec_options={"bf": "0"})
    preview = preview_of(tmp_path, source)
    assert browser_media_type(preview) == "video/mp4"
    with VideoFile(preview) as file:
        assert [frame.time for frame in file.decode()] == pytest.approx([time / 1000 for time in times], abs=1e-3)
        assert (file.info.width, file.info.height) == (64, 48)
    assert greys(preview) == greys(source)


def test_a_preview_is_small_and_upright(tmp_path: Path) -> None:
    source = make(tmp_path / "v.mov", count=3, size=(360, 1440), rotation=90)
    with VideoFile(preview_of(tmp_path, source)) as file, VideoFile(source) as original:
        assert (file.info.width, file.info.height) == (180, 720)
        image, expected = (next(each.decode()).to_rgb() for each in (file, original))
    corners = [image[:30, :30], image[:30, -30:], image[-30:, :30], image[-30:, -30:]]
    white = [corner.min() > 180 for corner in corners]
    assert sum(white) == 1
    height, width = expected.shape[:2]
    places = [(0, 0), (0, width - 30), (height - 30, 0), (height - 30, width - 30)]
    assert white == [expected[y : y + 30, x : x + 30].min() > 180 for y, x in places]


def test_a_preview_starts_with_its_index_and_has_the_sound(tmp_path: Path) -> None:
    source = tmp_path / "sound.mkv"
    source.write_bytes(intact("sound.mp4"))
    preview = preview_of(tmp_path, source)
    data = preview.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(preview)) as container:
        assert len(container.streams.audio) == 1


def test_damaged_frames_are_left_out(tmp_path: Path) -> None:
    source = make(tmp_path / "v.mkv", count=60, size=(48, 64))
    data = bytearray(source.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    source.write_bytes(data)
    with VideoFile(preview_of(tmp_path, source)) as file:
        assert 10 < len(list(file.decode())) < 60
        assert not file.damage


def test_quick_frames_are_left_out(tmp_path: Path) -> None:
    source = make(tmp_path / "v.mkv", count=60, size=(48, 64), fps=60, codec_options={"bf": "0"})
    with VideoFile(preview_of(tmp_path, source)) as file:
        times = [frame.time for frame in file.decode()]
    assert len(times) == 30
    assert times[:3] == pytest.approx([0, 2 / 60, 4 / 60], abs=2e-3)


# in the background


def test_a_video_that_browsers_do_not_play_is_transcoded(visitor: Visitor) -> None:
    upload = visitor.upload(intact("avi"), "old.avi")
    assert upload["transcoding"] is not None
    finished = visitor.wait_for_preview(upload["id"])
    assert finished["transcoding"] == {"state": "ready", "position": None, "progress": 1.0, "message": None}
    assert finished["preview"] == upload["preview"]
    played = HTTP.get(visitor.base + upload["preview"])
    assert played.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(played.content)) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_a_preview_that_is_not_finished_is_a_conflict_and_ends_with_its_upload(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, stopped, pause = threading.Event(), threading.Event(), threading.Event()

    def endless(source: Path, target: Path, on_time: object) -> None:
        started.set()
        time = 0.0
        try:
            while not pause.wait(0.01):
                on_time(time)  # type: ignore[operator]
                time += 0.01
        except JobStoppedError:
            stopped.set()
            raise

    monkeypatch.setattr("mmduet.webpage.preview.write_preview", endless)
    first, second = visitor.upload(intact("avi"), "a.avi"), visitor.upload(intact("avi"), "b.avi")
    assert started.wait(10)
    wait_for(lambda: visitor.get_json(f"uploads/{first['id']}")["transcoding"]["progress"] > 0)
    waiting = visitor.get_json(f"uploads/{second['id']}")["transcoding"]
    assert (waiting["state"], waiting["position"]) == ("waiting", 1)
    assert visitor.get_json(f"uploads/{first['id']}")["transcoding"]["position"] is None
    response = HTTP.get(visitor.base + first["preview"])
    assert (response.status_code, error_code(response)) == (409, "conflict")
    assert visitor.delete(f"uploads/{second['id']}") == 204
    assert visitor.delete(f"uploads/{first['id']}") == 204
    assert stopped.wait(30)


def test_a_preview_that_fails_is_reported(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, target: Path, on_time: object) -> None:
        raise OSError("secret")

    monkeypatch.setattr("mmduet.webpage.preview.write_preview", fail)
    upload = visitor.wait_for_preview(visitor.upload(intact("avi"))["id"])
    assert upload["transcoding"]["state"] == "failed"
    assert "secret" not in upload["transcoding"]["message"]
    assert HTTP.get(visitor.base + upload["preview"]).status_code == 409


def test_a_preview_that_grows_too_large_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmduet.webpage.preview.SIZE_CHECK_FRAMES", 1)
    source = make(tmp_path / "v.mkv", count=150, size=(96, 96))
    video, worker = UploadedVideo(6.0, 96, 96, 0.0, None), BackgroundWorker("test")
    preview = Preview(source, "noise.mkv", video, worker, DiskShare(DiskBudget(1 << 30)), max_bytes=50_000)
    worker.close(20)
    assert (preview.state, preview.path.exists()) == ("failed", False)
    assert preview.message == "the preview of noise.mkv is larger than 50000 bytes and is not kept"
    assert [path.name for path in tmp_path.iterdir()] == ["v.mkv"]


def test_the_worker_has_the_lowest_priority_and_one_job_at_a_time() -> None:
    worker = BackgroundWorker("test")
    mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    niceness = worker.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    assert niceness.result(10) == background.LOWEST_PRIORITY
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == mine
    failed = worker.submit(lambda: 1 // 0)
    assert isinstance(failed.exception(10), ZeroDivisionError)
    signal = StopSignal()
    signal.check()
    signal.set()
    assert isinstance(worker.submit(signal.check).exception(10), JobStoppedError)
    worker.close(10)


def test_the_jobs_of_all_owners_run_in_turn() -> None:
    worker, first, order = BackgroundWorker("test"), threading.Event(), list[str]()
    running = worker.submit(lambda: first.wait(30), "a")
    wait_for(running.running)
    jobs = {
        name: worker.submit(lambda name=name: order.append(name), name[0])
        for name in ("a1", "a2", "a3", "b1", "b2", "c1")
    }
    jobs["b2"].cancel()
    expected = ["a1", "b1", "c1", "a2", "a3"]
    assert {name: worker.position(job) for name, job in jobs.items()} == {
        "b2": None,
        **{name: place for place, name in enumerate(expected, 1)},
    }
    first.set()
    worker.close(10)
    assert order == expected
    assert worker.position(jobs["a3"]) is None
