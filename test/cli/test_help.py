"""``--help`` of every command: forms of values that readers know, and a sentence for every option."""

from __future__ import annotations

import re
from typing import Any

import pytest
from command_line import Command

from mmduet.cli._help import build_command, walk
from mmduet.cli.main import app

COMMANDS = dict(walk((), build_command(app)))
PYTHON_TYPES = re.compile(r"<\w+>|\b(bool|int|str|float|path)\b(?! \()")
MIN_WORDS = 3


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_every_option_has_a_sentence_and_no_type_of_python(names: tuple[str, ...], mmduet: Command) -> None:
    command: Any = COMMANDS[names]
    context = command.context_class(command, info_name="mmduet")
    assert command.help
    for parameter in command.get_params(context):
        text = parameter.help or ""
        assert text[-1:] == "." or parameter.name == "help", f"{parameter.name}: {text!r}"
        assert len(text.split()) >= MIN_WORDS or parameter.param_type_name == "argument", f"{parameter.name}: {text!r}"
        assert text[:1].isupper() or ": " in text, f"{parameter.name}: {text!r}"
        assert not re.match(r"(In|Of|At|From|By)\b", text), f"{parameter.name}: {text!r}"
        if parameter.param_type_name == "option":
            form = parameter.display_type_rich(context)
            assert (form == "") == bool(parameter.is_flag), f"{parameter.name}: {form!r}"
            assert not PYTHON_TYPES.search(form), f"{parameter.name}: {form!r}"


@pytest.mark.parametrize("names", [("run",), ("serve",), ("scenes", "make")], ids=" ".join)
def test_the_printed_help_has_no_type_of_python(names: tuple[str, ...], mmduet: Command) -> None:
    done = mmduet(*names, "--help")
    assert done.status == 0
    assert not re.search(r"<(bool|int|str|float|path)", done.out)
