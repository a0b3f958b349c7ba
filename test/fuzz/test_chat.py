"""Bodies of chat completions and other HTTP requests: an answer or an error in OpenAI's shape, never status 500."""

from __future__ import annotations

import base64
import copy
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from container_files import MAKERS, WORDS, intact
from fuzzing import apply_edits, apply_json_edits, edits, fuzz, json_edits
from hypothesis import strategies as st
from live_server import RunningServer, run_test_server, wait_for

PATHS = (
    "/v1/chat/completions",
    "/v1/realtime/sessions",
    "/v1/realtime/client_secrets",
    "/v1/sessions",
    "/v1/models/x",
    "/nothing",
)
STATUSES = {200, 201, 202, 400, 401, 403, 404, 405, 411, 413, 415, 422, 429, 503}


def data_url(name: str, data: bytes) -> str:
    kind = "image" if name in ("jpg", "png", "webp", "gif") else "video"
    return f"data:{kind}/{name};base64,{base64.b64encode(data).decode()}"


def media_part(name: str, data: bytes) -> dict[str, Any]:
    kind = "image_url" if name in ("jpg", "png") else "video_url"
    return {"type": kind, kind: {"url": data_url(name, data)}}


def request(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "model": "random:tiny", "max_tokens": 3, "temperature": 0, "top_p": 1, "seed": 1, "n": 1, "stream": False,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What happens?"}, *parts]},
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with run_test_server() as server:
        yield server


def bodies() -> st.SearchStrategy[bytes]:
    media = st.tuples(st.sampled_from(sorted(MAKERS)), st.just([]) | edits(WORDS))
    parts = media.map(lambda case: media_part(case[0], apply_edits(intact(case[0]), case[1])))
    requests = st.lists(parts, max_size=2).map(request)
    changed = st.tuples(requests, st.just([]) | json_edits())
    texts = changed.map(lambda case: json.dumps(apply_json_edits(copy.deepcopy(case[0]), case[1])).encode())
    return texts | st.tuples(texts, edits()).map(lambda case: apply_edits(*case)) | st.binary(max_size=64)


def check_answer(answer: httpx2.Response) -> None:
    assert answer.status_code in STATUSES, (answer.status_code, answer.text[:300])
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert error["message"]
        assert error["type"]
        assert len(answer.text) < 4000, "the error repeats its input"


def test_chat(server: RunningServer, share: float, caplog: pytest.LogCaptureFixture) -> None:
    def check(case: tuple[str, bytes]) -> None:
        caplog.clear()
        path, body = case
        check_answer(client.post(server.http + path, content=body, headers={"Content-Type": "application/json"}))
        failures = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert not failures, failures
        wait_for(lambda: server.manager.active_count == 0)

    paths = st.sampled_from((PATHS[0],) * 6 + PATHS[1:])
    with httpx2.Client(timeout=20, trust_env=False) as client:
        fuzz("chat", share, st.tuples(paths, bodies()), check, 12)
