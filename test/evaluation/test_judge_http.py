"""A judge behind an address: a real server on loopback that fails in every way."""

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
from chat_server import Answer, ChatServer, completion
from judges import Scripted, asked, json_file, json_lines, predicted, prompt_file, questions

from mmduet.errors import AuthError, MmduetError, OptionError, ServerError
from mmduet.evaluation.benchmarks import magqa
from mmduet.evaluation.judges.files import CachedJudge
from mmduet.evaluation.judges.http import KEY_VARIABLE, ChatJudge, address
from mmduet.evaluation.judges.judge import Place, Question, ask

SECRET = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def _directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


def chat(url: str, **options: Any) -> ChatJudge:
    return ChatJudge(url, "tester", **{"pause": 0.001, "timeout": 5.0, **options})


def expected(number: int) -> dict[Place, str]:
    return {question.place: str(1 + len(question.messages[0][1]) % 5) for question in questions(number)}


def test_what_passes_is_tried_again(tmp_path: Path) -> None:
    garbage: list[Answer] = [
        (429, {"retry-after": "0"}, b"slow down"),
        (429, {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, b""),
        (200, {}, b"<html>garbage</html>"),
        (200, {}, b"[]"),
        (200, {}, b'{"choices": []}'),
        completion(None),
        (500, {}, b""),
        (503, {}, b"loading"),
    ]
    server = ChatServer(garbage)
    with server.running() as url, chat(url, attempts=12) as judge:
        assert ask(judge, questions(6), workers=3) == expected(6)
    assert set(server.answered.values()) == {1}
    assert len(server.bodies) == 6 + len(garbage)
    assert server.path == "/v1/chat/completions"
    assert server.bodies[0].keys() == {"model", "messages", "temperature"}
    assert (server.bodies[0]["model"], server.bodies[0]["temperature"]) == ("tester", 0.0)


def test_an_empty_reply_is_asked_for_again_and_in_the_end_taken() -> None:
    server = ChatServer([completion(""), completion(" ")])
    with server.running() as url, chat(url, attempts=3) as judge:
        assert ask(judge, questions(1), workers=1) == expected(1)
    server = ChatServer([completion("")] * 3)
    with server.running() as url, chat(url, attempts=3) as judge:
        assert ask(judge, questions(1), workers=1) == {Place("q", 0, 0): ""}
    assert len(server.bodies) == 3


def test_several_are_under_way_at_once_but_no_more_than_allowed() -> None:
    server = ChatServer(delay=0.05)
    with server.running() as url, chat(url) as judge:
        ask(judge, questions(12), workers=4)
    assert 2 <= server.most_at_once <= 4


def test_a_judge_that_dies_in_the_middle_costs_nothing_twice(tmp_path: Path) -> None:
    """20 questions; the server breaks after 7 answers, another after 6 more; the third answers what is left."""
    cache = tmp_path / "replies.jsonl"
    servers = [ChatServer(fuse=7), ChatServer([(500, {}, b"")], fuse=6), ChatServer()]
    for number, server in enumerate(servers):
        with server.running() as url, chat(url, attempts=2) as judge:
            if number < 2:
                with pytest.raises(
                    ServerError, match=r"gave no reply in 2 tries \(at last: (RemoteProtocol|Read)Error\)"
                ):
                    ask(CachedJudge(judge, cache), questions(20), workers=3)
                wait_until(lambda count=7 + 6 * number: len(cache.read_text().splitlines()) == count)
            else:
                assert ask(CachedJudge(judge, cache), questions(20), workers=3) == expected(20)
    assert [sum(server.answered.values()) for server in servers] == [7, 6, 7]
    assert set(sum((server.answered for server in servers), Counter()).values()) == {1}
    unplugged = CachedJudge(Scripted({}, model="tester"), cache)
    assert ask(unplugged, questions(20)) == expected(20)


def wait_until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.005)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Whoever started the tests may have had SIGINT ignored, as shells do for what runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_at_once_and_loses_nothing(tmp_path: Path) -> None:
    cache, quick, slow, after = tmp_path / "replies.jsonl", ChatServer(), ChatServer(delay=30.0), ChatServer()
    with quick.running() as url, chat(url) as judge:
        ask(CachedJudge(judge, cache), questions(3))
    with slow.running() as url:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt), chat(url, timeout=60.0) as judge:
            ask(CachedJudge(judge, cache), questions(40), workers=2)
        assert time.monotonic() - began < 5
        with after.running() as other, chat(other) as judge:
            assert ask(CachedJudge(judge, cache), questions(40)) == expected(40)
        assert len(slow.bodies) == 2  # what was not begun was not asked
    assert len(after.bodies) == 37
    assert not {"x", "xx", "xxx"} & after.answered.keys()


ASKING = """
import sys
from mmduet.evaluation.judges.judge import Place, Question, ask
from mmduet.evaluation.judges.http import ChatJudge

with ChatJudge(sys.argv[1], "tester") as judge:
    ask(judge, [Question(Place("q", 0, i), (("user", "x" * (i + 1)),)) for i in range(9)], workers=2)
"""


@pytest.mark.usefixtures("interruptible")
def test_a_command_that_is_interrupted_does_not_wait_for_the_judge() -> None:
    server = ChatServer(delay=60.0)
    with server.running() as url:
        command = subprocess.Popen([sys.executable, "-c", ASKING, url], stderr=subprocess.PIPE)
        wait_until(lambda: len(server.bodies) == 2, 30.0)
        command.send_signal(signal.SIGINT)
        _, told = command.communicate(timeout=10.0)
    assert b"KeyboardInterrupt" in told


def test_a_pause_ends_when_the_judge_is_closed() -> None:
    with ChatServer([(503, {}, b"")] * 9).running() as url:
        judge = chat(url, pause=30.0)
        threading.Timer(0.1, judge.close).start()
        began = time.monotonic()
        with pytest.raises(ServerError, match="was closed"):
            judge.reply(questions(1)[0])
        assert time.monotonic() - began < 5
        with pytest.raises(ServerError, match="was closed"):
            judge.reply(questions(1)[0])


def test_a_server_that_hangs_or_is_not_there() -> None:
    with (
        ChatServer(delay=3.0).running() as url,
        chat(url, timeout=0.05, attempts=2) as judge,
        pytest.raises(ServerError, match=r"in 2 tries \(at last: ReadTimeout\)"),
    ):
        judge.reply(questions(1)[0])
    with (
        chat("http://127.0.0.1:9", attempts=2) as judge,
        pytest.raises(ServerError, match=r"\(at last: ConnectError\); see that it runs"),
    ):
        judge.reply(questions(1)[0])


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (400, ServerError, r"refuses the question \(400: no such model"),
        (404, ServerError, "check address and model name"),
        (302, ServerError, "302"),
        (401, AuthError, r"refuses the key \(401\); put the right one into the environment variable MMDUET_JUDGE_KEY"),
        (403, AuthError, "403"),
    ],
)
def test_a_refusal_is_final_and_tells_no_secret(
    status: int, kind: type[MmduetError], told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv(KEY_VARIABLE, f" {SECRET}\n")
    caplog.set_level(logging.DEBUG)
    server = ChatServer([(status, {}, f"no such model, {SECRET} {'.' * 280} {SECRET}".encode())])
    cache = tmp_path / "replies.jsonl"
    with server.running() as url, chat(url) as judge:
        with pytest.raises(kind, match=told) as caught:
            ask(CachedJudge(judge, cache), questions(1))
        assert len(server.bodies) == 1
        ask(CachedJudge(judge, cache), questions(3))
        seen = [repr(judge), str(vars(caught.value)), str(caught.value), caplog.text, cache.read_text()]
    error: BaseException | None = caught.value
    while error is not None:
        seen += [repr(error), str(error.args)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert server.keys == {f"Bearer {SECRET}"}
    assert "HTTP Request: POST" in caplog.text  # the log was on
    assert not any("very-secret" in text for text in seen)


def test_a_key_of_another_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOTHER_KEY", SECRET)
    server = ChatServer()
    with server.running() as url:
        for options in ({}, {"key_variable": "ANOTHER_KEY"}):
            with chat(url, **options) as judge:
                judge.reply(questions(1)[0])
    assert server.keys == {None, f"Bearer {SECRET}"}
    with pytest.raises(OptionError, match="ABSENT_KEY is not set"):
        chat("http://host", key_variable="ABSENT_KEY")
    monkeypatch.setenv("ANOTHER_KEY", f"{SECRET}\n{SECRET}")
    with pytest.raises(OptionError, match="ANOTHER_KEY holds no key") as caught:
        chat("http://host", key_variable="ANOTHER_KEY")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected_address"),
    [
        ("http://host:8000", "http://host:8000/v1/chat/completions"),
        ("http://host:8000/", "http://host:8000/v1/chat/completions"),
        ("https://host/v1", "https://host/v1/chat/completions"),
        ("https://host/api/v3/", "https://host/api/v3/chat/completions"),
        ("https://host/v1/chat/completions", "https://host/v1/chat/completions"),
    ],
)
def test_addresses(url: str, expected_address: str) -> None:
    assert address(url) == expected_address


BAD_ADDRESSES = ("host:8000", "ftp://host", "", "http://", "http://[::1")


@pytest.mark.parametrize("url", [*BAD_ADDRESSES, f"http://me:{SECRET}@host", f"http://h/v1?key={SECRET}"])
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(OptionError, match="the judge's address") as caught:
        chat(url)
    assert "secret" not in str(caught.value)


def test_options_that_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="attempts is 0"):
        chat("http://host", attempts=0)
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(OptionError, match=r"needs httpx2; run: pip install 'mmduet\[server\]'"):
        chat("http://host")


def test_half_characters_and_settings_are_sent() -> None:
    server = ChatServer()
    question = Question(Place("q", 0, 0), (("user", "half \ud800 a character"),))
    with server.running() as url, chat(url, settings={"max_tokens": 4}) as judge:
        judge.reply(question)
    assert server.bodies[0] == {
        "max_tokens": 4, "model": "tester", "messages": [{"role": "user", "content": "half ? a character"}],
    }  # fmt: skip


def test_magqa_over_http_from_end_to_end(tmp_path: Path) -> None:
    """With our own prompt; a second run needs no server."""
    said = json_lines(tmp_path / "said.jsonl", [predicted("q1", (1.0, "x"), (2.0, "x"), (9.0, "y"))])
    gold = json_file(tmp_path / "gold.json", [asked("q1", ([0, 4], "a"))])
    server, cache = ChatServer([(429, {"retry-after": "0"}, b""), completion("Grade: 4")]), tmp_path / "replies.jsonl"
    with server.running() as url, chat(url) as judge:
        report = magqa.evaluate(said, gold, judge=CachedJudge(judge, cache))
        again = magqa.evaluate(said, gold, judge=CachedJudge(judge, cache))
    assert report.metrics == again.metrics == {"in_span": 4.0, "turns": 3.0, "distinct_turns": 2.0}
    assert len(server.bodies) == 2
    system, user = server.bodies[1]["messages"]
    assert system["role"] == "system"
    assert user["content"] == "Question: what?\nReference answer: a\nAnswer to be graded: x"
    assert report.notes[0].startswith("Graded by tester with mmduet's own prompt (")
    other = magqa.evaluate(said, gold, judge=Scripted(lambda _: "5"), prompt=prompt_file(tmp_path))
    assert other.metrics["in_span"] == 5.0
