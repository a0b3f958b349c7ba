"""The HTTP API's description: what ``/openapi.json`` says is true, and ``/docs`` shows it without other hosts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from live_server import RunningServer, run_test_server, wait_for
from openapi_spec_validator import validate

from mmduet.protocol.client_events import ResponseOptions
from mmduet.protocol.session_update import SessionUpdate
from mmduet.server.session_control_routes import CreateQuery
from mmduet.server.session_routes import CreateSession
from mmduet.server.source_routes import ProbeSource

KEY = {"Authorization": "Bearer k"}
JSON = "application/json"


@pytest.fixture(scope="module")
def protected() -> Iterator[RunningServer]:
    with run_test_server(
        keys="k", max_sessions=1, root_path="/mmduet", pull_hosts="127.0.0.1", pull_networks="127.0.0.1/32"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def api(protected: RunningServer) -> dict[str, Any]:
    document: dict[str, Any] = httpx2.get(f"{protected.http}/openapi.json").json()
    validate(document)
    return document


def test_keys_are_documented_where_they_are_needed(protected: RunningServer, api: dict[str, Any]) -> None:
    assert api["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            response = httpx2.request(method, protected.http + path.format(name="x"))
            assert (response.status_code == 401) is ("security" in operation), path


def test_a_server_without_keys_documents_none(server: RunningServer) -> None:
    document = httpx2.get(f"{server.http}/openapi.json").json()
    assert "securitySchemes" not in document["components"]
    assert not any("security" in operation for path in document["paths"].values() for operation in path.values())


def test_bodies_are_documented(api: dict[str, Any]) -> None:
    body = api["paths"]["/v1/sessions"]["post"]["requestBody"]["content"][JSON]["schema"]
    fields = api["components"]["schemas"][body["$ref"].rpartition("/")[2]]["properties"]
    assert {"source", "query", "session", "transport", "speed", "paused"} == set(fields)


def test_examples_of_bodies_are_valid(api: dict[str, Any]) -> None:
    models = (CreateSession, CreateQuery, SessionUpdate, ResponseOptions, ProbeSource)
    for model in models:
        (example,) = api["components"]["schemas"][model.__name__]["examples"]
        assert model.model_validate_json(json.dumps(example)).model_fields_set == set(example)


def test_errors_are_documented_with_their_schema(api: dict[str, Any]) -> None:
    expected = {"$ref": "#/components/schemas/ErrorResponse"}
    own_body = {("/health", "500"), ("/ready", "503")}  # the state of the server
    for path, operations in api["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            assert {"401", "403", "default"} <= set(responses)
            errors = {status for status in responses if not status.startswith("2") and (path, status) not in own_body}
            assert all(responses[status]["content"] == {JSON: {"schema": expected}} for status in errors)
            assert ("422" in responses) is ("{name}" in path)
    chat, sessions = (
        set(api["paths"][f"/v1/{name}"]["post"]["responses"]) for name in ("chat/completions", "sessions")
    )
    assert {"400", "401", "403", "404", "413", "415", "503", "507"} <= chat
    assert {"400", "401", "403", "413", "415", "503", "507"} <= sessions
    assert "404" in api["paths"]["/v1/sessions/{name}/events"]["get"]["responses"]


def test_media_types_are_documented(protected: RunningServer, api: dict[str, Any]) -> None:
    metrics = httpx2.get(f"{protected.http}/metrics").headers["content-type"].partition(";")[0]
    assert list(api["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == [metrics] == ["text/plain"]
    events = api["paths"]["/v1/sessions/{name}/events"]["get"]
    assert list(events["responses"]["200"]["content"]) == ["text/event-stream"]
    assert events["parameters"][1]["name"] == "last-event-id"
    chat = api["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
    assert set(chat) == {JSON, "text/event-stream"}


def test_a_full_server_answers_as_documented(protected: RunningServer, api: dict[str, Any]) -> None:
    responses = api["paths"]["/v1/sessions"]["post"]["responses"]
    body = {"source": "http://127.0.0.1:1/film"}
    with protected.connect(additional_headers=KEY) as client:
        client.receive("session.created")
        response = httpx2.post(f"{protected.http}/v1/sessions", json=body, headers=KEY)
        assert response.status_code == 503
        assert set(responses["503"]["headers"]) == {"Retry-After"}
        assert response.headers["Retry-After"]
    wait_for(lambda: httpx2.get(f"{protected.http}/ready").status_code == 200)
    response = httpx2.post(f"{protected.http}/v1/sessions", json=body, headers=KEY)
    assert (response.status_code, set(responses["201"]["headers"])) == (201, {"Location"})


def test_events_of_an_ended_session_can_be_read_again_until_it_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(bytes(100))
    with run_test_server(pull_roots=str(tmp_path)) as server:
        created = httpx2.post(f"{server.http}/v1/sessions", json={"source": "broken.mp4"})
        check_events_can_be_read_again(server, created)


def check_events_can_be_read_again(server: RunningServer, created: httpx2.Response) -> None:
    url = server.http + created.headers["Location"]
    first = httpx2.get(f"{url}/events").text
    assert "event: session.closed" in first
    assert httpx2.get(f"{url}/events").text == first
    last = re.findall(r"^id: (\S+)$", first, re.MULTILINE)[-1]
    assert httpx2.get(f"{url}/events", headers={"Last-Event-ID": last}).status_code == 204
    assert httpx2.delete(url).status_code == 204
    assert httpx2.get(f"{url}/events").status_code == 404


def test_only_what_is_served_is_a_valid_choice() -> None:
    with run_test_server() as server:
        schemas = httpx2.get(f"{server.http}/openapi.json").json()["components"]["schemas"]
    assert schemas["SessionUpdate"]["properties"]["model"]["enum"] == [None, "random:tiny"]
    assert schemas["DuetUpdate"]["properties"]["adapter"]["enum"] == [None]
    assert schemas["ChatRequest"]["properties"]["n"]["enum"] == [None, 1]


def test_integers_may_have_a_decimal_point(server: RunningServer) -> None:
    message = {"role": "user", "content": "What?"}
    body = {"model": "random:tiny", "max_tokens": 2.0, "seed": 7.0, "messages": [message]}
    assert httpx2.post(f"{server.http}/v1/chat/completions", json=body).status_code == 200
    refused = httpx2.post(f"{server.http}/v1/chat/completions", json={**body, "max_tokens": 2.5})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "max_tokens")
    refused = httpx2.post(f"{server.http}/v1/chat/completions", json={**body, "logprobs": 0})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "logprobs")


def test_the_page_needs_no_other_host_and_no_scripts(protected: RunningServer, api: dict[str, Any]) -> None:
    page = httpx2.get(f"{protected.http}/mmduet/docs")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "script" not in page.text
    links = re.findall(r'(?:href|src)="([^"]*)"', page.text)
    assert set(links) - {"/mmduet/openapi.json"} == {link for link in links if link.startswith("#")}
    assert {f"#{name}" for name in re.findall(r'<h3 id="([^"]*)"', page.text)} >= set(links) - {"/mmduet/openapi.json"}
    for path in api["paths"]:
        assert f"<code>{path}</code>" in page.text
    for name in api["components"]["schemas"]:
        assert f'id="{name}"' in page.text
    assert "Authorization: Bearer KEY" in page.text
    assert httpx2.get(f"{protected.http}/redoc").status_code == 404


def find_schemathesis() -> str:
    """Return the path of the program; fail with the command that installs it."""
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    found = shutil.which("schemathesis", path=os.pathsep.join(folders))
    assert found is not None, "schemathesis is not installed; run: pip install -e '.[dev]'"
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("keys", ["", "k"])
def test_schemathesis_finds_nothing(keys: str, tmp_path: Path) -> None:
    config = Path(__file__).with_name("schemathesis.toml")
    with run_test_server(keys=keys) as server:
        command = [find_schemathesis(), "--config-file", str(config), "run", f"{server.http}/openapi.json"]
        command += ["--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "60", "--seed", "1"]
        command += ["--header", f"Authorization: {KEY['Authorization']}"] if keys else []
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert httpx2.get(f"{server.http}/ready").status_code == 200
