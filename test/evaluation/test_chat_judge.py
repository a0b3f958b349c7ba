"""A judge behind an endpoint: a real server on loopback that fails in many ways."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Response, chat_completion
from judges import (
    ScriptedJudge,
    gold_entry,
    judge_requests,
    prediction_line,
    write_json_file,
    write_json_lines,
    write_prompt,
)

from mmduet.errors import AuthError, MmduetError, OptionError, ServerError
from mmduet.evaluation.benchmarks import magqa
from mmduet.evaluation.judges.chat_judge import KEY_VARIABLE, ChatJudge
from mmduet.evaluation.judges.judge import JudgedPair, JudgeRequest, query_judge
from mmduet.evaluation.judges.judgement_files import CachedJudge

SECRET = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


def chat_judge(url: str, **options: Any) -> ChatJudge:
    return ChatJudge(url, "tester", **{"backoff_seconds": 0.001, "timeout_seconds": 5.0, **options})


def expected(number: int) -> dict[JudgedPair, str]:
    return {request.pair: str(1 + len(request.messages[0][1]) % 5) for request in judge_requests(number)}


def test_transient_failures_are_retried(tmp_path: Path) -> None:
    failures: list[Response] = [
        (429, {"retry-after": "0"}, b"slow down"),
        (429, {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, b""),
        (200, {}, b"<html>garbage</html>"),
        (200, {}, b"[]"),
        (200, {}, b'{"choices": []}'),
        chat_completion(None),
        (500, {}, b""),
        (503, {}, b"loading"),
    ]
    server = ChatServer(failures)
    with server.serve() as url, chat_judge(url, attempts=12) as judge:
        assert query_judge(judge, judge_requests(6), workers=3) == expected(6)
    assert set(server.answered.values()) == {1}
    assert len(server.bodies) == 6 + len(failures)
    assert server.path == "/v1/chat/completions"
    assert server.bodies[0].keys() == {"model", "messages", "temperature"}
    assert (server.bodies[0]["model"], server.bodies[0]["temperature"]) == ("tester", 0.0)


def test_empty_reply_is_retried_then_returned() -> None:
    server = ChatServer([chat_completion(""), chat_completion(" ")])
    with server.serve() as url, chat_judge(url, attempts=3) as judge:
        assert query_judge(judge, judge_requests(1), workers=1) == expected(1)
    server = ChatServer([chat_completion("")] * 3)
    with server.serve() as url, chat_judge(url, attempts=3) as judge:
        assert query_judge(judge, judge_requests(1), workers=1) == {JudgedPair("q", 0, 0): ""}
    assert len(server.bodies) == 3


def test_concurrent_requests_are_limited_to_workers() -> None:
    server = ChatServer(delay_seconds=0.05)
    with server.serve() as url, chat_judge(url) as judge:
        query_judge(judge, judge_requests(12), workers=4)
    assert 2 <= server.max_active <= 4


def test_cached_replies_survive_a_failing_endpoint(tmp_path: Path) -> None:
    """20 requests: the first server fails after 7 replies, the second after 6 more, the third replies to the rest."""
    cache = tmp_path / "replies.jsonl"
    servers = [ChatServer(max_answers=7), ChatServer([(500, {}, b"")], max_answers=6), ChatServer()]
    for number, server in enumerate(servers):
        with server.serve() as url, chat_judge(url, attempts=2) as judge:
            if number < 2:
                with pytest.raises(ServerError, match=r"failed 2 times \(last: (RemoteProtocol|Read)Error\)"):
                    query_judge(CachedJudge(judge, cache), judge_requests(20), workers=3)
                wait_until(lambda count=7 + 6 * number: len(cache.read_text().splitlines()) == count)
            else:
                assert query_judge(CachedJudge(judge, cache), judge_requests(20), workers=3) == expected(20)
    assert [sum(server.answered.values()) for server in servers] == [7, 6, 7]
    assert set(sum((server.answered for server in servers), Counter()).values()) == {1}
    offline = CachedJudge(ScriptedJudge({}, model="tester"), cache)
    assert query_judge(offline, judge_requests(20)) == expected(20)


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.005)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Restore the default handler: a shell that runs the tests in the background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_at_once_and_keeps_replies(tmp_path: Path) -> None:
    cache, quick, slow, after = tmp_path / "replies.jsonl", ChatServer(), ChatServer(delay_seconds=30.0), ChatServer()
    with quick.serve() as url, chat_judge(url) as judge:
        query_judge(CachedJudge(judge, cache), judge_requests(3))
    with slow.serve() as url:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt), chat_judge(url, timeout_seconds=60.0) as judge:
            query_judge(CachedJudge(judge, cache), judge_requests(40), workers=2)
        assert time.monotonic() - began < 5
        with after.serve() as other, chat_judge(other) as judge:
            assert query_judge(CachedJudge(judge, cache), judge_requests(40)) == expected(40)
        assert len(slow.bodies) == 2  # requests that were not started are dropped
    assert len(after.bodies) == 37
    assert not {"x", "xx", "xxx"} & after.answered.keys()


QUERY_SCRIPT = """
import sys
from mmduet.evaluation.judges.judge import JudgedPair, JudgeRequest, query_judge
from mmduet.evaluation.judges.chat_judge import ChatJudge

with ChatJudge(sys.argv[1], "tester") as judge:
    requests = [JudgeRequest(JudgedPair("q", 0, i), (("user", "x" * (i + 1)),)) for i in range(9)]
    query_judge(judge, requests, workers=2)
"""


@pytest.mark.usefixtures("interruptible")
def test_interrupted_process_does_not_wait_for_the_judge() -> None:
    server = ChatServer(delay_seconds=60.0)
    with server.serve() as url:
        command = subprocess.Popen([sys.executable, "-c", QUERY_SCRIPT, url], stderr=subprocess.PIPE)
        wait_until(lambda: len(server.bodies) == 2, 30.0)
        command.send_signal(signal.SIGINT)
        _, stderr = command.communicate(timeout=10.0)
    assert b"KeyboardInterrupt" in stderr


def test_closing_the_judge_ends_its_backoff() -> None:
    with ChatServer([(503, {}, b"")] * 9).serve() as url:
        judge = chat_judge(url, backoff_seconds=30.0)
        threading.Timer(0.1, judge.close).start()
        began = time.monotonic()
        with pytest.raises(ServerError, match="was closed"):
            judge.reply(judge_requests(1)[0])
        assert time.monotonic() - began < 5
        with pytest.raises(ServerError, match="was closed"):
            judge.reply(judge_requests(1)[0])


def test_unresponsive_or_absent_endpoint_raises() -> None:
    with (
        ChatServer(delay_seconds=3.0).serve() as url,
        chat_judge(url, timeout_seconds=0.05, attempts=2) as judge,
        pytest.raises(ServerError, match=r"failed 2 times \(last: ReadTimeout\)"),
    ):
        judge.reply(judge_requests(1)[0])
    with (
        chat_judge("http://127.0.0.1:9", attempts=2) as judge,
        pytest.raises(ServerError, match=r"\(last: ConnectError\); check that it is running"),
    ):
        judge.reply(judge_requests(1)[0])


@pytest.mark.parametrize(
    ("status", "error_type", "message"),
    [
        (400, ServerError, r"rejected the request \(status 400: no such model"),
        (404, ServerError, "check the address and the model name"),
        (302, ServerError, "302"),
        (
            401,
            AuthError,
            r"rejected the API key \(status 401\); set the environment variable MMDUET_JUDGE_KEY to a valid key",
        ),
        (403, AuthError, "403"),
    ],
)
def test_rejections_are_final_and_contain_no_secret(
    status: int, error_type: type[MmduetError], message: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv(KEY_VARIABLE, f" {SECRET}\n")
    caplog.set_level(logging.DEBUG)
    server = ChatServer([(status, {}, f"no such model, {SECRET} {'.' * 280} {SECRET}".encode())])
    cache = tmp_path / "replies.jsonl"
    with server.serve() as url, chat_judge(url) as judge:
        with pytest.raises(error_type, match=message) as caught:
            query_judge(CachedJudge(judge, cache), judge_requests(1))
        assert len(server.bodies) == 1
        query_judge(CachedJudge(judge, cache), judge_requests(3))
        texts = [repr(judge), str(vars(caught.value)), str(caught.value), caplog.text, cache.read_text()]
    error: BaseException | None = caught.value
    while error is not None:
        texts += [repr(error), str(error.args)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert server.keys == {f"Bearer {SECRET}"}
    assert "HTTP Request: POST" in caplog.text  # the log is on
    assert not any("very-secret" in text for text in texts)


def test_key_is_read_from_the_given_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOTHER_KEY", SECRET)
    server = ChatServer()
    with server.serve() as url:
        for options in ({}, {"key_variable": "ANOTHER_KEY"}):
            with chat_judge(url, **options) as judge:
                judge.reply(judge_requests(1)[0])
    assert server.keys == {None, f"Bearer {SECRET}"}
    with pytest.raises(OptionError, match="ABSENT_KEY is not set"):
        chat_judge("http://host", key_variable="ABSENT_KEY")
    monkeypatch.setenv("ANOTHER_KEY", f"{SECRET}\n{SECRET}")
    with pytest.raises(OptionError, match="ANOTHER_KEY does not contain a valid API key") as caught:
        chat_judge("http://host", key_variable="ANOTHER_KEY")
    assert "secret" not in str(caught.value)


def test_unpaired_surrogates_and_settings_are_sent() -> None:
    server = ChatServer()
    request = JudgeRequest(JudgedPair("q", 0, 0), (("user", "half \ud800 a character"),))
    with server.serve() as url, chat_judge(url, settings={"max_tokens": 4}) as judge:
        judge.reply(request)
    assert server.bodies[0] == {
        "max_tokens": 4, "model": "tester", "messages": [{"role": "user", "content": "half ? a character"}],
    }  # fmt: skip


def test_magqa_over_http_end_to_end(tmp_path: Path) -> None:
    """With the built-in prompt; the second run is served from the cache."""
    predictions = write_json_lines(
        tmp_path / "predictions.jsonl", [prediction_line("q1", (1.0, "x"), (2.0, "x"), (9.0, "y"))]
    )
    gold = write_json_file(tmp_path / "gold.json", [gold_entry("q1", ([0, 4], "a"))])
    server, cache = (
        ChatServer([(429, {"retry-after": "0"}, b""), chat_completion("Grade: 4")]),
        tmp_path / "replies.jsonl",
    )
    with server.serve() as url, chat_judge(url) as judge:
        report = magqa.evaluate(predictions, gold, judge=CachedJudge(judge, cache))
        again = magqa.evaluate(predictions, gold, judge=CachedJudge(judge, cache))
    assert report.metrics == again.metrics == {"in_span": 4.0, "turns": 3.0, "distinct_turns": 2.0}
    assert len(server.bodies) == 2
    system, user = server.bodies[1]["messages"]
    assert system["role"] == "system"
    assert user["content"] == "Question: what?\nReference answer: a\nAnswer to be graded: x"
    assert report.notes[0].startswith("Answers were graded by tester with mmduet's own prompt (")
    other = magqa.evaluate(predictions, gold, judge=ScriptedJudge(lambda _: "5"), prompt=write_prompt(tmp_path))
    assert other.metrics["in_span"] == 5.0
