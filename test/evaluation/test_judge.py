"""Querying a judge, files of judgements, the reply cache, and prompts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from judges import PROMPT_TEMPLATE, ScriptedJudge, judge_requests, write_json_file, write_json_lines

from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.judges.judge import JudgedPair, JudgeRequest, lookup_replies, query_judge
from mmduet.evaluation.judges.judgement_files import CachedJudge, JudgementFile
from mmduet.evaluation.judges.prompts import Prompt


def test_equal_requests_are_sent_once_and_progress_is_reported() -> None:
    judge, progress = ScriptedJudge(lambda prompt: str(len(prompt))), []
    requests = [*judge_requests(3), JudgeRequest(JudgedPair("other", 4, 2), (("user", "xx"),))]
    replies = query_judge(judge, requests, progress=lambda done, total: progress.append((done, total)))
    assert replies == {**{JudgedPair("q", 0, i): str(i + 1) for i in range(3)}, JudgedPair("other", 4, 2): "2"}
    assert sorted(judge.prompts) == ["x", "xx", "xxx"]
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert query_judge(judge, []) == {}
    with pytest.raises(OptionError, match="workers must be at least 1, got 0"):
        query_judge(judge, requests, workers=0)


def test_cache_distinguishes_models_and_messages(tmp_path: Path) -> None:
    cache = tmp_path / "replies.jsonl"
    one, other = ScriptedJudge(lambda _: "1", "one"), ScriptedJudge(lambda _: "2", "other")
    for _ in range(2):
        assert set(query_judge(CachedJudge(one, cache), judge_requests(2)).values()) == {"1"}
        assert set(query_judge(CachedJudge(other, cache), judge_requests(3)).values()) == {"2"}
    assert (len(one.prompts), len(other.prompts)) == (2, 3)
    rows = [json.loads(line) for line in cache.read_text().splitlines()]
    assert Counter(row["model"] for row in rows) == {"one": 2, "other": 3}
    assert rows[0].keys() == {"key", "model", "question_id", "gold", "turn", "reply"}
    assert len({row["key"] for row in rows}) == 5


def test_empty_replies_are_not_cached(tmp_path: Path) -> None:
    cache = tmp_path / "replies.jsonl"
    for reply in ("", " \n", "4"):
        judge = ScriptedJudge(lambda _, reply=reply: reply)
        assert set(query_judge(CachedJudge(judge, cache), judge_requests(2)).values()) == {reply}
        assert len(judge.prompts) == 2
    assert len(cache.read_text().splitlines()) == 2
    empty = [json.dumps({**json.loads(line), "reply": ""}) + "\n" for line in cache.read_text().splitlines()]
    cache.write_text("".join(empty))  # as an earlier version wrote them
    assert set(query_judge(CachedJudge(ScriptedJudge(lambda _: "5"), cache), judge_requests(2)).values()) == {"5"}


def test_incomplete_last_line_of_the_cache_is_removed(tmp_path: Path) -> None:
    cache = tmp_path / "replies.jsonl"
    query_judge(CachedJudge(ScriptedJudge(lambda prompt: prompt), cache), judge_requests(3))
    complete = cache.read_bytes()
    for partial in (complete[:-1], complete[:-20], complete[: len(complete) // 3 + 5], complete[:4], b""):
        cache.write_bytes(partial)
        judge = ScriptedJudge(lambda prompt: prompt)
        query_judge(CachedJudge(judge, cache), judge_requests(3), workers=1)
        assert len(judge.prompts) == 3 - partial.count(b"\n")
        assert sorted(cache.read_bytes().splitlines()) == sorted(complete.splitlines())


@pytest.mark.parametrize(
    "content",
    ["my thesis", '{"not": "ours"}\n', "[1]\n", '{"key": "a"}\n', '{"key": "a", "reply": null}\n', "\xff\n", "a\n"],
)
def test_other_files_are_not_overwritten_by_the_cache(tmp_path: Path, content: str) -> None:
    cache = tmp_path / "thesis.txt"
    cache.write_text(content, encoding="latin-1")
    with pytest.raises(OptionError, match=r"thesis.txt is not a file of a judge's replies .* give another path"):
        CachedJudge(ScriptedJudge({}), cache)
    assert cache.read_text(encoding="latin-1") == content


def test_an_unwritable_cache_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be written"):
        query_judge(CachedJudge(ScriptedJudge(lambda _: "1"), tmp_path / "no" / "folder"), judge_requests(1))
    with pytest.raises(OptionError, match="give another path"):
        CachedJudge(ScriptedJudge({}), tmp_path)


def test_cache_can_be_read_as_a_judgement_file(tmp_path: Path) -> None:
    cache = tmp_path / "replies.jsonl"
    query_judge(CachedJudge(ScriptedJudge(lambda prompt: prompt), cache), judge_requests(3))
    file = JudgementFile(cache)
    assert file.model == "scripted"
    assert lookup_replies(file, judge_requests(3)) == {
        question.pair: question.messages[0][1] for question in judge_requests(3)
    }
    with pytest.raises(AnnotationError, match="1 of 4 answers have no judgement"):
        lookup_replies(file, judge_requests(4))
    query_judge(CachedJudge(ScriptedJudge(lambda prompt: prompt, "other"), cache), judge_requests(1))
    with pytest.raises(AnnotationError, match=r"several judges \(other, scripted\)"):
        JudgementFile(cache)


PAIR_FIELDS = {"question_id": "q", "gold": 0, "turn": 0}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"replies\.jsonl has no judgements; the form of a row is"),
        ([{}], r"replies\.jsonl, row 1: missing question_id in \{\}"),
        (
            [{"question_id": "q", "gold": 0, "reply": "5"}],
            r"replies\.jsonl, row 1: missing turn in \{'question_id': 'q', 'gold': 0, 'reply': '5'\}",
        ),
        ([PAIR_FIELDS], r"replies\.jsonl, row 1: missing reply in \{'question_id': 'q', 'gold': 0, 'turn': 0\}"),
        (
            [{**PAIR_FIELDS, "reply": 5.5}],
            r"replies\.jsonl, row 1: reply is 5\.5, expected the judge's text or a whole number",
        ),
        (
            [{**PAIR_FIELDS, "score": None}],
            r"replies\.jsonl, row 1: score is None, expected the judge's text or a whole number",
        ),
        (
            [{**PAIR_FIELDS, "score": True}],
            r"replies\.jsonl, row 1: score is True, expected the judge's text or a whole number",
        ),
        (
            [{**PAIR_FIELDS, "score": float("nan")}],
            r"replies\.jsonl, row 1: score is nan, expected the judge's text or a whole number",
        ),
        (
            [{**PAIR_FIELDS, "question_id": []}, {**PAIR_FIELDS, "reply": "5"}],
            r"replies\.jsonl, row 1: question_id is \[\], expected a text or a whole number",
        ),
        ([{**PAIR_FIELDS, "reply": "5"}, {**PAIR_FIELDS, "reply": "4"}], r"row 2: .* has the replies '5' and '4'"),
        (
            [{"question_id": "q", "evaluator_output": 5}],
            r"replies\.jsonl, row 1: evaluator_output is 5, expected a list",
        ),
        ([{"key": "abc"}], r"replies\.jsonl, row 1: missing reply in \{'key': 'abc'\}"),
    ],
)
def test_invalid_judgement_files_are_rejected(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        JudgementFile(write_json_lines(tmp_path / "replies.jsonl", rows))


def test_cache_keys_depend_on_messages_and_model_only() -> None:
    one, other = judge_requests(2)
    same_messages = JudgeRequest(JudgedPair("another", 1, 1), one.messages)
    assert one.cache_key("m") == same_messages.cache_key("m")
    another_role = JudgeRequest(one.pair, (("system", "x"),))
    keys = {one.cache_key("m"), one.cache_key("n"), other.cache_key("m"), another_role.cache_key("m")}
    assert len(keys) == 4


def test_placeholders_are_filled_once(tmp_path: Path) -> None:
    prompt = Prompt.from_file(write_json_file(tmp_path / "p.txt", "{question} {gold} {answer} {question} {x} {{gold}}"))
    ((role, text),) = prompt.fill("{gold}", "{answer}", r"\1 {0}")
    assert (role, text) == ("user", r"{gold} {answer} \1 {0} {gold} {x} {{answer}}")
    messages = [
        {"role": "system", "content": "Grade."},
        {"role": "user", "content": "an example"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": PROMPT_TEMPLATE},
    ]
    filled = Prompt.from_file(write_json_file(tmp_path / "p.json", messages)).fill("q", "g", "a")
    assert filled == (("system", "Grade."), ("user", "an example"), ("assistant", "4"), ("user", "q|g|a"))
    assert str(prompt).startswith("the prompt of p.txt (")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.txt", "{question} {answer}", r"p.txt lacks the placeholders \{gold\}; add"),
        ("p.txt", "", r"lacks the placeholders \{question\}, \{gold\}, \{answer\}"),
        ("p.json", [{"role": "user", "content": "{gold}"}], r"lacks the placeholders \{question\}, \{answer\}"),
        (
            "p.json",
            [{"role": "robot", "content": "x"}],
            r"p\.json: message \{'role': 'robot', 'content': 'x'\} needs a role \(.*\) and a content \(a text\)",
        ),
        ("p.json", ["x"], r"p\.json: message 'x' needs a role \(.*\) and a content \(a text\)"),
        ("p.json", [{"role": "user"}], r"p\.json: message \{'role': 'user'\} needs a role \(.*\) and a content"),
    ],
)
def test_invalid_prompts_are_rejected(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Prompt.from_file(write_json_file(tmp_path / name, content))
    with pytest.raises(OptionError, match=r"absent\.txt cannot be read \(.*\); give a text file with the prompt"):
        Prompt.from_file(tmp_path / "absent.txt")
