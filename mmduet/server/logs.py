"""How a server writes its log: one JSON object a line, or plain lines; ids of sessions, never frames, texts or keys."""

from __future__ import annotations

import json
import logging
import logging.config
from datetime import UTC, datetime

DENIED_BUT_LOGGED = "ASGI callable returned without completing handshake."
"""What uvicorn says of every handshake that was answered with a refusal, which is no fault."""


class JsonLines(logging.Formatter):
    """``{"time": …, "level": …, "logger": …, "message": …}``, and ``error`` with the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def not_a_denial(record: logging.LogRecord) -> bool:
    """Whether a record is more than uvicorn's complaint of a handshake that we refused."""
    return record.getMessage() != DENIED_BUT_LOGGED


def set_up_logs(level: str, *, as_json: bool) -> None:
    """Log to stderr from ``level`` up. Raises ``ValueError`` for a level that there is not."""
    plain = {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"lines": {"()": JsonLines} if as_json else plain},
            "filters": {"denials": {"()": lambda: not_a_denial}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines", "filters": ["denials"]}},
            "root": {"handlers": ["stderr"], "level": level.upper()},
            "loggers": {
                "uvicorn": {"level": "WARNING"},  # it writes addresses with their query
                "httpx2": {"level": "WARNING"},  # so does it, of what is fetched
                "httpcore2": {"level": "WARNING"},
                "websockets": {"level": "WARNING"},
                "asyncio": {"level": "WARNING"},
            },
        }
    )
