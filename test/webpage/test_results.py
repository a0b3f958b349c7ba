"""Results: tasks on uploads and clips, their files, limits, ownership, cancellation."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import av
import pytest
from live_server import RunningServer, endless_model, wait_for
from page_server import run_page_server
from page_visitor import HTTP, Visitor, error_code, files_below
from PIL import Image
from video_files import make

from mmduet.errors import CapacityError
from mmduet.pipelines.task_run import TaskRun
from mmduet.webpage import result_files
from mmduet.webpage import results as results_module
from mmduet.webpage.background import JobStoppedError
from mmduet.webpage.result import Result

SILENT = {"fps": 1, "speak": "never"}
"""Options of a task that takes little time."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    with run_page_server(temporary=folder, max_uploads_per_visitor=30) as server:
        yield server


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An MP4 file of 8 s."""
    return make(tmp_path_factory.mktemp("video") / "v.mp4", count=80, fps=10).read_bytes()


@pytest.fixture
def visitor(server: RunningServer) -> Iterator[Visitor]:
    visitor = Visitor(server)
    yield visitor
    for upload in visitor.get_json("uploads")["uploads"]:
        visitor.delete(f"uploads/{upload['id']}")


@pytest.fixture
def source(visitor: Visitor, video: bytes) -> str:
    """The source of an uploaded video."""
    return str(visitor.upload(video, "film.mp4")["source"])


# what is found


def test_captions_are_listed_and_written_as_webvtt(visitor: Visitor, source: str) -> None:
    result = visitor.run_task(video=source, task="caption", options={"speak": "threshold:0.5", "fps": 1})
    found = result["result"]
    assert (result["state"], result["progress"], result["message"]) == ("done", 1.0, None)
    assert (found["fps"], found["duration"]) == (1, pytest.approx(8.0))
    assert len(found["scores"]) == 8
    assert found["segments"]
    captions = HTTP.get(visitor.base + result["files"]["captions"])
    assert captions.headers["content-type"] == "text/vtt; charset=utf-8"
    assert captions.headers["content-disposition"] == 'inline; filename="film-captions.vtt"'
    assert captions.text.startswith("WEBVTT")
    assert captions.text.count("-->") == len({segment["start"] for segment in found["segments"]})


def test_grounding_has_spans_scores_and_a_film_strip(visitor: Visitor, source: str) -> None:
    result = visitor.run_task(video=source, task="ground", query="a grey picture", options={"fps": 1, "threshold": 0})
    found = result["result"]
    assert found["query"] == "a grey picture"
    assert [(span["start"], span["end"]) for span in found["spans"]] == [(0, pytest.approx(8.0))]
    assert found["best"] == found["spans"][0]
    assert [score["time"] for score in found["scores"]] == list(range(8))
    picture = HTTP.get(visitor.base + result["files"]["film_strip"])
    assert picture.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(picture.content)).width > 500


def test_highlights_have_clips_and_a_reel(visitor: Visitor, source: str) -> None:
    result = visitor.run_task(video=source, task="highlight", options={"max_highlights": 2, "max_seconds": 1.5})
    top, files = result["result"]["top"], result["files"]
    assert 1 <= len(top) <= 2
    assert len(files["spans"]) == len(top)
    seconds = [duration_of(HTTP.get(visitor.base + url).content) for url in [*files["spans"], files["reel"]]]
    lengths = [span["end"] - span["start"] for span in top]
    assert seconds == pytest.approx([*lengths, sum(lengths)], abs=0.11)
    part = HTTP.get(visitor.base + files["reel"], headers={"Range": "bytes=0-9"})
    assert (part.status_code, len(part.content)) == (206, 10)


def test_a_highlight_without_duration_has_no_clip(
    visitor: Visitor, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = result_files.write_files

    def write_with_empty_highlight(request: result_files.FileRequest) -> Sequence[Path]:
        first, *others = request.result.output.top
        top = (first._replace(end=first.start), *others)
        output = replace(request.result.output, top=top)
        return write(replace(request, result=replace(request.result, output=output)))

    monkeypatch.setattr("mmduet.webpage.result.write_files", write_with_empty_highlight)
    result = visitor.run_task(video=source, task="highlight", options={"max_highlights": 3, "max_seconds": 1})
    top, spans = result["result"]["top"], result["files"]["spans"]
    assert len(spans) == len(top) >= 2
    assert spans[0] is None
    assert duration_of(HTTP.get(visitor.base + spans[1]).content) == pytest.approx(
        top[1]["end"] - top[1]["start"], abs=0.11
    )


def duration_of(data: bytes) -> float:
    with av.open(io.BytesIO(data)) as container:
        return float(container.duration or 0) / av.time_base


def test_questions_are_answered_from_when_they_are_asked(visitor: Visitor, source: str) -> None:
    options = {"time": 3.0, "speak": "threshold:0.5", "fps": 1}
    result = visitor.run_task(video=source, task="ask", query="What is grey?", options=options)
    assert result["result"]["asked"] == 3.0
    assert all(answer["start"] >= 3.0 for answer in result["result"]["answers"])
    assert result["files"]["captions"] is not None


def test_a_damaged_video_has_a_result_with_its_damage(visitor: Visitor, tmp_path: Path) -> None:
    path = make(tmp_path / "v.mkv", count=80, fps=10)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
    upload = visitor.upload(bytes(data), "damaged.mkv")
    result = visitor.run_task(video=upload["source"], task="caption", options={"speak": "never"})
    assert result["state"] == "done"
    assert result["result"]["damage"]["skipped"] > 0


# what is refused


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"task": "caption"}, "missing_parameter", "video"),
        ({"video": "SOURCE", "task": "dance"}, "invalid_value", "task"),
        ({"video": "SOURCE", "task": "ground"}, "missing_parameter", "query"),
        ({"video": "SOURCE", "task": "ask", "query": "  "}, "invalid_value", "query"),
        ({"video": "SOURCE", "task": "caption", "options": {"threshold": 0.5}}, "unsupported_parameter", "options.threshold"),
        ({"video": "SOURCE", "task": "caption", "options": {"speak": "often"}}, "invalid_value", "options.speak"),
        ({"video": "SOURCE", "task": "highlight", "options": {"max_seconds": 0}}, "invalid_value", "options.max_seconds"),
        ({"video": "SOURCE", "task": "caption", "options": {"fps": 1e9}}, "invalid_value", "options.fps"),
        ({"video": "SOURCE", "task": "caption", "folder": "/etc"}, "unknown_parameter", "folder"),
        ({"video": "/etc/passwd", "task": "caption"}, "invalid_value", "video"),
        ({"video": "file:///etc/passwd", "task": "caption"}, "invalid_value", "video"),
        ({"video": "upload:../../x", "task": "caption"}, "not_found", None),
        ({"video": "clip:nothing", "task": "caption"}, "not_found", None),
    ],
)  # fmt: skip
def test_invalid_requests_name_the_parameter(
    body: dict[str, object], code: str, param: str | None, visitor: Visitor, source: str
) -> None:
    response = visitor.request(
        "POST", "results", json={**body, "video": source} if body.get("video") == "SOURCE" else body
    )
    error = response.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert response.status_code == (404 if code == "not_found" else 400)


# limits and ownership


class Reading:
    """Frames of videos, which are not read while ``continues`` is clear."""

    def __init__(self) -> None:
        self.started, self.continues = threading.Event(), threading.Event()


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reading]:
    reading, frames = Reading(), TaskRun.frames

    def waiting_frames(task_run: TaskRun[object]) -> Iterator[object]:
        for frame in frames(task_run):
            reading.started.set()
            assert reading.continues.wait(30)
            yield frame

    monkeypatch.setattr(TaskRun, "frames", waiting_frames)
    yield reading
    reading.continues.set()


def start(visitor: Visitor, source: str, task: str = "caption") -> str:
    """Start a task and return the id of its result."""
    body = {"video": source, "task": task, "options": {"fps": 1}}
    if task == "caption":
        body["options"] = SILENT
    response = visitor.request("POST", "results", json=body)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def test_a_visitor_runs_one_task_at_a_time_and_may_cancel_it(
    server: RunningServer, visitor: Visitor, source: str, reading: Reading
) -> None:
    first = start(visitor, source)
    assert reading.started.wait(10)
    assert visitor.get_json(f"results/{first}")["state"] == "running"
    response = visitor.request("POST", "results", json={"video": source, "task": "caption"})
    assert (response.status_code, error_code(response)) == (409, "conflict")
    assert server.manager.budget.free_sessions < server.manager.budget.max_sessions
    assert visitor.delete(f"results/{first}") == 204
    assert visitor.get(f"results/{first}").status_code == 404
    wait_for(lambda: server.manager.budget.free_sessions == server.manager.budget.max_sessions)
    reading.continues.set()
    assert visitor.wait_for_result(start(visitor, source))["state"] == "done"


def test_a_deleted_video_ends_its_task(server: RunningServer, visitor: Visitor, source: str, reading: Reading) -> None:
    result = start(visitor, source)
    assert reading.started.wait(10)
    assert visitor.delete(f"uploads/{source.partition(':')[2]}") == 204
    assert visitor.get(f"results/{result}").status_code == 404
    wait_for(lambda: server.manager.budget.used_bytes == 0)


def test_few_tasks_run_at_a_time_and_the_others_wait_in_order(
    server: RunningServer, video: bytes, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_module, "MAX_WAITING", 2)
    monkeypatch.setattr(results_module, "MAX_WAITING_PER_ADDRESS", 2)
    visitors = [Visitor(server) for _ in range(5)]
    sources = [each.upload(video)["source"] for each in visitors]
    ids = []
    for visitor, source in zip(visitors[:4], sources, strict=False):
        ids.append(start(visitor, source))
        running = len(ids) if len(ids) <= 2 else 2
        wait_for(lambda running=running: server.manager.budget.count_sessions("anybody") == running)
    states = [each.get_json(f"results/{name}") for each, name in zip(visitors, ids, strict=False)]
    assert [state["state"] for state in states] == ["running", "running", "waiting", "waiting"]
    assert [state["position"] for state in states] == [None, None, 1, 2]
    response = visitors[4].request("POST", "results", json={"video": sources[4], "task": "caption"})
    assert (response.status_code, error_code(response)) == (503, "no_capacity")
    assert visitors[2].delete(f"results/{ids[2]}") == 204
    reading.continues.set()
    assert visitors[3].wait_for_result(ids[3])["state"] == "done"
    for visitor, source in zip(visitors, sources, strict=True):
        visitor.delete(f"uploads/{source.partition(':')[2]}")


def test_one_address_has_a_part_of_the_queue(
    server: RunningServer, visitor: Visitor, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_module, "MAX_RUNNING", 0)
    monkeypatch.setattr(results_module, "MAX_WAITING_PER_ADDRESS", 1)
    other = Visitor(server)
    first = start(visitor, source)
    body = {"video": "clip:arrivals", "task": "caption", "options": SILENT}
    response = other.request("POST", "results", json=body)
    assert (response.status_code, error_code(response)) == (429, "rate_limit_exceeded")
    assert "network address" in response.json()["error"]["message"]
    visitor.delete(f"results/{first}")
    wait_for(lambda: other.request("POST", "results", json=body).status_code == 202)
    for result in other.get_json("results"):
        other.delete(f"results/{result['id']}")


def test_a_task_for_which_there_is_no_memory_does_not_block_others(
    server: RunningServer, visitor: Visitor, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve, blocked = Result.reserve, list[str]()

    def reserve_small(result: Result) -> None:
        if result.body.task == "highlight":
            blocked.append(result.id)
            raise CapacityError("too little memory")
        reserve(result)

    monkeypatch.setattr(Result, "reserve", reserve_small)
    large = start(visitor, source, "highlight")
    wait_for(lambda: large in blocked)
    other = Visitor(server)
    small = other.run_task(video="clip:arrivals", task="caption", options=SILENT)
    assert small["state"] == "done"
    assert other.delete(f"results/{small['id']}") == 204
    state = visitor.get_json(f"results/{large}")
    assert (state["state"], state["message"]) == ("waiting", "too little memory")
    assert visitor.delete(f"results/{large}") == 204


def test_a_task_waits_while_its_visitor_has_too_many_sessions(tmp_path: Path, video: bytes) -> None:
    with run_page_server(temporary=tmp_path, max_sessions_per_client_secret=1) as server:
        visitor, other = Visitor(server), Visitor(server)
        source = visitor.upload(video)["source"]
        with server.connect(additional_headers=visitor.headers) as client:
            client.receive("session.created")
            result = start(visitor, source)
            wait_for(lambda: "client secret" in (visitor.get_json(f"results/{result}")["message"] or ""))
            assert (
                other.run_task(video=other.upload(video)["source"], task="caption", options=SILENT)["state"] == "done"
            )
            assert visitor.get_json(f"results/{result}")["state"] == "waiting"
        assert visitor.wait_for_result(result)["state"] == "done"


def test_a_visitor_finds_no_result_of_another(server: RunningServer, visitor: Visitor, source: str) -> None:
    result = visitor.run_task(video=source, task="caption", options=SILENT)
    path = f"results/{result['id']}"
    assert re.fullmatch(r"[\w-]{22,}", result["id"])
    other, anybody = Visitor(server), Visitor(server)
    anybody.headers = {}
    for stranger in (other, anybody):
        for method, name in (("GET", path), ("DELETE", path), ("GET", f"{path}/captions.vtt")):
            assert stranger.request(method, name).status_code == 404
        assert stranger.get(f"{path}/captions.vtt?token={'A' * 32}").status_code == 404
        assert stranger.get_json("results") == []
    assert [each["id"] for each in visitor.get_json("results")] == [result["id"]]
    assert visitor.get(f"{path}/captions.vtt").status_code == 200
    for name in ("video", "..%2f..%2fvideo", "captions.vtt%00", "span-1.mp4"):
        assert visitor.get(f"{path}/{name}").status_code == 404


def test_results_and_files_are_deleted_with_their_video(visitor: Visitor, source: str, folder: Path) -> None:
    result = visitor.run_task(video=source, task="caption", options=SILENT)
    assert visitor.delete(f"uploads/{source.partition(':')[2]}") == 204
    assert visitor.get(f"results/{result['id']}").status_code == 404
    assert HTTP.get(visitor.base + result["files"]["captions"]).status_code == 404
    wait_for(lambda: "captions.vtt" not in files_below(folder))


def test_only_the_last_results_are_kept(visitor: Visitor, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_module, "MAX_RESULTS_PER_VISITOR", 2)
    ids = [visitor.run_task(video=source, task="caption", options=SILENT)["id"] for _ in range(3)]
    assert [each["id"] for each in visitor.get_json("results")] == ids[1:]


# failures


def test_files_that_cannot_be_written_leave_the_result(
    visitor: Visitor, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(request: object) -> list[Path]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmduet.webpage.result.write_files", fail)
    result = visitor.run_task(video=source, task="caption", options=SILENT)
    assert (result["state"], result["code"]) == ("done", "storage")
    assert result["result"]["scores"]
    assert result["files"]["captions"] is None


def test_cutting_ends_when_the_result_is_deleted(
    visitor: Visitor, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cutting, stopped = threading.Event(), threading.Event()

    def endless(video: Path, clips: object, on_time: object) -> None:
        try:
            while True:
                cutting.set()
                on_time(1.0)  # type: ignore[operator]
        except JobStoppedError:
            stopped.set()
            raise

    monkeypatch.setattr("mmduet.webpage.result_files.cut_clips", endless)
    result = start(visitor, source, "highlight")
    assert cutting.wait(20)
    state = visitor.get_json(f"results/{result}")
    assert (state["state"], state["progress"] > 0.5) == ("finishing", True)
    assert visitor.delete(f"results/{result}") == 204
    assert stopped.wait(20)


def test_a_task_does_not_outlive_the_server(tmp_path: Path, video: bytes, reading: Reading) -> None:
    with run_page_server(endless_model(), temporary=tmp_path) as server:
        visitor = Visitor(server)
        start(visitor, visitor.upload(video)["source"])
        assert reading.started.wait(10)
    assert list(tmp_path.iterdir()) == []
