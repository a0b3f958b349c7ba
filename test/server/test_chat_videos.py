"""Videos of any length in chat completions: their frames are spread evenly and fit the model's context."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import av
import numpy as np
import openai
import pytest
from live_server import RunningServer, encode_image, endless_model, jpeg, run_test_server, wait_for

from mmduet.model import LoadedModel
from mmduet.video import VideoWriter, open_frames

CONTEXT, FPS = 640, 2.0  # of the model that is served here
REPLY = 8  # tokens


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with run_test_server(small_model(), max_chat_frames=100_000) as server:
        yield server


def small_model() -> LoadedModel:
    model = endless_model()
    config = model.network.config
    model.network.config = replace(config, text=replace(config.text, max_positions=CONTEXT))
    return model


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A film of 150 s: more frames at the model's rate than its context holds."""
    return write_video(tmp_path_factory.mktemp("film") / "long.mp4", range(300), 2.0)


def write_video(path: Path, shades: range, fps: float) -> bytes:
    """Return a video with one frame per shade; all of them differ."""
    with VideoWriter(path, 32, 32, fps) as writer:
        for shade in shades:
            writer.write(np.random.default_rng(shade).integers(0, 256, (4, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1))
    return path.read_bytes()


def video(data: bytes) -> dict:
    return {"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + base64.b64encode(data).decode()}}


def image(seed: int) -> dict:
    return {
        "type": "image_url",
        "image_url": {"url": "data:image/jpeg;base64," + base64.b64encode(jpeg(seed)).decode()},
    }


def png(pixels: np.ndarray) -> dict:
    return {
        "type": "image_url",
        "image_url": {"url": "data:;base64," + base64.b64encode(encode_image(pixels)).decode()},
    }


@cache
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(api_key="any", base_url=url, max_retries=0)


def complete(server: RunningServer, *parts: dict, text: str = "What?", **options: object):
    content = [*parts, {"type": "text", "text": text}]
    body = {"model": "random:tiny", "max_tokens": REPLY, "messages": [{"role": "user", "content": content}]}
    return client(f"{server.http}/v1").chat.completions.create(**{**body, **options})


def reply(completion) -> str:
    return completion.choices[0].message.content


def test_a_long_film_is_spread_over_the_context(server: RunningServer, long_film: bytes) -> None:
    completion = complete(server, video(long_film))
    usage = completion.usage
    assert usage.video_fps < FPS
    assert usage.video_frames == pytest.approx(150 * usage.video_fps, abs=1)
    assert CONTEXT * 0.9 < usage.prompt_tokens + usage.completion_tokens <= CONTEXT
    assert usage.completion_tokens == REPLY


def test_frames_of_a_long_film_are_those_at_the_reported_rate(tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", range(80), 4.0)
    with run_test_server(small_model(), max_chat_frames=10) as server:
        whole = complete(server, video(film))
        assert (whole.usage.video_frames, whole.usage.video_fps) == (10, 0.5)

        def ask_about(times: list[float]) -> str:
            images = [f.image for f in open_frames(tmp_path / "film.mp4", None) if f.time in times]
            assert len(images) == 10
            return reply(complete(server, *map(png, images)))

        assert ask_about([2.0 * tick for tick in range(10)]) == reply(whole)
        assert ask_about([tick / 4 for tick in range(10)]) != reply(whole)


def test_a_short_film_is_watched_at_the_rate_of_the_model(server: RunningServer, tmp_path: Path) -> None:
    usage = complete(server, video(write_video(tmp_path / "film.mp4", range(24), 4.0))).usage
    assert (usage.video_frames, usage.video_fps) == (12, FPS)
    assert complete(server).usage.video_frames == 0
    assert complete(server, image(1)).usage.video_fps is None


def test_several_films_share_the_context_by_their_lengths(tmp_path: Path) -> None:
    long, short = (write_video(tmp_path / f"{n}.mp4", range(n), 2.0) for n in (80, 20))  # 40 s and 10 s
    with run_test_server(small_model(), max_chat_frames=22) as server:
        usage = complete(server, video(long), image(1), video(short), text="Compare.").usage
        assert usage.video_frames <= 21
        assert usage.video_frames >= 19
        assert usage.video_fps == pytest.approx(20 / 50)
        many = [video(short)] * 22
        assert complete(server, *many).usage.video_frames == 22
        with pytest.raises(openai.BadRequestError, match="23 images and videos, and at most 22 fit") as caught:
            complete(server, *many, image(1))
        assert caught.value.code == "too_many_images"


@pytest.mark.parametrize("declared", [None, 5.0, 4000.0])
def test_the_whole_film_is_used_whatever_duration_it_declares(tmp_path: Path, declared: float | None) -> None:
    data = write_matroska(tmp_path / "film.mkv", 80, declared)
    with run_test_server(small_model(), max_chat_frames=10) as server:
        usage = complete(server, video(data)).usage
        assert usage.video_frames in (9, 10)
        assert usage.video_fps == pytest.approx(10 / 40, rel=0.1)


def write_matroska(path: Path, frames: int, declared: float | None) -> bytes:
    """Return a film at 2 fps whose container declares another duration, or none, as that of a browser's recorder."""
    with av.open(path, "w", "matroska") as container:
        stream = container.add_stream("mpeg4", rate=2, width=32, height=32, pix_fmt="yuv420p")
        for index in range(frames):
            image = np.random.default_rng(index).integers(0, 256, (32, 32, 3), np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")):
                container.mux(packet)
        container.mux(stream.encode())
    data = path.read_bytes()
    position = data.index(b"\x44\x89\x88")  # the element Duration: a float of 8 bytes, in milliseconds
    if declared is None:
        return data[:position] + b"\xec\x89\x88" + data[position + 3 :]  # a Void element of the same length
    return data[: position + 3] + np.array(declared * 1000, ">f8").tobytes() + data[position + 11 :]


def test_a_film_leaves_room_for_text_and_for_a_long_reply(server: RunningServer, long_film: bytes) -> None:
    wordy = complete(server, video(long_film), text="What? " * 30)
    assert wordy.usage.prompt_tokens + REPLY <= CONTEXT
    assert wordy.usage.video_frames < complete(server, video(long_film)).usage.video_frames
    lengthy = complete(server, video(long_film), max_tokens=100_000, stream=True)
    next(iter(lengthy))
    lengthy.close()
    wait_for(lambda: server.manager.budget.used_bytes == 0)


def test_a_reply_may_be_as_long_as_the_context_allows(server: RunningServer) -> None:
    usage = complete(server, text="x" * 300, max_tokens=100_000).usage
    assert CONTEXT - 64 < usage.total_tokens <= CONTEXT


@pytest.mark.parametrize(
    ("parts", "codes"),
    [
        ((), {"context_length_exceeded"}),
        ((image(1),), {"context_length_exceeded"}),
        ((image(1), image(2)), {"too_many_images", "context_length_exceeded"}),
    ],
)
def test_every_length_of_text_is_answered_or_rejected(server: RunningServer, parts: tuple, codes: set[str]) -> None:
    lengths, accepted, errors = range(396, 456, 3), list[int](), list[openai.BadRequestError]()
    for length in lengths:
        try:
            usage = complete(server, *parts, text="x" * length).usage
        except openai.BadRequestError as error:
            errors.append(error)
        else:
            assert usage.total_tokens <= CONTEXT
            accepted.append(length)
    assert accepted == list(lengths[: len(accepted)])
    assert accepted
    assert {error.code for error in errors} == codes
    assert {error.param for error in errors} == {"messages"}
    wait_for(lambda: server.manager.budget.used_bytes == 0)


def test_damage_is_reported(server: RunningServer, tmp_path: Path) -> None:
    whole = write_matroska(tmp_path / "film.mkv", 20, 10.0)
    cut = whole[: len(whole) // 2]
    completion = complete(server, video(whole), video(cut))
    intact, damage = completion.usage.damage
    assert intact == {"skipped": 0, "spans": [], "truncated_at": None}
    assert 1 < damage["truncated_at"] < 9
    warning = {"code": "damaged_video", "message": f"the video is cut off at {damage['truncated_at']:.2f} s"}
    assert completion.warnings == [warning]
    *_, last, usage = complete(server, video(cut), stream=True, stream_options={"include_usage": True})
    assert (last.choices[0].finish_reason, last.warnings) == ("length", [warning])
    assert usage.usage.damage == [damage]
    assert (complete(server, video(whole)).warnings, complete(server).usage.damage) == ([], [])
