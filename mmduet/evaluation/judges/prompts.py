"""What a judge is told: our own prompts, and prompts from files; knows nothing of who is asked.

The prompts here are our own, not those of the papers: absolute numbers depend on the prompt as much as on the judge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from mmduet.errors import OptionError
from mmduet.files import read_json

Messages = tuple[tuple[str, str], ...]  # (role, content), as in a chat
PLACEHOLDERS = ("question", "gold", "answer")
ROLES = ("system", "user", "assistant")
PLACEHOLDER = re.compile(r"\{(question|gold|answer)\}")
ASKED = "Question: {question}\nReference answer: {gold}\nAnswer to be graded: {answer}"

MAGQA = """\
You grade answers to questions about videos. You are given a question, a reference answer that a person wrote while \
watching one part of the video, and the answer of a system. Grade how well the system's answer conveys what the reference \
answer says. Wording, order and length do not matter; what the reference answer does not mention is neither rewarded nor \
punished unless it contradicts it.

5 - says all that the reference answer says, and nothing against it
4 - says nearly all of it; a detail is missing or slightly off
3 - says the main point or about half of it; much is missing or wrong
2 - says little of it, or says it in conflict with the reference answer
1 - says none of it, or does not answer the question

Reply with the grade alone: one digit from 1 to 5."""

PROACTIVE = """\
You check what a system has told a user so far about an event in a video. You are given the user's question, a reference \
answer, and everything that the system has said about it until now, joined into one text. Grade how much of the reference \
answer the user knows by now. Repetitions, wording, order and additional remarks do not matter.

3 - the user knows all that is essential in the reference answer
2 - the user knows a part of it; something essential is missing or wrong
1 - the user knows next to nothing of it, or has been told something else

Reply with the grade alone: one digit from 1 to 3."""


@dataclass(frozen=True)
class Prompt:
    """Messages with ``{question}``, ``{gold}`` and ``{answer}`` where those are to stand; ``name`` says whose they are."""

    name: str
    messages: Messages

    @classmethod
    def own(cls, instruction: str) -> Prompt:
        """One of ours: an instruction, then what is to be graded."""
        return cls("mmduet's own prompt", (("system", instruction), ("user", ASKED)))

    @classmethod
    def read(cls, path: Path) -> Prompt:
        """From a text file (one user message), or from a ``.json`` file: ``[{"role": ..., "content": ...}, ...]``.

        So a published prompt with examples can be used as it is. Raises ``OptionError`` where a placeholder is missing.
        """
        messages = _from_json(path) if path.suffix == ".json" else (("user", _text(path)),)
        named = {name for _, content in messages for name in PLACEHOLDER.findall(content)}
        if missing := [f"{{{name}}}" for name in PLACEHOLDERS if name not in named]:
            raise OptionError(f"{path} has no {' and no '.join(missing)}; write each where it is to stand")
        return cls(f"the prompt of {path.name}", messages)

    def fill(self, question: str, gold: str, answer: str) -> Messages:
        """The messages about one answer; braces in what is filled in are left alone."""
        values = {"question": question, "gold": gold, "answer": answer}
        return tuple((role, _filled(content, values)) for role, content in self.messages)

    def __str__(self) -> str:
        """Its name, and a number that changes with its words."""
        return f"{self.name} ({sha256(repr(self.messages).encode()).hexdigest()[:12]})"


def _filled(content: str, values: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda found: values[found[1]], content)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} cannot be read ({error}); give a text file with the prompt") from None


def _from_json(path: Path) -> Messages:
    rows: list[Any] = read_json(path, list)
    for row in rows:
        if not isinstance(row, dict) or row.get("role") not in ROLES or not isinstance(row.get("content"), str):
            raise OptionError(f"{path}: a message is {row!r}; it needs a role ({', '.join(ROLES)}) and a content")
    return tuple((row["role"], row["content"]) for row in rows)
