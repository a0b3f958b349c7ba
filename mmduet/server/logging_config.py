"""Configures the server's log: JSON lines or plain text, with session ids but never frames, texts or keys."""

from __future__ import annotations

import json
import logging
import logging.config
from datetime import UTC, datetime

from mmduet.redaction import redact_text

INVALID_REQUEST_MESSAGE = "Invalid HTTP request received."
"""Uvicorn logs this warning for every connection that is not HTTP, such as a port scan, which needs no attention."""


class PlainFormatter(logging.Formatter):
    """Format a record as text, without the credentials of URLs in messages and tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        return redact_text(super().format(record))


class JsonFormatter(logging.Formatter):
    """Format a record as JSON: ``time``, ``level``, ``logger``, ``message``, and ``error`` for a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps({key: redact_text(text) for key, text in line.items()}, ensure_ascii=False)


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
