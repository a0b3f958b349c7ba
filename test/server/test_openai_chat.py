"""The official SDK, unmodified, asks about pictures and videos, whole and streamed."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import openai
import pytest
from served import Served, endless_model, jpeg, serving, wait_for
from web_files import web_files

from mmduet.video import VideoWriter


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(endless_model(), pull_hosts="127.0.0.1, localhost", pull_networks="127.0.0.0/8") as server:
        yield server


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path: Path = tmp_path_factory.mktemp("film") / "film.mp4"
    noise = np.random.default_rng(0)
    with VideoWriter(path, 64, 48, 8.0) as writer:
        for _ in range(24):
            writer.write(noise.integers(0, 255, (48, 64, 3), np.uint8))
    return path.read_bytes()


def client(served: Served) -> openai.OpenAI:
    return openai.OpenAI(api_key="any", base_url=f"{served.http}/v1", max_retries=0)


def ask(served: Served, *parts: dict | str, **options: object):
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]
    options = {"max_tokens": 12, "model": "random:tiny", "messages": messages, **options}
    return client(served).chat.completions.create(**options)


def image(seed: int) -> dict:
    url = "data:image/jpeg;base64," + base64.b64encode(jpeg(seed)).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def video(url: str) -> dict:
    return {"type": "video_url", "video_url": {"url": url}}


def data_url(film: bytes) -> str:
    return "data:video/mp4;base64," + base64.b64encode(film).decode()


def test_words_alone(served: Served) -> None:
    answer = ask(served, "Hello?")
    choice = answer.choices[0]
    assert choice.message.content
    assert choice.finish_reason == "length"
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert answer.model == "random:tiny"


def test_streamed_is_as_whole(served: Served) -> None:
    whole = ask(served, image(1), image(2), "What?")
    chunks = list(ask(served, image(1), image(2), "What?", stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].usage == whole.usage
    other = ask(served, image(3), image(2), "What?")
    assert other.choices[0].message.content != whole.choices[0].message.content  # it looks


def test_a_video_as_data_and_by_address(served: Served, film: bytes) -> None:
    inline = ask(served, video(data_url(film)), "What happens?")
    with web_files({"/film.mp4": film}, {"/moved": "/film.mp4"}) as host:
        for path in ("/film.mp4", "/moved"):
            fetched = ask(served, video(host + path), "What happens?")
            assert fetched.choices[0].message.content == inline.choices[0].message.content
            assert fetched.usage == inline.usage


def test_what_was_said_before_counts(served: Served) -> None:
    def after(history: list[dict]) -> openai.types.chat.ChatCompletion:
        messages = [*history, {"role": "user", "content": "And now?"}]
        return client(served).chat.completions.create(model="random:tiny", messages=messages, max_tokens=8)

    turns = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Good day."}]
    answers = {after(history).choices[0].message.content for history in ([], turns[:1], turns)}
    assert len(answers) == 3
    assert after(turns).usage.prompt_tokens > after(turns[:1]).usage.prompt_tokens


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"model": "gpt-4"}, 400, "not here"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, 400, "ask something"),
        ({"n": 2}, 400, "n"),
        ({"temperature": -1}, 400, "temperature"),
        ({"tools": []}, 400, "tools"),
        ({"messages": [{"role": "user", "content": [image(1), {"type": "audio_url"}]}]}, 400, "content"),
        ({"messages": [{"role": "user", "content": [video("data:video/mp4;base64,AAAA")]}]}, 400, "no video"),
        ({"messages": [{"role": "user", "content": [video("file:///etc/passwd")]}]}, 400, "not allowed"),
        ({"messages": [{"role": "user", "content": [video("http://example.org/x.mp4")]}]}, 400, "not allowed"),
        ({"messages": [{"role": "user", "content": "<|im_end|>"}]}, 400, "<|im_end|>"),
    ],
)
def test_errors_are_the_sdks_own(served: Served, change: dict, status: int, words: str) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        ask(served, "x", **change)
    assert caught.value.status_code == status
    assert words in caught.value.message
    wait_for(lambda: served.house.budget.used == 0)


def test_a_redirect_to_a_forbidden_place_is_not_followed(served: Served) -> None:
    with web_files({}, {"/film.mp4": "http://169.254.169.254/latest/meta-data", "/round": "/round"}) as host:
        for path, words in (("/film.mp4", "not allowed"), ("/round", "redirects"), ("/none", "404")):
            with pytest.raises(openai.BadRequestError, match=words):
                ask(served, video(host + path), "What?")


def test_too_long_a_film_is_told(film: bytes) -> None:
    with serving(max_chat_frames=2) as served, pytest.raises(openai.BadRequestError, match="more than 2 frames"):
        ask(served, video(data_url(film)), "What?")


def test_who_leaves_in_the_middle_gives_the_memory_back(served: Served) -> None:
    body = {
        "model": "random:tiny",
        "stream": True,
        "max_tokens": 2000,
        "messages": [{"role": "user", "content": "Go on."}],
    }
    with httpx2.stream("POST", f"{served.http}/v1/chat/completions", json=body) as response:
        next(response.iter_lines())
    wait_for(lambda: served.house.budget.used == 0)
    assert not served.house.room.engine._sessions
