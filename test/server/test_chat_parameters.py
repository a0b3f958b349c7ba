"""Chat completions accept every parameter of OpenAI's that does not change the answer, and reject the others by name."""

from __future__ import annotations

import base64
import typing
from collections.abc import Iterator
from functools import cache

import httpx2
import openai
import pytest
from live_server import RunningServer, endless_model, jpeg, run_test_server
from openai.types.chat import completion_create_params

HTTP = httpx2.Client(verify=False, timeout=30)  # one client, because each makes a TLS context
HELLO = [{"role": "user", "content": "Hello?"}]
IMAGE = base64.b64encode(jpeg(1)).decode()
PARAMETERS = sorted(
    {"stream", *typing.get_type_hints(completion_create_params.CompletionCreateParamsBase)} - {"model", "messages"}
)
NEUTRAL: dict[str, list] = {
    "frequency_penalty": [0, 0.0],
    "presence_penalty": [0, 0.0],
    "function_call": ["none", "auto"],
    "functions": [[]],
    "logit_bias": [{}],
    "logprobs": [False],
    "top_logprobs": [0],
    "metadata": [{}, {"run": "7"}],
    "modalities": [["text"]],
    "n": [1],
    "parallel_tool_calls": [True, False],
    "prediction": [{"type": "content", "content": "Good day."}],
    "prompt_cache_key": ["key"],
    "prompt_cache_options": [{"mode": "explicit"}],
    "prompt_cache_retention": ["24h"],
    "reasoning_effort": ["none", "medium"],
    "response_format": [{"type": "text"}],
    "safety_identifier": ["me"],
    "seed": [0, 10**30, -1],
    "service_tier": ["auto", "default", "flex"],
    "stop": [[]],
    "store": [False, True],
    "stream": [False],
    "stream_options": [{}, {"include_usage": None, "include_obfuscation": False}],
    "temperature": [0, 1e-5],
    "tool_choice": ["none", "auto"],
    "tools": [[]],
    "top_p": [1, 0],
    "user": ["me"],
    "verbosity": ["medium"],
}
CHANGING = {
    "audio": {"voice": "alloy", "format": "wav"},
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "function_call": {"name": "f"},
    "functions": [{"name": "f"}],
    "logit_bias": {"5": 10},
    "logprobs": True,
    "top_logprobs": 3,
    "modalities": ["text", "audio"],
    "moderation": {"model": "m"},
    "n": 2,
    "reasoning_effort": "high",
    "response_format": {"type": "json_object"},
    "stop": ["."],
    "tool_choice": "required",
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "verbosity": "low",
    "web_search_options": {},
}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with run_test_server(endless_model()) as server:
        yield server


@cache
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(api_key="any", base_url=url, max_retries=0)


def complete(server: RunningServer, messages: list = HELLO, **body: object) -> openai.types.chat.ChatCompletion:
    """Complete with parameters that are sent exactly as given, null included."""
    return client(f"{server.http}/v1").chat.completions.create(
        model="random:tiny", messages=messages, extra_body={"max_completion_tokens": 6, **body}
    )


@pytest.fixture(scope="module")
def answer(server: RunningServer) -> str:
    return complete(server).choices[0].message.content


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_of_the_sdk_accepts_null_and_its_neutral_values(
    server: RunningServer, answer: str, name: str
) -> None:
    for value in (None, *NEUTRAL.get(name, ())):
        completion = complete(server, **{"max_tokens": 6, "max_completion_tokens": 6, name: value})
        assert completion.choices[0].message.content == answer, value


def test_every_parameter_of_the_sdk_is_covered_here() -> None:
    limits = {"max_tokens", "max_completion_tokens"}
    assert set(PARAMETERS) == {*NEUTRAL, *CHANGING, *limits}


@pytest.mark.parametrize("name", CHANGING)
def test_a_parameter_that_would_change_the_answer_is_rejected_by_name(server: RunningServer, name: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        complete(server, **{name: CHANGING[name]})
    assert caught.value.param == name
    assert caught.value.code == "unsupported_parameter"
    assert name in caught.value.message


def test_an_unknown_parameter_is_rejected_by_name(server: RunningServer) -> None:
    with pytest.raises(openai.BadRequestError, match="top_k") as caught:
        complete(server, top_k=5)
    assert (caught.value.param, caught.value.code) == ("top_k", "unknown_parameter")


def test_unknown_parameters_that_are_null_have_no_effect(server: RunningServer, answer: str) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": HELLO[0]["content"], "annotations": None}]}
    messages = [{**message, "reasoning_content": None}]
    completion = complete(server, messages, max_tokens=6, top_k=None, chat_template_kwargs=None)
    assert completion.choices[0].message.content == complete(server, HELLO[:1], max_tokens=6).choices[0].message.content
    with pytest.raises(openai.BadRequestError) as caught:
        complete(server, messages, top_k=None, min_p=0.5)
    assert (caught.value.param, caught.value.code) == ("min_p", "unknown_parameter")


def test_a_message_of_the_sdk_is_accepted_back(server: RunningServer) -> None:
    message = complete(server).choices[0].message
    replies = [
        complete(server, [*HELLO, back, {"role": "user", "content": "And?"}]).choices[0].message.content
        for back in (
            message,
            message.model_dump(),
            message.model_dump(exclude_none=True),
            {**message.model_dump(), "annotations": [], "tool_calls": []},
            {"role": "assistant", "content": [{"type": "text", "text": message.content}], "name": "bot"},
        )
    ]
    assert len(set(replies)) == 1
    assert replies[0] != complete(server, [*HELLO, {"role": "user", "content": "And?"}]).choices[0].message.content


def test_an_empty_message_of_the_assistant_is_skipped(server: RunningServer, answer: str) -> None:
    for empty in ({"content": None}, {"content": None, "refusal": None}, {"content": ""}, {"content": []}, {}):
        assert complete(server, [{"role": "assistant", **empty}, *HELLO]).choices[0].message.content == answer


def test_a_refusal_is_read_as_text(server: RunningServer) -> None:
    contents = [
        {"content": "No."},
        {"content": None, "refusal": "No."},
        {"content": [{"type": "refusal", "refusal": "No."}]},
    ]
    replies = {
        complete(server, [*HELLO, {"role": "assistant", **content}, *HELLO]).choices[0].message.content
        for content in contents
    }
    assert len(replies) == 1


@pytest.mark.parametrize(
    ("message", "param", "words"),
    [
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, "content.0.text", "string"),
        ({"role": "user", "content": [{"type": "text"}]}, "content.0.text", "missing"),
        ({"role": "user", "content": [{"type": "text", "text": "", "bold": 1}]}, "content.0.bold", "not known"),
        (
            {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "image_url", "image_url": {"url": 1}}]},
            "content.1.image_url.url",
            "string",
        ),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, "content.0.image_url", "valid"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "content.0.image_url.url", "missing"),
        (
            {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "", "detail": "x"}}]},
            "content.0.video_url.detail",
            "'auto'",
        ),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
            "content.0.type",
            "expected one of 'text', 'image_url', 'video_url'",
        ),
        ({"role": "user", "content": [{"text": "x"}]}, "content.0.type", "missing"),
        ({"role": "user", "content": ["x"]}, "content.0", ""),
        ({"role": "user", "content": 5}, "content", ""),
        ({"role": "user", "content": None}, "content", ""),
        ({"role": "user"}, "content", "missing"),
        ({"role": "system", "content": [{"type": "image_url", "image_url": {"url": ""}}]}, "content.0.type", "'text'"),
        ({"role": "tool", "content": "x", "tool_call_id": "1"}, "role", "'assistant'"),
        ({"content": "x"}, "role", "missing"),
        ({"role": "assistant", "tool_calls": [{"id": "1"}]}, "tool_calls", "only [] is supported"),
        ({"role": "assistant", "content": [{"type": "image_url"}]}, "content.0.type", "'refusal'"),
    ],
)
def test_an_error_inside_a_message_names_the_part(server: RunningServer, message: dict, param: str, words: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        complete(server, [*HELLO, message])
    assert caught.value.param == f"messages.1.{param}"
    assert f"messages.1.{param}" in caught.value.message
    assert words in caught.value.message


@pytest.mark.parametrize(
    "url",
    [
        "DATA:IMAGE/JPEG;BASE64," + IMAGE,
        "data:image/jpeg;base64," + "\n".join(IMAGE[i : i + 60] for i in range(0, len(IMAGE), 60)),
        "data:image/jpeg;base64, " + " ".join(IMAGE[i : i + 76] for i in range(0, len(IMAGE), 76)) + "\r\n",
        "data:image/jpeg;base64," + IMAGE.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        "data:image/jpeg;charset=binary;base64," + IMAGE.rstrip("="),
        "data:;base64," + IMAGE,
        " data:image/jpeg; base64, " + IMAGE + "\n",
    ],
)
def test_data_urls_are_read_as_browsers_read_them(server: RunningServer, url: str) -> None:
    def ask(url: str) -> str:
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What?"}]
        return complete(server, [{"role": "user", "content": content}]).choices[0].message.content

    assert ask(url) == ask("data:image/jpeg;base64," + IMAGE)


@pytest.mark.parametrize(
    ("kind", "url", "code"),
    [
        ("image_url", "data:image/png;base64,AAAA", "bad_video"),
        ("image_url", "data:image/png;base64,?", "bad_source"),
        ("video_url", "data:video/mp4;base64,AAAA", "corrupt_video"),
        ("video_url", "ftp://host/video.mp4", "bad_source"),
        ("image_url", IMAGE, "bad_source"),
        ("video_url", "/home/me/film.mp4", "bad_source"),
    ],
)
def test_an_error_names_the_image_or_video_that_cannot_be_read(
    server: RunningServer, kind: str, url: str, code: str
) -> None:
    good = {"type": "image_url", "image_url": {"url": "data:;base64," + IMAGE}}
    content = [{"type": "text", "text": "What?"}, good, {"type": kind, kind: {"url": url}}]
    with pytest.raises(openai.BadRequestError) as caught:
        complete(server, [{"role": "user", "content": "Hello."}, {"role": "user", "content": content}])
    assert (caught.value.param, caught.value.code) == (f"messages.1.content.2.{kind}", code)
    assert caught.value.body["message"].startswith(f"messages.1.content.2.{kind}: ")
    assert "/tmp" not in caught.value.message


def test_a_body_needs_no_content_type(server: RunningServer) -> None:
    body = b'{"model": "random:tiny", "max_tokens": 2, "messages": [{"role": "user", "content": "x"}]}'
    for headers in ({}, {"content-type": "application/json; charset=utf-8"}, {"content-type": "Application/JSON"}):
        response = HTTP.post(f"{server.http}/v1/chat/completions", content=body, headers=headers)
        assert response.status_code == 200
