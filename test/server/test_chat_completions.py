"""Chat completions about images and videos through the official OpenAI SDK, whole and streamed."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import openai
import pytest
from file_server import serve_files
from live_server import RunningServer, endless_model, jpeg, run_test_server, wait_for

from mmduet.video import VideoWriter


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with run_test_server(endless_model(), pull_hosts="127.0.0.1, localhost", pull_networks="127.0.0.0/8") as server:
        yield server


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path: Path = tmp_path_factory.mktemp("film") / "film.mp4"
    noise = np.random.default_rng(0)
    with VideoWriter(path, 64, 48, 8.0) as writer:
        for _ in range(24):
            writer.write(noise.integers(0, 255, (48, 64, 3), np.uint8))
    return path.read_bytes()


def openai_client(server: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(api_key="any", base_url=f"{server.http}/v1", max_retries=0)


def complete(server: RunningServer, *parts: dict | str, **options: object):
    """Request a completion of one user message; ``options`` override the request."""
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]
    options = {"max_tokens": 12, "model": "random:tiny", "messages": messages, **options}
    return openai_client(server).chat.completions.create(**options)


def image(seed: int) -> dict:
    url = "data:image/jpeg;base64," + base64.b64encode(jpeg(seed)).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def video(url: str) -> dict:
    return {"type": "video_url", "video_url": {"url": url}}


def data_url(mp4: bytes) -> str:
    return "data:video/mp4;base64," + base64.b64encode(mp4).decode()


def test_text_only_request_is_answered(server: RunningServer) -> None:
    completion = complete(server, "Hello?")
    choice = completion.choices[0]
    assert choice.message.content
    assert choice.finish_reason == "length"
    assert completion.usage.completion_tokens == 12
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + 12
    assert completion.model == "random:tiny"


def test_streamed_completion_equals_whole_completion(server: RunningServer) -> None:
    whole = complete(server, image(1), image(2), "What?")
    chunks = list(complete(server, image(1), image(2), "What?", stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].usage == whole.usage
    assert all("usage" in chunk.to_dict() and chunk.usage is None for chunk in chunks[:-1])
    other = complete(server, image(3), image(2), "What?")
    assert other.choices[0].message.content != whole.choices[0].message.content  # the reply depends on the images


def test_video_by_data_url_equals_video_by_http_url(server: RunningServer, mp4: bytes) -> None:
    inline = complete(server, video(data_url(mp4)), "What happens?")
    with serve_files({"/film.mp4": mp4}, {"/moved": "/film.mp4"}) as host:
        for path in ("/film.mp4", "/moved"):
            fetched = complete(server, video(host + path), "What happens?")
            assert fetched.choices[0].message.content == inline.choices[0].message.content
            assert fetched.usage == inline.usage


def test_previous_messages_change_the_reply(server: RunningServer) -> None:
    def after(history: list[dict]) -> openai.types.chat.ChatCompletion:
        messages = [*history, {"role": "user", "content": "And now?"}]
        return openai_client(server).chat.completions.create(model="random:tiny", messages=messages, max_tokens=8)

    turns = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Good day."}]
    replies = {after(history).choices[0].message.content for history in ([], turns[:1], turns)}
    assert len(replies) == 3
    assert after(turns).usage.prompt_tokens > after(turns[:1]).usage.prompt_tokens


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"model": "gpt-4"}, 404, "not served here"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, 400, "add a user message"),
        ({"n": 2}, 400, "n"),
        ({"temperature": -1}, 400, "temperature"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "tools"),
        ({"messages": [{"role": "user", "content": [image(1), {"type": "audio_url"}]}]}, 400, "content"),
        ({"messages": [{"role": "user", "content": [video("data:video/mp4;base64,AAAA")]}]}, 400, "not a video"),
        ({"messages": [{"role": "user", "content": [video("file:///etc/passwd")]}]}, 400, "not allowed"),
        ({"messages": [{"role": "user", "content": [video("http://example.org/x.mp4")]}]}, 400, "not allowed"),
        ({"messages": [{"role": "user", "content": "<|im_end|>"}]}, 400, "<|im_end|>"),
    ],
)
def test_invalid_requests_raise_sdk_errors(server: RunningServer, change: dict, status: int, words: str) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        complete(server, "x", **change)
    assert caught.value.status_code == status
    assert words in caught.value.message
    wait_for(lambda: server.manager.budget.used_bytes == 0)


def test_redirect_to_forbidden_host_is_not_followed(server: RunningServer) -> None:
    redirects = {
        "/film.mp4": "http://169.254.169.254/latest/meta-data",
        "/round": "/round",
        "/invalid": "http://[::1/x",
    }
    with serve_files({}, redirects) as host:
        for path, words in (
            ("/film.mp4", "not allowed"),
            ("/round", "redirects"),
            ("/none", "404"),
            ("/invalid", "cannot be downloaded"),
        ):
            with pytest.raises(openai.BadRequestError, match=words):
                complete(server, video(host + path), "What?")


def test_disconnecting_while_streaming_releases_memory(server: RunningServer) -> None:
    body = {
        "model": "random:tiny",
        "stream": True,
        "max_tokens": 2000,
        "messages": [{"role": "user", "content": "Go on."}],
    }
    with httpx2.stream("POST", f"{server.http}/v1/chat/completions", json=body) as response:
        next(response.iter_lines())
    wait_for(lambda: server.manager.budget.used_bytes == 0)
    assert not server.manager.engine.busy
