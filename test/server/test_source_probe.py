"""Connection tests of sources: what they report, why they fail, and their bounds; and the load that the server reports."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from live_server import RunningServer, run_test_server, wait_for
from PIL import Image
from stream_server import body, endless, run_stream_server

from mmduet.client import SessionsClient
from mmduet.engine.thread import StepStats
from mmduet.errors import ServerError
from mmduet.server import source_prober
from mmduet.server.recent_stats import RecentStats
from mmduet.server.source_prober import MAX_PROBES
from mmduet.video import VideoWriter

HTTP = httpx2.Client(timeout=60)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("root") / "film.mp4"
    with VideoWriter(path, 64, 32, 8.0) as writer:
        for _ in range(24):
            writer.write(np.full((32, 64, 3), (255, 0, 0), np.uint8))
    (path.parent / "broken.mp4").write_bytes(bytes(5000))
    return path


@pytest.fixture(scope="module")
def server(film: Path) -> Iterator[RunningServer]:
    with run_test_server(
        pull_roots=str(film.parent), pull_hosts="127.0.0.1", pull_networks="127.0.0.0/8", max_sources_per_key=2
    ) as server:
        server.manager.media.register_videos("clip", lambda name, owner: film.parent / f"{name}.mp4")
        yield server


def probe(server: RunningServer, url: str, **fields: Any) -> httpx2.Response:
    return HTTP.post(f"{server.http}/v1/sources/test", json={"url": url, **fields})


@pytest.mark.parametrize("url", ["film.mp4", "clip:film"])
def test_a_file_is_described(server: RunningServer, url: str) -> None:
    response = probe(server, url)
    assert response.status_code == 200
    found = response.json()
    data = base64.b64decode(found.pop("thumbnail").removeprefix("data:image/jpeg;base64,"))
    image = np.asarray(Image.open(io.BytesIO(data)))
    assert image[image.shape[0] // 2, image.shape[1] // 2, 0] > 200
    assert found == {
        "ok": True, "url": url, "width": 64, "height": 32, "fps": 8.0, "duration": 3.0, "live": False, "codec": "h264",
    }  # fmt: skip


def jpeg() -> bytes:
    image = io.BytesIO()
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(image, "JPEG")
    return image.getvalue()


def test_a_camera_and_a_download_are_described(server: RunningServer, film: Path) -> None:
    def chunks() -> Iterator[bytes]:
        while True:
            yield b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg() + b"\r\n"
            time.sleep(0.05)

    camera = endless(chunks, "multipart/x-mixed-replace; boundary=frame")
    with run_stream_server({"/cam": camera, "/film": body(film.read_bytes())}) as web:
        found = probe(server, web.url("/cam?password=s3cret")).json()
        assert (found["live"], found["codec"], found["width"], found["duration"]) == (True, "mjpeg", 64, None)
        assert found["url"] == web.url("/cam")
        with SessionsClient(server.http) as client:
            downloaded = client.test_source(web.url("/film"))
            assert (downloaded.live, downloaded.codec, downloaded.duration) == (False, "h264", 3.0)
            with pytest.raises(ServerError, match="404") as caught:
                client.test_source(web.url("/missing"))
            assert caught.value.code == "bad_source"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("/etc/passwd", "bad_source"),
        ("http://169.254.169.254/x", "bad_source"),
        ("rtsp://example.org/x", "bad_source"),
        ("rtsp://127.0.0.1:1/x", "bad_source"),
        ("webcam:7", "bad_source"),
        ("broken.mp4", "corrupt_video"),
        ("clip:broken", "corrupt_video"),
        ("clip:missing", "bad_source"),
    ],
)
def test_the_reason_of_a_failure_is_reported(server: RunningServer, film: Path, url: str, code: str) -> None:
    response = probe(server, url)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == (code, "url")
    assert str(film.parent) not in response.text


@pytest.mark.parametrize("fields", [{"url": ""}, {"transport": "sctp"}, {"colour": 1}])
def test_invalid_requests_name_the_parameter(server: RunningServer, fields: dict[str, Any]) -> None:
    response = HTTP.post(f"{server.http}/v1/sources/test", json={"url": "film.mp4", **fields})
    assert response.status_code == 400
    assert response.json()["error"]["param"] in fields


@pytest.fixture
def quick_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningServer]:
    """A server whose tests take at most half a second."""
    monkeypatch.setattr(source_prober, "PROBE_SECONDS", 0.5)
    with run_test_server(pull_hosts="127.0.0.1", pull_networks="127.0.0.0/8") as server:
        yield server


def test_an_endless_test_times_out_and_frees_its_place(quick_server: RunningServer) -> None:
    released = threading.Event()

    def trickle() -> Iterator[bytes]:
        yield b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg()[:-2]
        while not released.wait(0.05):
            yield b"x"

    with run_stream_server({"/cam": endless(trickle, "multipart/x-mixed-replace; boundary=frame")}) as web:
        try:
            for _ in range(MAX_PROBES):
                response = probe(quick_server, web.url("/cam"))
                assert response.status_code == 400
                assert "no frame within 0.5 s" in response.json()["error"]["message"]
            wait_for(lambda: probe(quick_server, web.url("/cam")).status_code == 400)  # there is a place again
        finally:
            released.set()


def test_tests_are_bounded_per_key_and_in_total(server: RunningServer, film: Path) -> None:
    released, waiting = threading.Event(), threading.Semaphore(0)

    def silent(handler: Any) -> None:
        waiting.release()
        released.wait(30)
        body(film.read_bytes())(handler)

    with run_stream_server({"/film": silent}) as web:
        answers: list[httpx2.Response] = []

        def request() -> None:
            url = f"{server.http}/v1/sources/test"
            answers.append(httpx2.post(url, json={"url": web.url("/film")}, timeout=60))

        threads = [threading.Thread(target=request) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert all(waiting.acquire(timeout=20) for _ in threads)
        try:
            refused = probe(server, "film.mp4")
        finally:
            released.set()
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert refused.headers["retry-after"]
        for thread in threads:
            thread.join()
    assert [answer.status_code for answer in answers] == [200, 200]
    wait_for(lambda: probe(server, "film.mp4").status_code == 200)


def test_one_client_secret_leaves_connection_tests_to_others(film: Path) -> None:
    released, waiting = threading.Event(), threading.Semaphore(0)

    def silent(handler: Any) -> None:
        waiting.release()
        released.wait(30)
        body(film.read_bytes())(handler)

    with (
        run_test_server(pull_hosts="127.0.0.1", pull_networks="127.0.0.0/8") as server,
        run_stream_server({"/film": silent}) as web,
        ThreadPoolExecutor() as background,
    ):
        secrets = [HTTP.post(f"{server.http}/v1/realtime/client_secrets").json()["value"] for _ in range(2)]

        def probe_as(secret: str) -> httpx2.Response:
            headers = {"Authorization": f"Bearer {secret}"}
            url = f"{server.http}/v1/sources/test"
            return httpx2.post(url, json={"url": web.url("/film")}, headers=headers, timeout=60)

        running = [background.submit(probe_as, secrets[0]) for _ in range(2)]
        assert all(waiting.acquire(timeout=20) for _ in running)
        try:
            refused = probe_as(secrets[0])
            running.append(background.submit(probe_as, secrets[1]))
            assert waiting.acquire(timeout=20)
        finally:
            released.set()
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert [each.result().status_code for each in running] == [200, 200, 200]


# Load


def test_the_load_of_the_server_is_reported(server: RunningServer) -> None:
    with SessionsClient(server.http) as client, server.connect() as socket:
        socket.receive()
        socket.update_session({"speak": {"policy": "never"}})
        before = client.stats()
        socket.send_frames(8)
        for _ in range(8):
            socket.receive("input_frame.scored")
        socket.send("response.create")
        socket.receive("response.done")
        after = client.stats()
    assert (before.sessions, after.sessions, after.max_sessions) == (1, 1, server.manager.budget.max_sessions)
    assert after.frames_per_second >= 0.8
    assert after.frames_per_step == 1.0
    assert after.step_ms_p50 is not None
    assert 0 < after.step_ms_p50 <= after.step_ms_p95
    assert 0 < after.frame_age_ms_p50 <= after.frame_age_ms_p95
    assert after.tokens_per_second > 0
    assert after.uptime_s >= before.uptime_s
    assert after.queued == 0


def test_the_load_needs_a_key_and_names_no_session() -> None:
    with run_test_server(keys="k") as server:
        url = f"{server.http}/v1/stats"
        assert HTTP.get(url).status_code == 401
        response = HTTP.get(url, headers={"Authorization": "Bearer k"})
        assert response.status_code == 200
        assert {type(value) for value in response.json().values()} <= {int, float, type(None)}


def test_only_the_last_seconds_count() -> None:
    now = 0.0
    stats = RecentStats(lambda: now)
    assert stats.figures().frame_age_ms_p50 is None
    stats.on_step(StepStats(5.0, 1, 40))
    stats.on_frame_scored(5.0)
    stats.on_tokens(500)
    now = 100.0
    for number in range(100):
        stats.on_step(StepStats(number / 1000, 2, 2))
        stats.on_frame_scored(number / 1000)
    stats.on_tokens(30)
    now = 105.0
    figures = stats.figures()
    assert (figures.frames_per_second, figures.frames_per_step, figures.tokens_per_second) == (20.0, 2.0, 3.0)
    assert (figures.step_ms_p50, figures.step_ms_p95) == (50.0, 95.0)
    assert (figures.frame_age_ms_p50, figures.frame_age_ms_p95) == (50.0, 95.0)
