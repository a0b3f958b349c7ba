"""Messages show the wrong value and what was expected, and the documents that they name exist and hold the parameter."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from live_server import RunningServer, run_test_server

from mmduet.errors import OptionError, ProtocolError
from mmduet.protocol.client_events import parse_client_event
from mmduet.server.config_loading import load_config

ROOT = Path(__file__).resolve().parents[2]
USER = {"role": "user", "content": "What?"}
REALTIME = {"type": "realtime"}
IMAGE = {"type": "image_url", "image_url": {"url": "x", "detail": "huge"}}


@pytest.fixture(scope="module")
def prefixed() -> Iterator[RunningServer]:
    with run_test_server(keys="k", root_path="/mmduet") as running:
        yield running


def chat(**fields: Any) -> tuple[str, dict[str, Any]]:
    return "chat/completions", {"model": "random:tiny", "messages": [USER], **fields}


def source(**fields: Any) -> tuple[str, dict[str, Any]]:
    return "sessions", {"source": "x", **fields}


BODIES: dict[str, tuple[tuple[str, dict[str, Any]], str, str]] = {  # request, subject, expected
    "role": (chat(messages=[{"role": "usr", "content": "x"}]), "messages.0.role ('usr')", "'developer', 'user', 'ass"),
    "role of another type": (chat(messages=[{"role": 3, "content": "x"}]), "messages.0.role (3)", "'developer', 'user'"),
    "type of a part": (
        chat(messages=[{"role": "user", "content": [{"type": "img", "image_url": {"url": "x" * 99}}]}]),
        "messages.0.content.0.type ('img')",
        "expected one of 'text', 'image_url', 'video_url'",
    ),
    "content": (chat(messages=[{**USER, "content": 3}]), "messages.0.content (3)", "expected a text or a list of content"),
    "detail": (chat(messages=[{**USER, "content": [IMAGE]}]), "image_url.detail ('huge')", "'auto', 'low', 'high'"),
    "bound": (chat(temperature=3), "temperature (3)", "expected a number less than or equal to 2"),
    "unknown": (chat(max_token=3), "max_token (3)", ""),
    "unknown in a message": (chat(messages=[{**USER, "nick": "x"}]), "messages.0.nick ('x')", ""),
    "transport": (source(transport="tpc"), "transport ('tpc')", "expected 'tcp' or 'udp'"),
    "type of a session": (source(session={"type": "x"}), "session.type ('x')", "expected 'realtime'"),
    "policy": (
        source(session={**REALTIME, "duet": {"speak": {"policy": "loud"}}}),
        "session.duet.speak.policy ('loud')",
        "expected 'threshold', 'sum' or 'never'",
    ),
    "unknown of a session": (source(window=3), "window (3)", ""),
}  # fmt: skip


@pytest.mark.parametrize(("request_", "subject", "expected"), BODIES.values(), ids=BODIES)
def test_an_invalid_body_is_explained(
    prefixed: RunningServer, request_: tuple[str, dict[str, Any]], subject: str, expected: str
) -> None:
    path, body = request_
    url = f"{prefixed.http}/mmduet/v1/{path}"
    error = httpx2.post(url, json=body, headers={"Authorization": "Bearer k"}).json()["error"]
    assert f"{subject} is not" in error["message"]
    assert expected in error["message"]
    assert "{" not in error["message"]
    page = re.search(r"GET (\S+) lists the (valid values|known parameters)$", error["message"])
    assert page is not None
    assert page[1] == "/mmduet/docs"
    shown = html.unescape(httpx2.get(prefixed.http + page[1]).text)
    siblings = {"max_token": "max_tokens", "nick": "name", "window": "source"}
    field = error["param"].rpartition(".")[2]
    assert f"<code>{siblings.get(field, field)}</code>" in shown
    assert all(value in shown for value in re.findall(r"'(\w+)'", expected))


def test_the_page_shows_the_bounds_of_numbers(prefixed: RunningServer) -> None:
    shown = html.unescape(httpx2.get(f"{prefixed.http}/docs").text)
    assert re.search(r"<code>temperature</code><td>number, from 0\S* to 2", shown)


def test_an_unknown_path_names_the_page_with_all_endpoints(prefixed: RunningServer) -> None:
    message = httpx2.get(f"{prefixed.http}/v1/nowhere").json()["error"]["message"]
    assert message.endswith("GET /mmduet/docs lists them")


EVENTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "type": ({"type": "foo", "image": "x" * 99}, "type ('foo')", "'session.update', 'conversation.item.create'"),
    "type of an item": (
        {"type": "conversation.item.create", "item": {"type": "msg", "role": "user", "content": []}},
        "item.type ('msg')",
        "expected 'message'",
    ),
    "role": (
        {"type": "conversation.item.create", "item": {"type": "message", "role": "usr", "content": []}},
        "item.role ('usr')",
        "expected 'user' or 'system'",
    ),
    "type of a part": (
        {
            "type": "conversation.item.create",
            "item": {"type": "message", "role": "user", "content": [{"type": "txt", "text": "x" * 99}]},
        },
        "item.content.0.type ('txt')",
        "expected one of 'input_text', 'input_image'",
    ),
    "policy": (
        {"type": "session.update", "session": {**REALTIME, "duet": {"speak": {"policy": "loud"}}}},
        "session.duet.speak.policy ('loud')",
        "expected 'threshold', 'sum' or 'never'",
    ),
    "unknown": ({"type": "input_frame.append", "pts": 0, "image": "x", "sequence": 3}, "sequence (3)", ""),
}


@pytest.mark.parametrize(("event", "subject", "expected"), EVENTS.values(), ids=EVENTS)
def test_an_invalid_event_is_explained(event: dict[str, Any], subject: str, expected: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_client_event(json.dumps(event))
    message = str(caught.value)
    assert f"{subject} is not" in message
    assert expected in message
    assert "{" not in message
    page = re.search(r"; (?:remove it; )?(\S+) lists the (known|valid) \w+$", message)
    assert page is not None
    document = (ROOT / page[1]).read_text(encoding="utf-8")
    assert all(f"`{name}`" in document for name in re.findall(r"'([\w.]+)'", expected))
    field = str(caught.value.param).rpartition(".")[2]
    assert f"`{ {'sequence': 'seq'}.get(field, field) }`" in document


@pytest.mark.parametrize("flags", [{"log_level": "loud"}, {"dtype": "float8"}, {"port": 70_000}, {"root_path": "x"}])
def test_an_invalid_setting_is_in_the_named_document(flags: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=r"; see docs/settings\.md$"):
        load_config(**flags)
    (name,) = flags
    assert f"| `{name}` |" in (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


def test_documents_that_the_code_names_exist() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "mmduet").rglob("*.py"))
    names = set(re.findall(r"docs/\w+\.md", code))
    assert len(names) >= 3
    assert [name for name in sorted(names) if not (ROOT / name).is_file()] == []
    sections = re.findall(r'see "([^"]+)" in README\.md', code)
    headings = re.findall(r"^#+ (.+)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sections
    assert set(sections) <= set(headings)
