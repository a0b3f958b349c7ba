"""Describe what is wrong with a recipe: the key, what was expected, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mmduet.text import did_you_mean, shorten, to_printable
from mmduet.training.recipe import Recipe
from mmduet.training.recipe_yaml import KeyPath

EXPECTED = {
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "tuple_type": "a list",
    "string_type": "a text (put it in quotes)",
    "string_too_short": "a text that is not empty",
    "path_type": "a path",
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_type": "an integer",
    "bool_type": "true or false",
    "greater_than": "above {gt:.10g}",
    "greater_than_equal": "at least {ge:.10g}",
    "less_than": "below {lt:.10g}",
    "less_than_equal": "at most {le:.10g}",
    "too_short": "a list with at least one entry",
}
"""What was expected, by pydantic's type of error; in braces, values of the error's context."""


@dataclass(frozen=True)
class RecipeProblem:
    """The first problem of a recipe: the path of its key (empty: the whole recipe) and a sentence without the file's name."""

    path: KeyPath
    message: str


@dataclass(frozen=True)
class Location:
    """The place of an error: the path of its key, the section that has the key, and the sections that its value may be."""

    path: KeyPath
    section: type[BaseModel]
    values: tuple[type[BaseModel], ...]

    @classmethod
    def follow(cls, location: Sequence[int | str]) -> Location:
        """Follow pydantic's ``location`` through the schema; it contains the kind of a method after ``method``."""
        path: KeyPath = ()
        section: type[BaseModel] = Recipe
        values: tuple[type[BaseModel], ...] = (Recipe,)
        for part in location:
            if len(values) > 1:
                values = tuple(value for value in values if value.model_fields["kind"].default == part)
                continue
            if isinstance(part, str) and values:
                section = values[0]
                field = section.model_fields.get(part)
                values = () if field is None else tuple(_sections_in(field.annotation))
            path = (*path, str(part))
        return cls(path, section, values)

    @property
    def dotted(self) -> str:
        """The path as it is written in overrides: ``optimization.learning_rate``."""
        return shorten(to_printable(".".join(self.path)))

    @property
    def accepts_null(self) -> bool:
        """Whether the key's value may be null."""
        field = self.section.model_fields.get(self.path[-1]) if self.path else None
        return field is not None and NoneType in get_args(field.annotation)


def describe_problem(error: ValidationError) -> RecipeProblem:
    """Return the first problem; unknown keys come first, because a misspelt key may be missing elsewhere."""
    problems = _without_consequences(error.errors(include_url=False))
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    location = Location.follow(first["loc"])
    more = "" if len(problems) == 1 else f" ({len(problems) - 1} more after this one)"
    path = (*location.path, "kind") if first["type"].startswith("union_tag") else location.path
    return RecipeProblem(path, _describe(first, location) + more)


def _without_consequences(problems: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Return the problems without those of lists that are too short only because pydantic does not count invalid entries."""
    return [problem for problem in problems if problem["type"] != "too_short" or not problem["input"]]


def _describe(problem: ErrorDetails, location: Location) -> str:
    context, value = problem.get("ctx", {}), problem["input"]
    match problem["type"]:
        case "extra_forbidden":
            return _describe_unknown_key(location)
        case "missing":
            return f"{location.dotted} is missing; add it ({_describe_field(location)})"
        case "value_error":
            return ": ".join(part for part in (location.dotted, str(context["error"])) if part)
        case "union_tag_not_found":
            return f"{location.dotted}.kind is missing; set it to {_list_kinds(location)}"
        case "union_tag_invalid":
            return f"{location.dotted}.kind must be {_list_kinds(location)}, got {_format_value(value['kind'])}"
    null = " or null" if location.accepts_null else ""
    return f"{location.dotted or 'a recipe'} must be {_expected(problem)}{null}, got {_format_value(value)}"


def _expected(problem: ErrorDetails) -> str:
    context = problem.get("ctx", {})
    if problem["type"] == "literal_error":
        return str(context["expected"]).replace("'", "")
    if problem["type"] in EXPECTED:
        return EXPECTED[problem["type"]].format(**context)
    return problem["msg"].removeprefix("Input should be ").removeprefix("Value should be ")


def _describe_unknown_key(location: Location) -> str:
    *parent, key = location.path
    fields = location.section.model_fields
    suggestion = did_you_mean(key, fields, "".join(f"{part}." for part in parent))
    kind = fields["kind"].default if "kind" in fields else None
    owner = ".".join(parent) or "a recipe"
    owner += f" of kind {kind}" if isinstance(kind, str) else ""
    return f"unknown key {location.dotted}{suggestion} the keys of {owner} are {', '.join(fields)}"


def _describe_field(location: Location) -> str:
    return (location.section.model_fields[location.path[-1]].description or "").rstrip(".").replace("`", "")


def _list_kinds(location: Location) -> str:
    *kinds, last = (str(value.model_fields["kind"].default) for value in location.values)
    return f"{', '.join(kinds)} or {last}"


def _format_value(value: Any) -> str:
    """Return a value as it is written in YAML; of a collection only its type, because it may be large."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list" if value else "an empty list"
        case int() if abs(value) >= 10**20:
            return "an integer of more than 20 digits"
        case _:
            return shorten(repr(value))


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections that a field can hold: itself one, a list of them, or one of several."""
    if arguments := get_args(annotation):
        return [section for argument in arguments for section in _sections_in(argument)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
