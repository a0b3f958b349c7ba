"""Commands whose options are the fields of a frozen dataclass: one definition of names, types, defaults and help texts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from inspect import get_annotations
from typing import Annotated, Any, TypeVar, get_type_hints

from typer import Option

Options = TypeVar("Options")
StrictVideo = Annotated[
    bool, Option("--strict-video", help="Treat damage in a video as an error instead of skipping damaged frames.")
]


def takes_options(options: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Return a decorator that turns a function of one ``options`` object into a command for typer.

    Each field of the dataclass ``options`` becomes a parameter of the command. Its annotation is
    ``Annotated[type, typer.Argument(...)]`` or ``Annotated[type, typer.Option(...)]``, its default is that of the parameter.
    ``--help`` lists the fields of a class before those that it inherits.
    """
    hints = get_type_hints(options, include_extras=True)
    parameters = [_to_parameter(field, hints[field.name]) for field in _in_display_order(options)]

    def decorate(function: Callable[[Options], None]) -> Callable[..., None]:
        def command(**values: Any) -> None:
            function(options(**values))

        command.__name__, command.__doc__, command.__module__ = function.__name__, function.__doc__, function.__module__
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
        return command

    return decorate


def _in_display_order(options: type[Any]) -> list[Field[Any]]:
    """Return the fields in the order of the classes that define them, the most specific class first."""
    by_name = {field.name: field for field in fields(options)}
    names = [name for each in options.__mro__ for name in get_annotations(each) if name in by_name]
    return [by_name[name] for name in dict.fromkeys(names)]


def _to_parameter(field: Field[Any], annotation: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
