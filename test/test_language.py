"""Identifiers, comments, docstrings, messages and documents contain no word of ``forbidden_names.txt``."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIST = Path(__file__).with_name("forbidden_names.txt")
THIS = {"test/test_language.py", "test/forbidden_names.txt"}
CODE = sorted(path for folder in ("mmduet", "test", "scripts", "demo") for path in (ROOT / folder).rglob("*.py"))
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "datasets").glob("*.md"), ROOT / "Makefile"]
)


def read_list(section: str) -> list[str]:
    """Return the entries of one section of the list."""
    text = LIST.read_text(encoding="utf-8").partition(f"[{section}]\n")[2].partition("\n[")[0]
    return [line for line in text.splitlines() if line and not line.startswith("#")]


IDENTIFIERS = frozenset(read_list("identifiers"))
PHRASES = re.compile("|".join(f"(?:{phrase})" for phrase in read_list("phrases")))


def defined_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of every class, function, parameter, field, variable and alias that a file defines."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield getattr(node, "lineno", 0), name


def forbidden_identifiers(text: str) -> Iterator[str]:
    """Yield every definition of a forbidden name; leading underscores are ignored."""
    for line, name in defined_names(ast.parse(text)):
        if name.lstrip("_") in IDENTIFIERS:
            yield f"{line}: {name}"


def written_texts(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of every comment and string."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)):
            yield token.start[0], token.string


def fold(text: str) -> str:
    """Return a text on one line."""
    return re.sub(r"\s+#?\s*", " ", text)


def forbidden_phrases_of_code(text: str) -> Iterator[str]:
    """Yield every forbidden phrase in the comments and strings of a file.

    Most files have none anywhere, and need not be split into tokens, which takes long.
    """
    if PHRASES.search(fold(text)):
        for line, part in written_texts(text):
            yield from forbidden_phrases(line, part)


def forbidden_phrases(line: int, text: str) -> Iterator[str]:
    """Yield every forbidden phrase of a text with its context; a phrase may extend over two lines."""
    folded = fold(text)
    for match in PHRASES.finditer(folded):
        yield f"{line}: …{folded[max(0, match.start() - 30) : match.end() + 30]}…"


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_code_has_no_forbidden_identifier() -> None:
    found = [
        f"{label(path)}:{name}"
        for path in CODE
        if label(path) not in THIS
        for name in forbidden_identifiers(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_modules_have_no_forbidden_name() -> None:
    found = [label(path) for path in CODE if {path.stem.lstrip("_"), path.parent.name} & IDENTIFIERS]
    assert not found, "\n".join(found)


def test_comments_and_strings_have_no_forbidden_phrase() -> None:
    found = [
        f"{label(path)}:{phrase}"
        for path in CODE
        if label(path) not in THIS
        for phrase in forbidden_phrases_of_code(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_documents_have_no_forbidden_phrase() -> None:
    found = [
        f"{label(path)}:{phrase}"
        for path in DOCUMENTS
        for phrase in forbidden_phrases(0, path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "class House: pass",
        "def f(villains): pass",
        "narrator = 1",
        "self._narrator = 1",
        "import a as Picture",
        "def refuse_strangers(): pass",
    ],
)
def test_forbidden_identifier_is_detected(text: str) -> None:
    assert len(list(forbidden_identifiers(text))) == 1


@pytest.mark.parametrize(
    "text", ["# connect anew", "'8 bit is no width'", '"""An error\n    is told."""', "f'{x} videos at once are none'"]
)
def test_forbidden_phrase_is_detected(text: str) -> None:
    assert list(forbidden_phrases_of_code(text))


@pytest.mark.parametrize("text", ["there is no frame", "it is no longer open", "restart the server", "no more frames"])
def test_ordinary_english_is_accepted(text: str) -> None:
    assert not list(forbidden_phrases(1, text))
