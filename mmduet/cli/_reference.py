"""Write the command line reference as Markdown, from the commands' own definitions."""

from __future__ import annotations

import inspect
from typing import Any

import typer

from mmduet.cli._help import build_command, walk

HEADER = """# Command line

Generated from the code (`make docs`). `mmduet COMMAND --help` prints the same.
"""


def render(app: typer.Typer) -> str:
    """Return the reference of every command of ``app``, sub-commands included."""
    sections = [HEADER]
    for names, command in walk((), build_command(app)):
        sections.append(render_command(names, command))
    return "\n".join(sections)


def render_command(names: tuple[str, ...], command: Any) -> str:
    """Return one command's section: usage, description, arguments and options."""
    context = command.context_class(command, info_name="mmduet")
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    usage = " ".join(["mmduet", *names, *map(argument_name, arguments), *(["[OPTIONS]"] if options else [])])
    lines = [f"## mmduet {' '.join(names)}", "", f"`{usage}`", "", inspect.cleandoc(command.help or "")]
    if arguments:
        lines += ["", "| Argument | Meaning |", "|---|---|"]
        lines += [f"| `{argument_name(each)}` | {cell(each.help)} |" for each in arguments]
    if options:
        lines += ["", "| Option | Meaning | Default |", "|---|---|---|"]
        lines += [f"| {option_name(each, context)} | {cell(each.help)} | {default_of(each)} |" for each in options]
    return "\n".join(lines) + "\n"


def argument_name(argument: Any) -> str:
    """Return an argument's name as the usage shows it."""
    name = (argument.metavar or argument.name.upper()).strip("{}")
    return f"{name}..." if argument.nargs != 1 else str(name)


def option_name(option: Any, context: Any) -> str:
    """Return an option's flags and the form of its value."""
    flags = " / ".join(f"`{flag}`" for flag in [*option.opts, *option.secondary_opts])
    if option.is_flag:
        return flags
    value = option.metavar or option.display_type(context).strip("<>")
    return f"{flags} `{value}`".replace("|", "\\|")


def default_of(option: Any) -> str:
    """Return an option's default as words, empty where it has none."""
    if option.required:
        return "required"
    if isinstance(option.show_default, str):
        return cell(option.show_default)
    default = option.default() if callable(option.default) else option.default
    if option.is_flag and option.secondary_opts:
        return f"`{(option.opts if default else option.secondary_opts)[0]}`"
    if default is None or default == [] or default == () or option.is_flag:
        return ""
    return f"`{default}`"


def cell(text: str | None) -> str:
    """Return a text as a table's cell."""
    return " ".join((text or "").split()).replace("\\[", "[").replace("|", "\\|")
