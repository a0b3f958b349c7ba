"""Build the commands with a help that names the form of each option's value: ``N``, ``TEXT``, nothing for a flag."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import typer

VALUE_FORMS = {
    "int": "N",
    "int range": "N",
    "float": "NUMBER",
    "float range": "NUMBER",
    "str": "TEXT",
    "path": "FILE",
    "Path": "FILE",
}


def build_command(app: typer.Typer) -> Any:
    """Return the command of ``app`` for Click. Typer itself shows types of Python there, and ``<bool>`` for flags."""
    command = typer.main.get_command(app)
    for _, each in walk((), command, groups=True):
        context = each.context_class(each, info_name="mmduet")
        for parameter in each.get_params(context):
            form = _value_form(parameter, context)
            if parameter.param_type_name == "argument":
                parameter.display_type_rich = partial(_argument_form, "" if form in VALUE_FORMS.values() else form)
            elif parameter.metavar is None:
                parameter.metavar = "" if parameter.is_flag else form
    return command


def _value_form(parameter: Any, context: Any) -> str:
    """Return the form of a value; a choice's values as they are."""
    shown = str(parameter.display_type(context)).strip("<>")
    return VALUE_FORMS.get(shown.removeprefix("list[").removesuffix("]"), shown)


def _argument_form(form: str, ctx: object) -> str | None:
    """Return what is shown beside an argument, in place of Typer's method: the values of a choice."""
    return form or None


def walk(names: tuple[str, ...], command: Any, *, groups: bool = False) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the words and the definition of every command that can be run, in the order of ``--help``; also ``groups``."""
    children: dict[str, Any] = getattr(command, "commands", {})
    if groups or not children:
        yield names, command
    for name, child in children.items():
        yield from walk((*names, name), child, groups=groups)
