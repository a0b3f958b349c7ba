"""Videos that the server pulls: over a socket, or with no socket at all; every frame of a file is watched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import av
import httpx2
import numpy as np
import pytest
from openapi_spec_validator import validate
from served import Served, serving, wait_for
from web_files import web_files

from mmduet.video import VideoWriter

SPEAKING = {"type": "realtime", "max_output_tokens": 4, "duet": {"speak": {"policy": "threshold", "value": 0.5}}}


def write_film(path: Path, seconds: float) -> Path:
    noise = np.random.default_rng(0)
    with VideoWriter(path, 64, 48, 8.0) as writer:
        for _ in range(round(seconds * 8)):
            writer.write(noise.integers(0, 255, (48, 64, 3), np.uint8))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    write_film(root / "film.mp4", 4.0)
    write_film(root / "long.mp4", 120.0)
    with VideoWriter(root / "longer.mp4", 16, 16, 8.0) as writer:
        for _ in range(8 * 900):
            writer.write(np.zeros((16, 16, 3), np.uint8))
    (root / "broken.mp4").write_bytes((root / "film.mp4").read_bytes()[:5000])
    return root


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    with serving(
        pull_roots=str(folder), pull_hosts="127.0.0.1", pull_networks="127.0.0.0/8", time_to_live=0.5
    ) as server:
        yield server


def pulled(served: Served, url: str, fps: float = 4.0) -> list[dict]:
    with served.talk() as talk:
        talk.next()
        talk.update({"fps": fps, "speak": {"policy": "never"}})
        talk.send("input_source.open", url=url)
        told = talk.until("input_source.closed")
        return [*told, *talk.end()]


def test_a_file_under_a_root_is_watched_whole(served: Served, folder: Path) -> None:
    told = pulled(served, "film.mp4")
    opened = next(e for e in told if e["type"] == "input_source.opened")
    assert (opened["url"], opened["width"], opened["height"]) == ("film.mp4", 64, 48)
    assert [e["pts"] for e in told if e["type"] == "input_frame.scored"] == [i * 250_000 for i in range(16)]
    assert next(e for e in told if e["type"] == "input_source.closed")["reason"] == "ended"
    assert told[-1]["frames"] == {"received": 16, "scored": 16}


def test_a_file_from_the_web_is_the_same_file(served: Served, folder: Path) -> None:
    here = pulled(served, "film.mp4")
    with web_files({"/film.mp4?token=secret": (folder / "film.mp4").read_bytes()}) as host:
        there = pulled(served, f"{host}/film.mp4?token=secret")
    scores = [[e["informative"] for e in told if e["type"] == "input_frame.scored"] for told in (here, there)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert "secret" not in json.dumps(there)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("/etc/passwd", "bad_source"),
        ("../film.mp4", "bad_source"),
        ("file:///etc/passwd", "bad_source"),
        ("http://169.254.169.254/x", "bad_source"),
        ("rtsp://127.0.0.1/x", "bad_source"),
        ("broken.mp4", "corrupt_video"),
        ("a" * 300, "bad_source"),
    ],
)
def test_what_may_not_or_cannot_be_pulled_is_told(served: Served, url: str, code: str) -> None:
    told = pulled(served, url)
    assert [e["error"]["code"] for e in told if e["type"] == "error"] == [code]
    assert next(e for e in told if e["type"] == "input_source.closed")["reason"] == "failed"
    assert told[-1]["reason"] == "ended"


def test_pulling_can_be_stopped_and_another_begun(served: Served) -> None:
    with served.talk() as talk:
        talk.next()
        talk.update({"fps": 4, "speak": {"policy": "never"}})
        talk.send("input_source.close")
        assert talk.next("error")["error"]["code"] == "no_source"
        talk.send("input_source.open", url="long.mp4")
        talk.next("input_frame.scored")
        talk.send("input_source.open", url="film.mp4")
        assert talk.next("error")["error"]["code"] == "source_is_open"
        talk.send("input_source.close")
        assert talk.next("input_source.closed")["reason"] == "asked"
        talk.send("input_source.open", url="film.mp4")
        assert talk.next("input_source.closed")["reason"] == "ended"
        frames = talk.end()[-1]["frames"]
        assert set(frames) == {"received", "scored"}


def test_an_address_that_answers_oddly_is_no_fault_of_ours(served: Served) -> None:
    with web_files({}, {"/nowhere": " "}) as host:
        told = pulled(served, f"{host}/nowhere")
    assert next(e for e in told if e["type"] == "input_source.closed")["reason"] == "failed"
    told = pulled(served, "http://127.0.0.1:1/\x7f")
    assert next(e for e in told if e["type"] == "input_source.closed")["reason"] == "failed"


def test_a_fault_while_pulling_ends_the_pulling_alone(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmduet.server.pull.open_frames", lambda *_: 1 / 0)
    told = pulled(served, "film.mp4")
    assert next(e for e in told if e["type"] == "error")["error"]["code"] == "server"
    assert told[-1]["reason"] == "ended"


def test_who_was_silent_while_a_long_film_was_pulled_may_still_speak(folder: Path) -> None:
    with serving(pull_roots=str(folder), idle_timeout=0.4) as served, served.talk() as talk:
        talk.next()
        talk.update({"fps": 40, "speak": {"policy": "never"}})
        talk.send("input_source.open", url="long.mp4")
        talk.until("input_source.closed", timeout=60)
        assert talk.end()[-1]["reason"] == "ended"


def test_leaving_stops_the_pulling(served: Served) -> None:
    with served.talk() as talk:
        talk.next()
        talk.send("input_source.open", url="long.mp4")
        talk.next("input_frame.scored")
    wait_for(lambda: not served.house.sessions)


# without a socket


def read_events(response: httpx2.Response) -> Iterator[dict]:
    name = ""
    for line in response.iter_lines():
        if line.startswith("id: "):
            name = line[4:]
        elif line.startswith("data: "):
            event = json.loads(line[6:])
            assert event["event_id"] == name
            yield event


def test_a_session_without_a_socket_from_its_beginning_to_its_end(served: Served) -> None:
    body = {"source": "film.mp4", "query": "What?", "session": SPEAKING}
    created = httpx2.post(f"{served.http}/v1/sessions", json=body)
    assert created.status_code == 201
    assert created.json()["max_output_tokens"] == 4
    url = served.http + created.headers["location"] + "/events"
    with httpx2.stream("GET", url) as response:
        first = [event for event, _ in zip(read_events(response), range(5), strict=False)]
    with httpx2.stream("GET", url, headers={"Last-Event-ID": first[-1]["event_id"]}) as response:
        rest = list(read_events(response))
    told = [*first, *rest]
    assert told[0]["type"] == "session.created"
    assert told[-1]["type"] == "session.closed"
    assert told[-1]["reason"] == "ended"
    ids = [event["event_id"] for event in told]
    assert ids == sorted(set(ids))
    assert told[-1]["frames"]["scored"] == told[-1]["frames"]["received"] > 0
    wait_for(lambda: created.json()["id"] not in [session.id for session in served.house.sessions])
    assert httpx2.get(url).status_code == 404


def test_what_went_wrong_at_once_can_still_be_read(served: Served) -> None:
    body = {"source": "none.mp4", "session": {"type": "realtime", "duet": {"ack": False}}}
    created = httpx2.post(f"{served.http}/v1/sessions", json=body)
    assert created.json()["duet"]["ack"] is False
    wait_for(lambda: not served.house.sessions)
    with httpx2.stream("GET", served.http + created.headers["location"] + "/events") as response:
        told = list(read_events(response))
    assert [e["error"]["code"] for e in told if e["type"] == "error"] == ["bad_source"]
    assert told[-1]["type"] == "session.closed"


def test_it_goes_on_when_nobody_reads_and_can_be_deleted(served: Served) -> None:
    name = httpx2.post(f"{served.http}/v1/sessions", json={"source": "longer.mp4"}).json()["id"]
    with pytest.raises(AssertionError):
        wait_for(lambda: not served.house.sessions, seconds=1.2)  # longer than a lost client is waited for
    assert httpx2.delete(f"{served.http}/v1/sessions/{name}").status_code == 204
    wait_for(lambda: not served.house.sessions)
    assert httpx2.delete(f"{served.http}/v1/sessions/{name}").status_code == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "source"),
        ({"source": "x", "colour": 1}, "colour"),
        ({"source": "x", "session": {"type": "realtime", "duet": {"fps": -1}}}, "session.duet.fps"),
        ({"source": "x", "session": {"type": "realtime", "model": "gpt"}}, "session.model"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(served: Served, body: dict, param: str) -> None:
    answer = httpx2.post(f"{served.http}/v1/sessions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert not served.house.sessions


def test_another_key_finds_nothing(folder: Path) -> None:
    with serving(keys="mine,yours", pull_roots=str(folder)) as served:
        mine, yours = ({"Authorization": f"Bearer {key}"} for key in ("mine", "yours"))
        name = httpx2.post(f"{served.http}/v1/sessions", json={"source": "long.mp4"}, headers=mine).json()["id"]
        url = f"{served.http}/v1/sessions/{name}"
        assert httpx2.get(f"{url}/events", headers=yours).status_code == 404
        assert httpx2.delete(url, headers=yours).status_code == 404
        assert httpx2.post(f"{served.http}/v1/sessions", json={"source": "long.mp4"}).status_code == 401
        assert httpx2.delete(url, headers=mine).status_code == 204


def test_the_api_describes_itself(served: Served) -> None:
    described = httpx2.get(f"{served.http}/openapi.json").json()
    for path in ("/health", "/ready", "/version", "/metrics", "/v1/models", "/v1/sessions", "/v1/chat/completions"):
        assert path in described["paths"]
    validate(described)
    body = described["paths"]["/v1/sessions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    fields = described["components"]["schemas"][body["$ref"].rpartition("/")[2]]["properties"]
    assert {"source", "query", "session", "transport"} == set(fields)


# playlists


def write_playlist(folder: Path, seconds: float) -> dict[str, bytes]:
    """An HLS playlist and its segments, by path."""
    noise = np.random.default_rng(0)
    options = {"hls_time": "1", "hls_list_size": "0", "hls_segment_filename": str(folder / "s%03d.ts")}
    with av.open(str(folder / "list.m3u8"), "w", format="hls", options=options) as container:
        stream = container.add_stream("libx264", rate=8, options={"g": "8"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(round(seconds * 8)):
            image = noise.integers(0, 255, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return {f"/{path.name}": path.read_bytes() for path in folder.iterdir()}


def test_a_playlist_with_an_end_is_watched_whole(served: Served, tmp_path: Path) -> None:
    with web_files(write_playlist(tmp_path, 4.0)) as host:
        told = pulled(served, f"{host}/list.m3u8")
    assert [e["pts"] for e in told if e["type"] == "input_frame.scored"] == [i * 250_000 for i in range(16)]
    assert next(e for e in told if e["type"] == "input_source.closed")["reason"] == "ended"


def test_a_live_playlist_is_followed_and_ends_when_it_says_so(served: Served, tmp_path: Path) -> None:
    files = write_playlist(tmp_path, 6.0)
    whole = files["/list.m3u8"].decode()
    cut = whole[: whole.index("#EXTINF", whole.index("s001"))]  # two segments, and no end
    files["/list.m3u8"] = cut.encode()
    with web_files(files) as host, served.talk() as talk:
        talk.next()
        talk.update({"fps": 4, "speak": {"policy": "never"}})
        talk.send("input_source.open", url=f"{host}/list.m3u8")
        first = [talk.next("input_frame.scored")["pts"] for _ in range(3)]
        files["/list.m3u8"] = whole.encode()
        told = talk.until("input_source.closed", timeout=40)
        assert told[-1]["reason"] == "ended"
        rest = [e["pts"] for e in told if e["type"] == "input_frame.scored"]
        talk.end()
    assert [*first, *rest] == sorted({*first, *rest})
    assert rest[-1] >= 5_000_000


def test_what_a_playlist_names_is_checked_too(served: Served, tmp_path: Path) -> None:
    files = write_playlist(tmp_path, 2.0)
    for evil in ("http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "/none.ts"):
        files["/list.m3u8"] = files["/list.m3u8"].replace(b"s000.ts", evil.encode())
        with web_files(files) as host:
            told = pulled(served, f"{host}/list.m3u8")
        assert next(e for e in told if e["type"] == "input_source.closed")["reason"] == "failed"
        files["/list.m3u8"] = files["/list.m3u8"].replace(evil.encode(), b"s000.ts")
