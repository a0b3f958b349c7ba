"""Configures the server's log: JSON lines or plain text, both with the fields of ``log_events``."""

from __future__ import annotations

import json
import logging
import logging.config
from datetime import UTC, datetime
from typing import Any

from mmduet.redaction import redact_text

INVALID_REQUEST_MESSAGE = "Invalid HTTP request received."
"""Uvicorn logs this warning for every connection that is not HTTP, such as a port scan, which needs no attention."""


STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "event"}
"""Attributes of a record that are not the fields of its event."""


class PlainFormatter(logging.Formatter):
    """Format a record as its message and ``field=value``, without the credentials of URLs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        return redact_text(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the method of the base class
        """Return the line without a traceback."""
        fields = "".join(f" {name}={_plain_value(value)}" for name, value in _fields(record).items())
        return super().formatMessage(record) + fields


class JsonFormatter(logging.Formatter):
    """Format a record as JSON: ``time``, ``level``, ``logger``, ``event``, ``message``, its fields, and ``error``.

    ``event`` is absent if the line is not one of the server's own; ``error`` is a traceback.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **({"event": event} if (event := getattr(record, "event", None)) is not None else {}),
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        redacted = {name: redact_text(value) if isinstance(value, str) else value for name, value in line.items()}
        return json.dumps(redacted, ensure_ascii=False, default=str)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields of a record's event, passed to the logger as ``extra``."""
    return {name: value for name, value in vars(record).items() if name not in STANDARD_ATTRIBUTES}


def _plain_value(value: Any) -> str:
    """Return a field's value, in quotes if it could be mistaken for several fields."""
    text = json.dumps(value) if isinstance(value, bool) else str(value)
    return json.dumps(text, ensure_ascii=False) if not text or any(char in text for char in ' ="') else text


def is_worth_logging(record: logging.LogRecord) -> bool:
    """Return False for uvicorn's warning about a connection that is not HTTP."""
    return record.getMessage() != INVALID_REQUEST_MESSAGE


def configure_logging(level: str, *, as_json: bool) -> None:
    """Log to stderr from ``level`` upwards. Raises ``ValueError`` for an unknown level."""
    plain = {"()": PlainFormatter, "format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"lines": {"()": JsonFormatter} if as_json else plain},
            "filters": {"probes": {"()": lambda: is_worth_logging}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines", "filters": ["probes"]}},
            "root": {"handlers": ["stderr"], "level": level.upper()},
            "loggers": {
                "uvicorn": {"level": "WARNING"},  # at INFO it logs URLs with their query, which may hold secrets
                "httpx2": {"level": "WARNING"},  # likewise, for URLs that the server fetches
                "httpcore2": {"level": "WARNING"},
                "websockets": {"level": "WARNING"},
                "asyncio": {"level": "WARNING"},
            },
        }
    )
