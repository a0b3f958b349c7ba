"""Check the values of a model's description, which come from files, before modules are built from them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from mmduet.errors import CheckpointError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_LAYERS = 4096  # modules are built one by one
MAX_NUMBER = 2**31 - 1
EXPECTED = {"int": "a positive integer", "float": "a positive number", "str": "a text", "bool": "true or false"}


def check_fields(part: str, described: DataclassInstance, may_be_zero: Collection[str] = ()) -> None:
    """Raise ``CheckpointError`` unless numbers, texts and flags of a description have the types of their fields.

    Numbers must be positive and not absurdly large; fields named in ``may_be_zero`` may be 0. Other types are not checked.
    """
    for each in fields(described):
        value, kinds = getattr(described, each.name), str(each.type).split(" | ")
        if kinds[0] not in EXPECTED or (value is None and "None" in kinds):
            continue
        largest = MAX_LAYERS if each.name == "layers" else MAX_NUMBER
        if not _has_type(kinds[0], value) or not _is_in_range(value, each.name in may_be_zero, largest):
            raise CheckpointError(
                f"the description of the {part} has {each.name} {str(value)[:40]!r}, expected {EXPECTED[kinds[0]]}; "
                "check the configuration"
            )


def _has_type(kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return kind == "bool"
    return isinstance(value, {"int": int, "float": int | float, "str": str, "bool": bool}[kind])


def _is_in_range(value: Any, may_be_zero: bool, largest: int) -> bool:
    """Return whether a number is positive, or 0 where that is allowed, and at most ``largest``; other values always are."""
    if isinstance(value, bool | str):
        return True
    return bool(0 < value <= largest) or (may_be_zero and value == 0)
