"""Asking a judge: once, in order, from files of replies and a cache of them; prompts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from judges import PROMPT, Scripted, json_file, json_lines, questions

from mmduet.errors import AnnotationError, OptionError
from mmduet.evaluation.judges.files import CachedJudge, ReplyFile
from mmduet.evaluation.judges.judge import Place, Question, ask, look_up
from mmduet.evaluation.judges.prompts import Prompt


def test_questions_of_the_same_words_are_asked_once_and_progress_is_told() -> None:
    judge, told = Scripted(lambda words: str(len(words))), []
    twice = [*questions(3), Question(Place("other", 4, 2), (("user", "xx"),))]
    replies = ask(judge, twice, progress=lambda done, total: told.append((done, total)))
    assert replies == {**{Place("q", 0, i): str(i + 1) for i in range(3)}, Place("other", 4, 2): "2"}
    assert sorted(judge.asked) == ["x", "xx", "xxx"]
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert ask(judge, []) == {}
    with pytest.raises(OptionError, match="workers is 0"):
        ask(judge, twice, workers=0)


def test_another_judge_and_other_words_are_asked_anew(tmp_path: Path) -> None:
    cache = tmp_path / "replies.jsonl"
    one, other = Scripted(lambda _: "1", "one"), Scripted(lambda _: "2", "other")
    for _ in range(2):
        assert set(ask(CachedJudge(one, cache), questions(2)).values()) == {"1"}
        assert set(ask(CachedJudge(other, cache), questions(3)).values()) == {"2"}
    assert (len(one.asked), len(other.asked)) == (2, 3)
    rows = [json.loads(line) for line in cache.read_text().splitlines()]
    assert Counter(row["model"] for row in rows) == {"one": 2, "other": 3}
    assert rows[0].keys() == {"key", "model", "question_id", "gold", "turn", "reply"}
    assert len({row["key"] for row in rows}) == 5


def test_a_judge_without_words_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    cache = tmp_path / "replies.jsonl"
    for reply in ("", " \n", "4"):
        judge = Scripted(lambda _, reply=reply: reply)
        assert set(ask(CachedJudge(judge, cache), questions(2)).values()) == {reply}
        assert len(judge.asked) == 2
    assert len(cache.read_text().splitlines()) == 2
    empty = [json.dumps({**json.loads(line), "reply": ""}) + "\n" for line in cache.read_text().splitlines()]
    cache.write_text("".join(empty))  # as it was kept by an earlier version
    assert set(ask(CachedJudge(Scripted(lambda _: "5"), cache), questions(2)).values()) == {"5"}


def test_half_a_line_at_the_end_is_cut_off(tmp_path: Path) -> None:
    cache = tmp_path / "replies.jsonl"
    ask(CachedJudge(Scripted(lambda words: words), cache), questions(3))
    whole = cache.read_bytes()
    for torn in (whole[:-1], whole[:-20], whole[: len(whole) // 3 + 5], whole[:4], b""):
        cache.write_bytes(torn)
        judge = Scripted(lambda words: words)
        ask(CachedJudge(judge, cache), questions(3), workers=1)
        assert len(judge.asked) == 3 - torn.count(b"\n")
        assert sorted(cache.read_bytes().splitlines()) == sorted(whole.splitlines())


@pytest.mark.parametrize(
    "content",
    ["my thesis", '{"not": "ours"}\n', "[1]\n", '{"key": "a"}\n', '{"key": "a", "reply": null}\n', "\xff\n", "a\n"],
)
def test_files_of_something_else_stay_as_they_are(tmp_path: Path, content: str) -> None:
    cache = tmp_path / "thesis.txt"
    cache.write_text(content, encoding="latin-1")
    with pytest.raises(OptionError, match=r"thesis.txt is no file of a judge's replies .* give another path"):
        CachedJudge(Scripted({}), cache)
    assert cache.read_text(encoding="latin-1") == content


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be written"):
        ask(CachedJudge(Scripted(lambda _: "1"), tmp_path / "no" / "folder"), questions(1))
    with pytest.raises(OptionError, match="give another path"):
        CachedJudge(Scripted({}), tmp_path)


def test_a_cache_serves_as_a_file_of_judgements(tmp_path: Path) -> None:
    cache = tmp_path / "replies.jsonl"
    ask(CachedJudge(Scripted(lambda words: words), cache), questions(3))
    file = ReplyFile(cache)
    assert file.model == "scripted"
    assert look_up(file, questions(3)) == {question.place: question.messages[0][1] for question in questions(3)}
    with pytest.raises(AnnotationError, match="1 of 4 answers have not been judged"):
        look_up(file, questions(4))
    ask(CachedJudge(Scripted(lambda words: words, "other"), cache), questions(1))
    with pytest.raises(AnnotationError, match=r"several judges \(other, scripted\)"):
        ReplyFile(cache)


PLACED = {"question_id": "q", "gold": 0, "turn": 0}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "holds no replies"),
        ([{}], "row 1 cannot be read .*question_id"),
        ([{"question_id": "q", "gold": 0, "reply": "5"}], "KeyError: 'turn'"),
        ([PLACED], "KeyError: 'reply'"),
        ([{**PLACED, "reply": 5.5}], "reply is 5.5"),
        ([{**PLACED, "score": None}], "score is None"),
        ([{**PLACED, "score": True}], "score is True"),
        ([{**PLACED, "score": float("nan")}], "score is nan"),
        ([{**PLACED, "question_id": []}, {**PLACED, "reply": "5"}], "row 1 cannot be read"),
        ([{**PLACED, "reply": "5"}, {**PLACED, "reply": "4"}], r"row 2: .* was judged '5' before, now '4'"),
        ([{"question_id": "q", "evaluator_output": 5}], "row 1 cannot be read"),
        ([{"key": "abc"}], "KeyError: 'reply'"),
    ],
)
def test_files_of_replies_that_are_refused(tmp_path: Path, rows: list[Any], told: str) -> None:
    with pytest.raises(AnnotationError, match=told):
        ReplyFile(json_lines(tmp_path / "replies.jsonl", rows))


def test_keys_tell_apart_what_is_asked_and_of_whom() -> None:
    one, other = questions(2)
    elsewhere = Question(Place("elsewhere", 1, 1), one.messages)
    assert one.key("m") == elsewhere.key("m")
    assert len({one.key("m"), one.key("n"), other.key("m"), Question(one.place, (("system", "x"),)).key("m")}) == 4


def test_a_prompt_is_filled_once(tmp_path: Path) -> None:
    prompt = Prompt.read(json_file(tmp_path / "p.txt", "{question} {gold} {answer} {question} {x} {{gold}}"))
    ((role, words),) = prompt.fill("{gold}", "{answer}", r"\1 {0}")
    assert (role, words) == ("user", r"{gold} {answer} \1 {0} {gold} {x} {{answer}}")
    few = [
        {"role": "system", "content": "Grade."},
        {"role": "user", "content": "an example"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": PROMPT},
    ]
    filled = Prompt.read(json_file(tmp_path / "p.json", few)).fill("q", "g", "a")
    assert filled == (("system", "Grade."), ("user", "an example"), ("assistant", "4"), ("user", "q|g|a"))
    assert str(prompt).startswith("the prompt of p.txt (")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("p.txt", "{question} {answer}", r"p.txt has no \{gold\}; write"),
        ("p.txt", "", r"has no \{question\} and no \{gold\} and no \{answer\}"),
        ("p.json", [{"role": "user", "content": "{gold}"}], r"has no \{question\} and no \{answer\}"),
        ("p.json", [{"role": "robot", "content": "x"}], "it needs a role"),
        ("p.json", ["x"], "it needs a role"),
        ("p.json", [{"role": "user"}], "it needs a role"),
    ],
)
def test_prompts_that_are_refused(tmp_path: Path, name: str, content: Any, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        Prompt.read(json_file(tmp_path / name, content))
    with pytest.raises(OptionError, match="cannot be read"):
        Prompt.read(tmp_path / "absent.txt")
