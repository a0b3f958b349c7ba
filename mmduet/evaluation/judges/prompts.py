"""Prompts for judges: built-in instructions, and prompts from files.

The built-in instructions are mmduet's own, not those of the papers. Absolute numbers depend on the prompt and on the judge.
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

Messages = tuple[tuple[str, str], ...]
"""The messages of a chat, as pairs of role and content."""

PLACEHOLDERS = ("question", "gold", "answer")
ROLES = ("system", "user", "assistant")
PLACEHOLDER_PATTERN = re.compile(r"\{(question|gold|answer)\}")
REQUEST_TEMPLATE = "Question: {question}\nReference answer: {gold}\nAnswer to be graded: {answer}"

# Keep the texts as they are: cached replies are found by the hash of the messages.
MAGQA_INSTRUCTION = """\
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

PROACTIVE_INSTRUCTION = """\
You check what a system has told a user so far about an event in a video. You are given the user's question, a reference \
answer, and everything that the system has said about it until now, joined into one text. Grade how much of the reference \
answer the user knows by now. Repetitions, wording, order and additional remarks do not matter.

3 - the user knows all that is essential in the reference answer
2 - the user knows a part of it; something essential is missing or wrong
1 - the user knows next to nothing of it, or has been \
told something else

Reply with the grade alone: one digit from 1 to 3."""


@dataclass(frozen=True)
class Prompt:
    """Messages with the placeholders ``{question}``, ``{gold}`` and ``{answer}``; ``name`` describes their source."""

    name: str
    messages: Messages

    @classmethod
    def from_instruction(cls, instruction: str) -> Prompt:
        """Build a prompt of an instruction as system message and the texts to grade as user message."""
        return cls("mmduet's own prompt", (("system", instruction), ("user", REQUEST_TEMPLATE)))

    @classmethod
    def from_file(cls, path: Path) -> Prompt:
        """Read a text file (one user message) or a ``.json`` file (``[{"role": ..., "content": ...}, ...]``).

        Published prompts, with examples, can be used unchanged. Raises ``OptionError`` for a missing placeholder.
        """
        messages = _read_messages(path) if path.suffix == ".json" else (("user", _read_text(path)),)
        present = {name for _, content in messages for name in PLACEHOLDER_PATTERN.findall(content)}
        if missing := [f"{{{name}}}" for name in PLACEHOLDERS if name not in present]:
            raise OptionError(f"{path} lacks the placeholders {', '.join(missing)}; add each where its text belongs")
        return cls(f"the prompt of {path.name}", messages)

    def fill(self, question: str, gold: str, answer: str) -> Messages:
        """Return the messages with the texts in place of the placeholders; braces within the texts are kept."""
        values = {"question": question, "gold": gold, "answer": answer}
        return tuple((role, _substitute(content, values)) for role, content in self.messages)

    def __str__(self) -> str:
        """Return the name, and a hash of the messages."""
        return f"{self.name} ({sha256(repr(self.messages).encode()).hexdigest()[:12]})"


def _substitute(content: str, values: Mapping[str, str]) -> str:
    return PLACEHOLDER_PATTERN.sub(lambda match: values[match[1]], content)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} cannot be read ({error}); give a text file with the prompt") from None


def _read_messages(path: Path) -> Messages:
    rows: list[Any] = read_json(path, list)
    for row in rows:
        if not isinstance(row, dict) or row.get("role") not in ROLES or not isinstance(row.get("content"), str):
            raise OptionError(f"{path}: message {row!r} needs a role ({', '.join(ROLES)}) and a content (a text)")
    return tuple((row["role"], row["content"]) for row in rows)
