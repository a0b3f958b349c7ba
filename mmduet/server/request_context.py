"""Fields that every log line about the current request has, such as its client and key."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

_current: ContextVar[dict[str, Any] | None] = ContextVar("request_fields", default=None)


def begin_request(**fields: Any) -> Mapping[str, Any]:
    """Start the fields of a request in the current task; the returned mapping shows those that are added later."""
    current = dict(fields)
    _current.set(current)
    return current


def add_request_fields(**fields: Any) -> None:
    """Add fields to the current request; does nothing outside a request."""
    current = _current.get()
    if current is not None:
        current.update(fields)


def request_fields() -> Mapping[str, Any]:
    """Return the fields of the current request, which tasks that it starts have, too; empty outside a request."""
    return _current.get() or {}
