"""The server's log: every line is an event with fields, without texts and secrets, and repeated warnings are limited."""

from __future__ import annotations

import ast
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from captured_logs import log_lines, unredacted
from live_server import RunningServer, jpeg, run_test_server, wait_for
from stream_server import endless, run_stream_server

from mmduet.server import limited_warning, log_events
from mmduet.server.auth import key_id
from mmduet.server.limited_warning import LimitedWarning
from mmduet.server.log_events import AUTH_FAILED, FIELDS, LogEvent
from mmduet.server.logging_config import JsonFormatter, PlainFormatter, configure_logging
from mmduet.server.logs_page import render_page

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = [ROOT / "mmduet" / name for name in ("server", "webpage")]
MODULES = [path for folder in PACKAGES for path in sorted(folder.glob("*.py")) if path.name != "log_events.py"]
EVENTS = {name: event for name, event in vars(log_events).items() if isinstance(event, LogEvent)}
KEY = {"Authorization": "Bearer s3cret"}


# the catalog


def test_the_page_of_logs_is_up_to_date() -> None:
    assert (ROOT / "docs" / "logs.md").read_text(encoding="utf-8") == render_page(), "run `make docs`"


def calls_of_server() -> Iterator[tuple[str, ast.Call]]:
    """Yield the place and node of every call in the server's modules."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.name}:{node.lineno}", node


def test_the_server_logs_nothing_but_the_documented_events() -> None:
    undocumented = [
        place
        for place, call in calls_of_server()
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id in ("log", "logger", "logging")
        and call.func.attr in ("debug", "info", "warning", "error", "exception", "critical", "log")
    ]
    assert not undocumented, "use an event of log_events.py, so that docs/logs.md lists it"


def test_every_documented_event_is_used_with_its_documented_fields() -> None:
    used, mistakes = set[str](), []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name) and node.id in EVENTS:
                used.add(node.id)
    for place, call in calls_of_server():
        if isinstance(call.func, ast.Attribute) and call.func.attr == "emit" and isinstance(call.func.value, ast.Name):
            event = EVENTS.get(call.func.value.id)
            names = {keyword.arg for keyword in call.keywords if keyword.arg not in (None, "error")}
            if event is not None and names - set(event.fields):
                mistakes.append((place, names - set(event.fields)))
    assert not mistakes
    assert used == set(EVENTS)
    assert len({event.name for event in EVENTS.values()}) == len(EVENTS)
    assert {field for event in EVENTS.values() for field in event.fields} == set(FIELDS)


def test_no_field_hides_an_attribute_of_a_log_record() -> None:
    assert not set(FIELDS) & set(vars(logging.makeLogRecord({"message": "", "asctime": ""})))


# the lines


def make_record(**fields: object) -> logging.LogRecord:
    return logging.makeLogRecord({"levelname": "INFO", "name": "n", "msg": "request", "event": "request", **fields})


def test_json_lines_have_the_fields_with_their_types() -> None:
    line = json.loads(JsonFormatter().format(make_record(status=200, path="/v1/models", complete=True)))
    assert {
        "event": "request",
        "message": "request",
        "status": 200,
        "path": "/v1/models",
        "complete": True,
    }.items() <= (line.items())
    assert line["level"] == "info"


@pytest.mark.parametrize("formatter", [JsonFormatter(), PlainFormatter("%(message)s")])
def test_credentials_are_removed_from_fields_and_tracebacks(formatter: logging.Formatter) -> None:
    url = "rtsp://cam:s3cret@host/x"
    record = make_record(source=url)
    try:
        raise ValueError(url)
    except ValueError:
        record.exc_info = sys.exc_info()
    text = formatter.format(record)
    assert "s3cret" not in text
    assert text.count("rtsp://host/x") == 2


def test_plain_lines_have_fields_that_can_be_told_apart() -> None:
    record = make_record(session="sess_1", reason='a "b" = c', frames=3, complete=False)
    expected = 'request session=sess_1 reason="a \\"b\\" = c" frames=3 complete=false'
    assert PlainFormatter("%(message)s").format(record) == expected


def test_configured_logging_writes_fields(capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging("info", as_json=True)
        log_events.DRAINING.emit(logging.getLogger("mmduet.server.x"), signal="SIGTERM", timeout_s=2.0)
        line = json.loads(capfd.readouterr().err)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert (line["event"], line["signal"], line["timeout_s"]) == ("draining", "SIGTERM", 2.0)


# what a server logs


@pytest.fixture(scope="module")
def locked() -> Iterator[RunningServer]:
    with run_test_server(keys="s3cret") as server:
        yield server


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="mmduet")
    return caplog


def test_a_session_is_one_line_at_its_handshake_and_one_with_all_counts_at_its_end(
    locked: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with locked.connect(additional_headers=KEY) as client:
        session = client.receive()["session"]
        client.update_session({"fps": None, "speak": {"policy": "never"}}, max_output_tokens=4)
        client.send_text("What is the passphrase?")
        client.send_frames(3)
        client.seq -= 1
        client.send_frames(1)  # a duplicate
        client.send("response.create")
        events = client.end_stream()
    replies = [event["response"] for event in events if event["type"] == "response.done"]
    wait_for(lambda: bool(log_lines(caplog, "session_closed")))
    (request,) = log_lines(caplog, "request")
    (opened,) = log_lines(caplog, "session_opened")
    (closed,) = log_lines(caplog, "session_closed")
    common = {"session": session["id"], "key": key_id("s3cret"), "client": "127.0.0.1", "model": session["model"]}
    handshake = {"method": "WebSocket", "path": "/v1/realtime", "status": 101, **common}
    assert handshake.items() <= request.items()
    assert request["request"].startswith("req_")
    assert common.items() <= opened.items()
    counts = {"frames_received": 4, "frames_scored": 3, "dropped_duplicate": 1, "replies": len(replies)}
    tokens = sum(reply["usage"]["output_tokens"] for reply in replies)
    assert tokens > 0
    assert {**common, "reason": "ended", "tokens": tokens, **counts}.items() <= closed.items()
    assert closed["duration_s"] == events[-1]["duration_s"]
    assert "dropped_late" not in closed
    text = unredacted(caplog)
    assert "s3cret" not in text
    assert "passphrase" not in text
    assert session["duet"]["resume_token"] not in text


def test_a_resumed_session_is_logged_and_so_is_a_wrong_token(
    locked: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with locked.connect(additional_headers=KEY) as client:
        session = client.receive()["session"]
        for token in ("wrong", session["duet"]["resume_token"]):
            with locked.connect(resume=True, additional_headers=KEY) as again:
                again.send("session.resume", session_id=session["id"], resume_token=token)
                again.receive()
    wait_for(lambda: bool(log_lines(caplog, "session_resumed")))
    lines = log_lines(caplog, "session_not_resumed", "session_resumed")
    assert [line["event"] for line in lines] == ["session_not_resumed", "session_resumed"]
    assert {line["session"] for line in lines} == {session["id"]}
    assert {line["client"] for line in lines} == {"127.0.0.1"}


def test_a_suspended_session_is_closed_by_the_next_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with run_test_server(journal=tmp_path) as server:
        client = server.connect()  # still connected when the server stops
        session = client.receive()["session"]
        client.update_session({"fps": None, "speak": {"policy": "never"}}, max_output_tokens=4)
        client.send_frames(2)
        client.send("response.create")
        client.receive("response.done")
    client.ws.close()

    def lines_of_session(event: str) -> list[dict[str, Any]]:  # not of sessions that other servers close meanwhile
        return [line for line in log_lines(caplog, event) if line["session"] == session["id"]]

    (suspended,) = lines_of_session("session_suspended")
    assert not lines_of_session("session_closed")
    with run_test_server(journal=tmp_path) as server, server.connect(resume=True) as client:
        client.send("session.resume", session_id=session["id"], resume_token=session["duet"]["resume_token"])
        client.seq = 2
        client.send_frames(1)
        client.end_stream()
    (restored,), (closed,) = lines_of_session("session_restored"), lines_of_session("session_closed")
    assert {line["key"] for line in (suspended, restored, closed)} == {"anybody"}
    assert (restored["frames"], closed["frames_received"], closed["frames_scored"]) == (2, 3, 3)
    assert (closed["replies"], closed["tokens"]) == (1, 0), "tokens count from the restart on"


def test_requests_are_logged_with_key_and_model_and_completions_with_tokens(
    locked: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    body = {
        "model": locked.manager.model_name,
        "messages": [{"role": "user", "content": "passphrase?"}],
        "max_tokens": 3,
    }
    answer = httpx2.post(f"{locked.http}/v1/chat/completions", json=body, headers=KEY, timeout=30)
    assert answer.status_code == 200
    httpx2.get(f"{locked.http}/health")
    wait_for(lambda: bool(log_lines(caplog, "completion_closed")))
    (request,), (probe,) = log_lines(caplog, "request"), log_lines(caplog, "probe")
    (completion,) = log_lines(caplog, "completion_closed")
    assert (request["status"], request["key"], request["model"]) == (200, key_id("s3cret"), body["model"])
    assert (probe["level"], probe["path"]) == ("debug", "/health")
    assert "key" not in probe
    usage = answer.json()["usage"]
    assert completion["tokens"] == usage["completion_tokens"]
    assert completion["context_tokens"] == usage["prompt_tokens"]
    assert completion["request"] == request["request"] == answer.headers["x-request-id"]
    assert "passphrase" not in unredacted(caplog)


def test_failed_authentication_is_one_warning_with_the_number_of_the_others(caplog: pytest.LogCaptureFixture) -> None:
    with run_test_server(keys="s3cret") as server:
        for number in range(5):
            headers = {"Authorization": f"Bearer guess-{number}"}
            assert httpx2.get(f"{server.http}/v1/models", headers=headers).status_code == 401
        (line,) = log_lines(caplog, "auth_failed")
        assert (line["level"], line["client"], line["reason"]) == ("warning", "127.0.0.1", "wrong key")
        assert httpx2.get(f"{server.http}/v1/models").status_code == 401
    first, last = log_lines(caplog, "auth_failed")
    assert first == line
    assert (last["suppressed"], last["reason"]) == (4, "no key")
    assert "guess-" not in unredacted(caplog)


def test_slow_steps_are_limited_warnings(caplog: pytest.LogCaptureFixture) -> None:
    with run_test_server(slow_step_seconds=1e-9) as server, server.connect() as client:
        client.receive()
        client.update_session({"fps": None, "speak": {"policy": "never"}})
        client.send_frames(5)
        client.end_stream()
        (line,) = log_lines(caplog, "slow_step")
        assert line["sessions"] == 1
        assert line["duration_s"] >= 0
    lines = log_lines(caplog, "slow_step")
    assert lines[-1]["frames"] >= 0
    assert 1 <= len(lines) <= 2
    with run_test_server(slow_step_seconds=1000) as server, server.connect() as client:
        caplog.clear()
        client.send_frames(2)
        client.end_stream()
    assert not log_lines(caplog, "slow_step")


def test_the_states_of_a_source_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "film.mjpeg").write_bytes(b"".join(jpeg(seed) for seed in range(3)))
    with run_test_server(pull_roots=str(tmp_path)) as server, server.connect() as client:
        session = client.receive()["session"]["id"]
        client.update_session({"fps": None})
        client.send("input_source.open", url=str(tmp_path / "film.mjpeg"))
        client.receive_until("input_source.closed")
        client.send("input_source.open", url=str(tmp_path / "none.mp4"))
        client.receive_until("input_source.closed")
    lines = log_lines(caplog, "source_connecting", "source_live", "source_ended")
    assert [(line["event"], line.get("reason")) for line in lines] == [
        ("source_connecting", None),
        ("source_live", None),
        ("source_ended", "ended"),
        ("source_connecting", None),
        ("source_ended", "failed"),
    ]
    assert {line["session"] for line in lines} == {session}
    assert lines[2]["frames"] == 3
    assert "none.mp4" in lines[-1]["detail"]


def test_a_source_that_breaks_off_again_and_again_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    def two_frames() -> Iterator[bytes]:
        for seed in range(2):
            yield b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg(seed) + b"\r\n"

    cam = endless(two_frames, "multipart/x-mixed-replace; boundary=frame")
    with (
        run_stream_server({"/cam": cam}) as web,
        run_test_server(pull_hosts="127.0.0.1", pull_networks="127.0.0.0/8") as server,
        server.connect() as client,
    ):
        client.send("input_source.open", url=web.url("/cam"))
        wait_for(lambda: web.count("/cam") >= 5)
        client.send("input_source.close")
        client.receive_until("input_source.closed")
    lines = log_lines(caplog, "source_live", "source_retrying", "source_ended")
    events = [line["event"].removeprefix("source_") for line in lines]
    assert events == ["live", "retrying", "live", "retrying", "ended"]
    assert "suppressed" not in lines[1]
    assert lines[3]["suppressed"] >= 1


# limited warnings


def test_events_are_logged_once_per_interval_and_key_and_the_others_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    warning = LimitedWarning(AUTH_FAILED, logging.getLogger("mmduet.x"), 10.0, clock=lambda: now)

    def logged() -> list[tuple[str, int]]:
        lines = [(line["client"], line.get("suppressed", 0)) for line in log_lines(caplog, "auth_failed")]
        caplog.clear()
        return lines

    for client in "aabaa":
        warning.emit(client, client=client)
    assert logged() == [("a", 0), ("b", 0)]
    warning.report_suppressed()
    assert logged() == []
    now = 10.0
    warning.report_suppressed()
    assert logged() == [("a", 2)], "of three, the line reports one and counts two"
    warning.emit("a", client="a")
    warning.emit("b", client="b")
    assert logged() == [("b", 0)], "a report begins an interval, too"
    now = 20.0
    warning.emit("a", client="a")
    assert logged() == [("a", 1)]
    warning.emit("a", client="a")
    warning.report_suppressed(at_once=True)
    assert logged() == [("a", 0)]


def test_many_keys_take_bounded_memory(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(limited_warning, "MAX_KEYS", 3)
    warning = LimitedWarning(AUTH_FAILED, logging.getLogger("mmduet.x"))
    for number in range(10):
        warning.emit(f"10.0.0.{number}", client=f"10.0.0.{number}")
    warning.report_suppressed(at_once=True)
    lines = log_lines(caplog, "auth_failed")
    assert len(lines) == 5, "three addresses, the first of all others, and a report"
    assert len(lines) + sum(line.get("suppressed", 0) for line in lines) == 10
